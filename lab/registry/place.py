"""Put a software on another node than the one its entry names [pure].

Pod-level software stands in a pod's namespace; with host networking the same rules stand in the
node's. The flows, the points and the addresses move with the rules.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lab.errors import UsageError
from lab.points import Point
from lab.registry.software import Software
from lab.traffic.flow import Expectation, Flow


def place(software: Software, node: str) -> Software:
    """Return the entry with everything that stands in a pod moved to ``node``.

    Raises UsageError where the entry does not stand in exactly one pod.
    """
    homes = sorted({ruleset.node for ruleset in software.rulesets} - {"node"})
    if len(homes) != 1:
        where = ", ".join(homes) or "node"
        raise UsageError(
            f"{software.title} cannot be placed on {node!r}: it stands on {where}; "
            "expected an entry whose rules stand in one pod"
        )
    home = homes[0]
    return replace(
        software,
        rulesets=tuple(
            replace(r, node=_moved(r.node, home, node), text=_named(r.text, home, node))
            for r in software.rulesets
        ),
        flows=tuple(_flow(flow, home, node) for flow in software.flows),
        facts=tuple(
            (n, _named(a, home, node), _named(b, home, node)) for n, a, b in software.facts
        ),
    )


def _flow(flow: Flow, home: str, node: str) -> Flow:
    return replace(
        flow,
        sender=_moved(flow.sender, home, node),
        answered_by=_moved(flow.answered_by, home, node),
        listens=_moved(flow.listens, home, node),
        to=_named(flow.to, home, node),
        seen_from=_named(flow.seen_from, home, node),
        source_address=_named(flow.source_address, home, node),
        expectations=tuple(_expectation(e, home, node) for e in flow.expectations),
    )


def _expectation(expectation: Expectation, home: str, node: str) -> Expectation:
    point = expectation.point
    moved = Point(_moved(point.node, home, node), point.hook, point.priority, point.device)
    return replace(expectation, point=moved)


def _moved(name: str, home: str, node: str) -> str:
    return node if name == home else name


def _named(text: str, home: str, node: str) -> str:
    return re.sub(rf"(\{{\{{ *){re.escape(home)}\.ip\b", rf"\g<1>{node}.ip", text)
