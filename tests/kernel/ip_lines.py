"""What lines leave in a worker's sandbox: sent as requests, and given to ip or ipset itself."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest

from lab.errors import RuleRefused
from lab.kernel import command
from lab.kernel.netns import Netns, assert_not
from lab.kernel.route import Lookup
from lab.kernel.sandbox import Sandbox
from lab.rules import requests
from lab.runner import bench as benches
from lab.scenario import Experiment

LOOKS = (
    *(
        ("ip", "-d", family, *words)
        for family in ("-4", "-6")
        for words in (("rule",), ("route", "show", "table", "all"))
    ),
    ("ip", "-d", "link"),
    ("ip", "-o", "address"),
    ("ip", "neighbour", "show", "nud", "permanent"),
    *(
        ("tc", "filter", "show", "dev", device, side)
        for device in ("eth0", "eth1", "antrea-gw0", "ovs-gw0", "ovs-mp0", "ovs-tun0")
        for side in ("ingress", "egress")
    ),
    ("tc", "qdisc"),
    ("ipset", "save"),
    ("ipset", "list", "-terse"),
)
_BY_CHANCE = re.compile(
    r"\blink/ether \S+|\blink-netnsid \d+|\bstate [A-Z]+|,?LOWER_UP|,?NO-CARRIER|_timer +\S+"
    r"|\btentative\b|\b(?:designated_root|bridge_id|designated_bridge) \S+|\binitval \S+"
    r"|^Size in memory: .*"
)
"""Addresses and seeds that the kernel draws, how far a device is up, and clocks."""
_SORTED = {"route", "neighbour", "save"}
Seen = dict[str, list[str]]


def both_ways(place: Sandbox, experiment: Experiment) -> tuple[Seen, Seen]:
    """Install once as it is done, once by programs alone; return what there is to see after each.

    The programs come first: of them is learned what else has to be sent.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "send", lambda *_: 0)
        given = _seen(place, experiment)
    return _seen(place, experiment), given


def started(place: Sandbox, experiment: Experiment) -> set[str]:
    """Name the programs that are given any lines."""
    found: set[str] = set()

    def run(arguments: tuple[str, ...], text: str = "") -> command.Result:
        found.update(arguments[:1] if text else ())
        return original(arguments, text)

    original = command.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run", run)
        _seen(place, experiment)
    return found


def done(place: Sandbox, lines: list[str]) -> int:
    """Send lines in a namespace of their own; return how many are done."""
    made = Netns.create("lines")
    try:
        assert_not(place.outside)
        return requests.send("ip", lines, "ipv4")
    finally:
        place.home.enter()
        made.close()


def _seen(place: Sandbox, experiment: Experiment) -> Seen:
    refused = ""
    with ExitStack() as stack:
        bench = benches.set_up(experiment, place, stack)
        try:
            benches.install(bench)
        except RuleRefused as problem:
            refused = str(problem)
        seen = {"refused": [refused]}
        for node in bench.nodes.ruled:
            with bench.network.namespaces[node].inside(place.home):
                seen |= {f"{node}: {' '.join(look)}": _lines(look) for look in LOOKS}
    return seen


def _lines(look: tuple[str, ...]) -> list[str]:
    """Rules and devices in their order; what the kernel lists in none, in one of their own."""
    lines = command.run(look).output.splitlines()
    seen = [_BY_CHANCE.sub("", line) for line in lines if not _made_later(line, look)]
    return seen if _SORTED.isdisjoint(look) else sorted(seen)


def _made_later(line: str, look: tuple[str, ...]) -> bool:
    """Tell whether the kernel makes it in its own time, from a work queue: addresses' routes."""
    of_address = "-6" in look and " proto kernel " in line
    return of_address or "fe80:" in line or "ff00::/8" in line


def delivered(place: Sandbox, experiment: Experiment) -> list[bool]:
    """Tell, again and again, whether an address is usable as soon as it has been installed."""
    found = []
    for _ in range(20):
        with ExitStack() as stack:
            bench = benches.set_up(experiment, place, stack)
            benches.install(bench)
            answer = bench.network.routers["node"].look_up(Lookup("", "fd00:9::1", 0))
            found.append(answer.local)
    return found
