"""What given rules rely on is what their run alone shows."""

from __future__ import annotations

from dataclasses import replace

from small_runs import ALPHA, AT, BEFORE, FINE, LOST, run

from lab.capture.learn import learned
from lab.marks import Mark
from lab.record import FlowRun, Run, Timeline
from lab.registry.software import Software
from lab.scenario import Scenario
from lab.traffic.flow import Expectation, Flow

WANTED = tuple(Expectation(point, "mark", Mark(0, 0xFF0000)) for point in (BEFORE, AT))
DRAFT = replace(ALPHA, flows=tuple(replace(f, expectations=WANTED) for f in ALPHA.flows))


def alone(software: Software = DRAFT) -> list[Run]:
    """Record the software alone, in both families."""
    scenario = Scenario((software,), variants=("nft",))
    return [
        replace(run(replace(e, software=(ALPHA,)), False), experiment=e)
        for e in scenario.experiments()
    ]


def with_flow(found: Run, **values: object) -> Run:
    """Change the first flow of a run."""
    return replace(found, flows=(replace(found.flows[0], **values), *found.flows[1:]))  # type: ignore[arg-type]


def flow(found: Software, name: str = "ping") -> Flow:
    """Return a flow of that name."""
    return next(f for f in found.flows if f.name == name)


def test_it_relies_on_the_bits_that_it_shows() -> None:
    """At each point that was read, under the mask that is owned."""
    found = flow(learned(DRAFT, alone()))
    assert {(e.point, e.mark, e.packets) for e in found.expectations} == {
        (BEFORE, Mark(0x40000, 0xFF0000), "first"),
        (AT, Mark(0x40000, 0xFF0000), "first"),
    }
    assert found.families == ("ipv4", "ipv6")
    assert found.answered_by == DRAFT.flows[0].answered_by


def test_a_flow_that_is_lost_relies_on_being_dropped() -> None:
    """It must not arrive beside others either."""
    runs = [with_flow(r, fate=LOST) for r in alone()]
    found = flow(learned(DRAFT, runs))
    assert (found.answered_by, found.listens) == ("", DRAFT.flows[0].answered_by)


def test_a_flow_that_is_answered_in_part_tells_nothing() -> None:
    """Neither fate could be relied upon."""
    runs = [with_flow(r, fate=replace(FINE, answered=1)) for r in alone()]
    assert [f.name for f in learned(DRAFT, runs).flows] == ["pong"]


def test_families_that_differ_are_two_flows_of_one_name() -> None:
    """Each with what its own family shows."""
    four, six = alone()
    found = learned(DRAFT, [four, with_flow(six, fate=LOST)])
    assert [(f.name, f.families, f.listens != "") for f in found.flows] == [
        ("ping", ("ipv4",), False),
        ("ping", ("ipv6",), True),
        ("pong", ("ipv4", "ipv6"), False),
    ]


def test_a_family_that_was_not_run_is_not_learned() -> None:
    """As with --family ipv4."""
    found = learned(DRAFT, alone()[:1])
    assert {f.name: f.families for f in found.flows} == {"ping": ("ipv4",), "pong": ("ipv4",)}


def test_the_first_packet_may_show_another_word_than_later_ones() -> None:
    """As after a restore from the connection."""

    def changed(line: Timeline, ordinal: int, mark: int) -> Timeline:
        events = tuple(
            replace(e, mark=mark) if getattr(e, "point", None) == AT else e for e in line.events
        )
        return replace(line, ordinal=ordinal, events=events)

    def several(seen: FlowRun) -> tuple[Timeline, ...]:
        line = seen.timelines[0]
        return (changed(line, 0, 0), changed(line, 1, 0x80000), changed(line, 2, 0x80000))

    runs = [with_flow(r, timelines=several(r.flows[0])) for r in alone()]
    found = {(e.point, e.packets): e.mark.value for e in flow(learned(DRAFT, runs)).expectations}
    assert found == {(BEFORE, "all"): 0x40000, (AT, "first"): 0, (AT, "later"): 0x80000}


def test_a_word_that_is_another_each_time_is_not_relied_upon() -> None:
    """No expectation is better than one that a second run would not meet."""
    line = alone()[0].flows[0].timelines[0]
    other = tuple(
        replace(e, mark=7 << 16) if getattr(e, "point", None) == AT else e for e in line.events
    )
    runs = [with_flow(r, timelines=(line, replace(line, events=other))) for r in alone()]
    assert {e.point for e in flow(learned(DRAFT, runs)).expectations} == {BEFORE}


def test_a_run_of_which_something_was_lost_teaches_nothing() -> None:
    """What was not observed is not relied upon."""
    assert learned(DRAFT, [replace(r, lost=("x",)) for r in alone()]).flows == ()
