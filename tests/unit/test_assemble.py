"""Who wrote the connection's mark between two readings: every rule its share."""

from __future__ import annotations

import pytest

from lab.native.rule import Rule
from lab.observe.assemble import Lookups, events
from lab.observe.nftrace import Headers, Message
from lab.observe.passes import Pass
from lab.observe.probes import Noted
from lab.points import Point
from lab.record import Write

HEADERS = Headers(b"packet", "a", "b", 1)
FIRST, SECOND = Point("node", "prerouting", -151), Point("node", "prerouting", -149)


def rule(name: str, text: str) -> Rule:
    """Make a rule of one software."""
    return Rule(name, "iptables", "mangle", "PREROUTING", f"-A PREROUTING {text}")


def message(handle: int, mark: int) -> Message:
    """Make the trace message of a match; the mark is the one behind the rule."""
    return Message("rule", 2, "mangle", "PREROUTING", handle, mark, "continue", 0, 0)


def shares(rules: list[Rule], marks: list[int], after: int) -> list[tuple[str, int, int]]:
    """List the writes to a ctmark of 0 that was read as ``after`` behind the rules."""
    noted: dict[Noted, int | None] = {
        (id(FIRST), HEADERS.packet, marks[0], False): 0,
        (id(SECOND), HEADERS.packet, marks[-1], False): after,
    }
    lookups = Lookups(
        "node",
        rules,
        noted,
        lambda family, table, chain, handle: handle - 1,
        lambda table, chain, position: None,
    )
    matched = [message(number, mark) for number, mark in enumerate(marks, 1)]
    passes = [
        Pass(HEADERS, "prerouting", -151, FIRST, [message(0, marks[0])]),
        Pass(HEADERS, "prerouting", -150, None, matched),
        Pass(HEADERS, "prerouting", -149, SECOND, [message(0, marks[-1])]),
    ]
    return [
        (rules[e.rule].software, e.before, e.after)
        for e in events(passes, lookups)
        if isinstance(e, Write) and e.field == "ctmark" and e.rule is not None
    ]


SETS = rule("antrea", "-j CONNMARK --set-mark 0x40000000/0x40000000")
SAVES = rule("mwan3", "-j CONNMARK --save-mark --nfmask 0x3f00 --ctmask 0x3f00")
NATIVE = rule("sing-tun", "meta mark set 0x2023 ct mark set meta mark")
OPAQUE = rule("hash", "ct mark set jhash ip saddr mod 16")


@pytest.mark.parametrize(
    ("rules", "marks", "after", "expected"),
    [
        (
            [SETS, SAVES],
            [0x101, 0x101],
            0x40000100,
            [("antrea", 0, 0x40000000), ("mwan3", 0x40000000, 0x40000100)],
        ),
        ([SAVES, NATIVE], [0x100, 0x2023], 0x2023, [("mwan3", 0, 0x100), ("sing-tun", 256, 8227)]),
        ([SETS, SAVES], [0, 0], 0x40000000, [("antrea", 0, 0x40000000)]),
        ([SETS, OPAQUE], [0, 0], 0x7, [("hash", 0, 0x7)]),
        ([SETS, SAVES], [0, 0], 0x80000000, [("mwan3", 0, 0x80000000)]),
    ],
    ids=["both", "copied-after-set", "one-changed-nothing", "unreadable", "does-not-add-up"],
)
def test_each_rule_gets_its_share(
    rules: list[Rule], marks: list[int], after: int, expected: list[tuple[str, int, int]]
) -> None:
    """Computed from its text; where that cannot be, the last rule that matched gets it all."""
    assert shares(rules, marks, after) == expected
