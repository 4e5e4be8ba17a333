"""Whose bits are on a packet: the last writer, through saves, restores and sockets."""

from __future__ import annotations

from dataclasses import replace

from test_verdicts import (
    BEFORE,
    CLEARS,
    DROPS,
    OTHER,
    OWNER,
    POLICY,
    SETS,
    TESTS,
    hit,
    line,
    read,
    run,
    wrote,
)

from lab.native.rule import Rule
from lab.points import Point
from lab.record import Timeline
from lab.verdict.provenance import false_matches, in_time


def matches(*lines: Timeline) -> list[str]:
    """List who wrote the bits that a rule of another matched."""
    made = run(*lines)
    return [c.writer for c, _ in false_matches(made, made.flows[0])]


def test_a_bit_belongs_to_its_last_writer() -> None:
    """The other's rule may match what its own software wrote last."""
    both = Rule(OTHER.title, "iptables", "filter", "FORWARD", CLEARS.written)
    assert both.software == TESTS.software
    own = wrote(CLEARS, 0, 0x40)
    assert matches(line(read(BEFORE, 0), own, hit(TESTS, 0x40))) == []


def test_a_rule_that_sets_a_bit_again_owns_it_from_then_on() -> None:
    """``--set-xmark 0x40/0xf0`` on 0x40 changes nothing, yet the mark is meant."""
    sets_too = replace(CLEARS, written="-A FORWARD -j MARK --set-xmark 0x40/0xf0")
    made = run(line(read(BEFORE, 0), wrote(SETS, 0, 0x40), hit(CLEARS, 0x40), hit(TESTS, 0x40)))
    made = replace(made, rules=(SETS, sets_too, DROPS, POLICY, TESTS))
    assert list(false_matches(made, made.flows[0])) == []


def test_bits_nobody_was_seen_to_write_accuse_nobody() -> None:
    """tc, BPF and the kernel leave no name."""
    assert matches(line(read(BEFORE, 0), wrote(None, 0, 0x40), hit(TESTS, 0x40))) == []


def test_a_restored_bit_belongs_to_who_saved_it() -> None:
    """Provenance goes through the conntrack mark, from one packet to the next."""
    saves = replace(CLEARS, written="-A OUTPUT -j CONNMARK --save-mark")
    restores = replace(DROPS, written="-A PREROUTING -j CONNMARK --restore-mark")
    first = line(read(BEFORE, 0), wrote(SETS, 0, 0x40), wrote(CLEARS, 0, 0x40, "ctmark"))
    second = line(read(BEFORE, 0), wrote(DROPS, 0, 0x40), hit(TESTS, 0x40), ordinal=1)
    made = run(first, second)
    made = replace(made, rules=(SETS, saves, restores, POLICY, TESTS))
    ((found, _),) = false_matches(made, made.flows[0])
    assert found.writer.startswith(OWNER.title)


def test_a_new_namespace_starts_with_a_clean_packet() -> None:
    """What was written elsewhere is gone with the mark."""
    pod = Point("pod", "prerouting", -450)
    assert matches(line(read(BEFORE, 0), wrote(SETS, 0, 0x40), read(pod, 0), hit(TESTS, 0))) == []


def test_the_mark_of_a_socket_belongs_to_the_flows_owner() -> None:
    """SO_MARK is on the packet from the start."""
    start = read(Point("node", "output", -450), 0x40)
    (writer,) = matches(line(start, hit(TESTS, 0x40)))
    assert writer == f"the socket of {OWNER.title} (SO_MARK)"


def test_requests_and_replies_alternate_in_time() -> None:
    """As they were sent."""
    lines = [line(ordinal=1), line(ordinal=0, direction="reply"), line(ordinal=0)]
    assert [(t.ordinal, t.direction) for t in in_time(lines)] == [
        (0, "request"),
        (0, "reply"),
        (1, "request"),
    ]
