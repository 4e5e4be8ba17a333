"""A small program that uses some bits as it should, to be tried beside others [pure]."""

from __future__ import annotations

from lab.marks import WORD, Mark
from lab.points import Point
from lab.registry.software import Allocation, Ruleset, Software, Value
from lab.traffic.flow import Expectation, Flow

NAME = "newcomer"
_FORWARDED, _LOCAL = 5771, 5772
_POLICY = """
route add {{{{ peer.ip }}}} dev {{{{ peer.dev }}}} table 5770
rule add pref 5 fwmark {mark} lookup 5770
"""
_RETURN = "route add {{ peer.ip }} via {{ node.ip }}"


def newcomer(mask: int) -> Software:
    """Return an entry that marks, saves, restores and routes by ``mask``, and nothing else.

    The mark is set at mangle prerouting and output under the mask and kept in the connection; the
    policy rule leads to the only route to the peer, so that a lost mark is a lost packet. Chains of
    its own, just before mangle, keep it out of reach of others' ACCEPT in a shared chain.
    """
    mark = Mark(mask, mask)
    value = (Value("routed", mark),)
    return Software(
        name=NAME,
        release="1",
        mode="bits",
        style="bitwise",
        summary=f"a program that uses {mask:#x} as it should",
        source="fwmark-lab bits --prove",
        allocations=(Allocation("mark", mask, value), Allocation("ctmark", mask, value)),
        rulesets=(
            Ruleset("nft", _rules(mask)),
            Ruleset("ip", _POLICY.format(mark=f"{mask:#x}/{mask:#x}")),
            Ruleset("ip", _RETURN, node="client"),
        ),
        flows=(_forwarded(mark), _from_node(mark)),
    )


def _rules(mask: int) -> str:
    chains = (("prerouting", "filter", _FORWARDED), ("output", "route", _LOCAL))
    return "\n".join(
        ["table inet newcomer {", *(line for chain in chains for line in _chain(mask, *chain)), "}"]
    )


def _chain(mask: int, hook: str, kind: str, port: int) -> list[str]:
    bits = [1 << position for position in range(32) if mask >> position & 1]
    return [
        f"  chain {hook} {{",
        f"    type {kind} hook {hook} priority mangle - 10; policy accept;",
        *(line for bit in bits for line in _copied("meta mark", "ct mark", bit)),
        f"    udp dport {port} meta mark & {mask:#x} == 0 meta mark set meta mark | {mask:#x}",
        *(line for bit in bits for line in _copied("ct mark", "meta mark", bit)),
        "  }",
    ]


def _copied(to: str, source: str, bit: int) -> tuple[str, str]:
    """Copy one bit and keep the others: the rules that nft needs for a masked save or restore."""
    return (
        f"    {source} & {bit:#x} == 0 {to} set {to} & {WORD & ~bit:#x}",
        f"    {source} & {bit:#x} == {bit:#x} {to} set {to} | {bit:#x}",
    )


def _forwarded(mark: Mark) -> Flow:
    at = Point.parse("node forward filter - 1")
    return Flow(
        name="forwarded",
        sender="client",
        to="{{ peer.ip }}",
        port=_FORWARDED,
        answered_by="peer",
        summary="A forwarded connection that the mark routes",
        expectations=(
            Expectation(at, "mark", mark),
            Expectation(at, "ctmark", mark),
            Expectation(at, "mark", mark, "reply"),
        ),
    )


def _from_node(mark: Mark) -> Flow:
    return Flow(
        name="from-node",
        sender="node",
        to="{{ peer.ip }}",
        port=_LOCAL,
        answered_by="peer",
        source_address="{{ node.ip }}",
        summary="The node's own connection that the mark routes",
        expectations=(
            Expectation(Point.parse("node postrouting filter"), "mark", mark),
            Expectation(Point.parse("node input filter - 1"), "mark", mark, "reply"),
        ),
    )
