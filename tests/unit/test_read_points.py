"""Where marks are read on a node, and what they are where they are not read."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import BEFORE, PING, runs, software

from lab.marks import Mark
from lab.native.iptables_text import BUILTIN
from lab.native.stages import XTABLES
from lab.observe.places import points
from lab.points import COMES_IN, HOOKS, Point
from lab.record import Dropped, Timeline
from lab.registry.software import Ruleset, Software
from lab.traffic.flow import Expectation

CHAINS = [(table, chain) for table, chains in BUILTIN.items() for chain in chains]
LOOKED_AT = st.builds(
    Point, st.just("node"), st.sampled_from(HOOKS[1:-1]), st.integers(-440, 390)
)  # fmt: skip


def with_rules(text: str, *wanted: Point, tool: str = "iptables") -> Software:
    """Make software of one ruleset, whose flow is looked at in some places."""
    expectations = tuple(Expectation(point, "mark", Mark(1, 1)) for point in wanted)
    flow = replace(PING, expectations=expectations)
    return replace(software("x", flow), rulesets=(Ruleset(tool, text, file="x"),))


def in_chains(chains: set[tuple[str, str]]) -> str:
    """Write one rule for each of these chains."""
    return "\n".join(f"*{table}\n-A {chain} -j ACCEPT\nCOMMIT" for table, chain in sorted(chains))


def read(*software: Software) -> dict[str, list[int]]:
    """Return the priorities that are read, hook by hook."""
    found: dict[str, list[int]] = {}
    for point in points("node", software):
        found.setdefault(point.hook, []).append(point.priority)
    return found


def test_without_rules_every_hook_is_read_once() -> None:
    """Where packets come in, they are before anything could happen to them."""
    first, last = -450, 400
    assert read() == {h: [first if h in COMES_IN else last] for h in HOOKS[1:-1]}


def test_an_empty_table_does_nothing_to_a_packet() -> None:
    """Its policy does, if it drops."""
    assert read(with_rules("*mangle\n:FORWARD ACCEPT\nCOMMIT")) == read()
    dropping = read(with_rules("*mangle\n:FORWARD DROP\nCOMMIT"))
    assert dropping == read() | {"forward": [-149]}


@pytest.mark.parametrize(("tool", "text"), [("iptables", "-A FORWARD"), ("ip", "rule add pref 1")])
def test_what_is_no_table_has_no_stage(tool: str, text: str) -> None:
    """Software beside which another is run alone may be wrong: that is said where it is run."""
    assert read(with_rules(text, tool=tool)) == read()


def test_the_ctmark_is_read_before_it_is_written() -> None:
    """Then nothing stands before the first reading, which is the only one before mangle."""
    text = "*mangle\n-A PREROUTING -j CONNMARK --restore-mark\nCOMMIT"
    assert read(with_rules(text)) == read() | {"prerouting": [-199, -149], "output": [-199]}
    before = "*raw\n-A PREROUTING -j CT --notrack\nCOMMIT\n" + text
    assert read(with_rules(before))["prerouting"] == [-450, -299, -199, -149]


def test_nft_nat_chains_are_called_at_the_kernels_own_priority() -> None:
    """Whatever priority they have themselves."""
    text = "table ip t { chain c { type nat hook postrouting priority 90; masquerade; } }"
    assert read(with_rules(text, tool="nft"))["postrouting"] == [101]


@given(st.sets(st.sampled_from(CHAINS)), st.lists(LOOKED_AT, max_size=6))
def test_a_packet_is_read_between_any_two_stages(
    chains: set[tuple[str, str]], wanted: list[Point]
) -> None:
    """And behind the last, before the first where it comes in, and where expectations look."""
    found = points("node", [with_rules(in_chains(chains), *wanted)])
    assert set(wanted) <= set(found)
    for hook in HOOKS[1:-1]:
        at = sorted(p.priority for p in found if p.hook == hook)
        stages = sorted(
            XTABLES[table][hook] for table, chain in chains if chain == hook.upper()
        )  # fmt: skip
        assert at
        for this, following in pairwise([*stages, 1000]):
            assert any(this < priority < following for priority in at)
        if hook in COMES_IN and stages:
            assert at[0] < stages[0]


MARKS = {
    "node prerouting first": (0, None),
    "node prerouting conntrack": (0, None),
    "node postrouting mangle - 1": (0x40000, 0),
    "node postrouting mangle": (0x40000, 0),
    "node postrouting mangle + 1": (0, 0),
    "node postrouting srcnat - 1": (0, 0),
    "node postrouting last": (0, 0),
}


@pytest.mark.parametrize("unread", [(), ("mangle - 1",), ("srcnat - 1",)])
@pytest.mark.parametrize("at", MARKS)
def test_marks_are_known_where_they_are_not_read(at: str, unread: tuple[str, ...]) -> None:
    """Between two stages they are what was read last, and what rules have written since."""
    whole = runs()[2].flows[0].timelines[0]
    events = tuple(e for e in whole.events if not str(getattr(e, "point", "")).endswith(unread))
    (found,) = Timeline("request", 0, "", events if unread else whole.events).at(Point.parse(at))
    assert (found.mark, found.ctmark) == MARKS[at]
    assert found.point == Point.parse(at)


def test_what_a_packet_did_not_pass_is_not_told() -> None:
    """A hook that it did not come to, and the rest of the one in which it was dropped."""
    line = runs()[2].flows[0].timelines[0]
    assert line.at(Point.parse("node input last")) == ()
    assert line.at(Point.parse("lan prerouting first")) == ()
    dropped = Dropped("node", "postrouting", -150, 0, "dropped by this rule")
    until = [getattr(e, "point", None) for e in line.events].index(BEFORE)
    short = replace(line, events=(*line.events[: until + 1], dropped))
    assert [read.mark for read in short.at(BEFORE)] == [0x40000]
    assert short.at(Point.parse("node postrouting mangle + 1")) == ()
