"""What is judged from runs, shown on runs built by hand: one for each outcome and reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.marks import WORD, Mark
from lab.native.rule import Rule
from lab.points import Point
from lab.record import (
    Dropped,
    Environment,
    Event,
    Fate,
    FlowRun,
    Hit,
    PolicyRule,
    Reading,
    Routed,
    Run,
    Timeline,
    Write,
)
from lab.registry.software import Software
from lab.scenario import Experiment
from lab.traffic.flow import Direction, Expectation, Flow
from lab.verdict.alone import unmet
from lab.verdict.compare import compare
from lab.verdict.outcome import Outcome, Verdict, exit_code, worst

BEFORE = Point("node", "forward", -1)
AFTER = Point("node", "postrouting", 99)
RELIED = Expectation(AFTER, "mark", Mark(0x40, 0xF0))
FLOW = Flow("out", "a", "b", 5000, answered_by="lan", seen_from="x", expectations=(RELIED,))
OWNER = Software("own", "1", "m", "bitwise", "", "", flows=(FLOW,))
OTHER = Software("other", "2", "m", "bitwise", "", "")

SETS = Rule(
    OWNER.title, "iptables", "filter", "FORWARD", "-A FORWARD -j MARK --set-xmark 0x40/0xf0"
)
CLEARS = Rule(
    OTHER.title,
    "iptables",
    "mangle",
    "POSTROUTING",
    "-A POSTROUTING -j MARK --set-mark 0x0",
    "-A POSTROUTING -j MARK --set-xmark 0x0/0xff",
)
DROPS = Rule(OTHER.title, "iptables", "filter", "FORWARD", "-A FORWARD -j DROP")
POLICY = Rule(OTHER.title, "ip", "rule", "", "rule add pref 100 fwmark 0x40/0xf0 table 7")
TESTS = Rule(
    OTHER.title, "iptables", "filter", "FORWARD", "-A FORWARD -m mark --mark 0x40/0xf0 -j ACCEPT"
)
RULES = (SETS, CLEARS, DROPS, POLICY, TESTS)

GOOD = Fate(3, 3, 3, "lan", "x", "")
LOST = Fate(3, 0, 0, "", "", "request ended on node in forward, dropped")


def read(point: Point, mark: int, ctmark: int | None = None) -> Reading:
    """Make a reading."""
    return Reading(point, mark, ctmark, "a", "b")


def wrote(rule: Rule | None, before: int, after: int, field: str = "mark") -> Write:
    """Make a write by a rule of RULES."""
    number = None if rule is None else RULES.index(rule)
    return Write("node", "forward", 0, field, before, after, number)  # type: ignore[arg-type]


def hit(rule: Rule, word: int) -> Hit:
    """Make a match of a rule."""
    return Hit("node", "forward", 0, RULES.index(rule), word, word, "accept")


def line(*events: Event, ordinal: int = 0, direction: Direction = "request") -> Timeline:
    """Make the timeline of one packet."""
    return Timeline(direction, ordinal, f"{direction}{ordinal}", events)


def run(
    *lines: Timeline,
    software: tuple[Software, ...] = (OWNER, OTHER),
    fate: Fate = GOOD,
    policy: tuple[PolicyRule, ...] = (),
    owner: Software = OWNER,
) -> Run:
    """Make a run of the one flow."""
    experiment = Experiment("kubernetes-node", "veth", software, software, "ipv4", "nft")
    flow = FlowRun(owner.title, FLOW.name, lines, fate, "x")
    return Run(experiment, Environment("k", ()), RULES, policy, (flow,))


RIGHT = (read(BEFORE, 0), wrote(SETS, 0, 0x40), read(AFTER, 0x40))
ALONE = run(line(*RIGHT), software=(OWNER,))


def verdict(*lines: Timeline, alone: Run = ALONE, fate: Fate = GOOD) -> Verdict:
    """Judge one run together; there is one verdict."""
    (found,) = compare([alone, run(*lines, fate=fate)])
    return found


def test_equal_words_and_fate_survive() -> None:
    """Bits outside the owner's mask do not count."""
    found = verdict(line(read(BEFORE, 0xF00), wrote(SETS, 0xF00, 0xF40), read(AFTER, 0xF40)))
    assert found.outcome is Outcome.SURVIVES
    assert (found.alone, found.together, found.bits) == (0x40, 0x40, 0xF0)


def test_bits_written_by_a_rule_of_another_are_clobbered() -> None:
    """The rule is named with the whole words before and after it."""
    found = verdict(line(*RIGHT[:2], wrote(CLEARS, 0x40, 0), read(AFTER, 0)))
    assert found.outcome is Outcome.CLOBBERED
    assert found.point == AFTER
    assert (found.alone, found.together) == (0x40, 0)
    assert found.culprit is not None
    assert found.culprit.rule == CLEARS
    assert (found.culprit.before, found.culprit.after) == (0x40, 0)
    assert found.beside == (OTHER.title,)


def test_a_whole_mark_owner_loses_by_any_bit() -> None:
    """All 32 bits are its own."""
    relied = replace(RELIED, mark=Mark(0x40, WORD))
    whole = replace(OWNER, style="whole-mark", flows=(replace(FLOW, expectations=(relied,)),))
    alone = run(line(*RIGHT), software=(whole,))
    beside = run(
        line(*RIGHT[:2], wrote(CLEARS, 0x40, 0x80000040), read(AFTER, 0x80000040)),
        software=(whole, OTHER),
    )
    (found,) = compare([alone, beside])
    assert found.outcome is Outcome.CLOBBERED
    assert (found.alone, found.together) == (0x40, 0x80000040)


def test_a_write_of_other_bits_is_not_blamed() -> None:
    """Only a rule that touched the bits in question can be the culprit."""
    found = verdict(line(*RIGHT[:2], wrote(CLEARS, 0xF40, 0x40), read(AFTER, 0)))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "no rule of another software was seen to write them" in found.reason


def test_a_packet_that_was_lost_with_spoilt_bits_was_clobbered() -> None:
    """Nothing was read at the point, but the bits were wrong when the owner's rule dropped it."""
    end = Dropped("node", "output", 0, RULES.index(SETS), "dropped by this rule")
    found = verdict(
        line(read(BEFORE, 0), wrote(SETS, 0, 0x40), wrote(CLEARS, 0x40, 0x10), end), fate=LOST
    )
    assert (found.outcome, found.together) == (Outcome.CLOBBERED, 0x10)
    assert found.culprit is not None
    assert found.culprit.rule == CLEARS
    assert "lost before node postrouting" in found.reason


def test_a_packet_that_was_lost_before_the_owner_marked_it_was_not() -> None:
    """Another's write of bits that the owner was to set later is no loss to it."""
    end = Dropped("node", "output", 0, RULES.index(DROPS), "dropped by this rule")
    found = verdict(line(read(BEFORE, 0), wrote(CLEARS, 0, 0x10), end), fate=LOST)
    assert found.outcome is Outcome.DROPPED


def test_the_owners_own_rule_is_never_the_culprit() -> None:
    """What the owner itself wrote differently remains unexplained."""
    found = verdict(line(*RIGHT[:1], wrote(SETS, 0x40, 0), read(AFTER, 0)))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.culprit is None


def test_a_ctmark_is_judged_as_a_packet_mark_is() -> None:
    """The field of the expectation decides which word is read."""
    relied = replace(RELIED, field="ctmark")
    owner = replace(OWNER, flows=(replace(FLOW, expectations=(relied,)),))
    alone = run(line(read(AFTER, 0, 0x40)), software=(owner,))
    beside = run(
        line(wrote(CLEARS, 0x40, 0, "ctmark"), read(AFTER, 0x40, 0)), software=(owner, OTHER)
    )
    (found,) = compare([alone, beside])
    assert (found.outcome, found.field) == (Outcome.CLOBBERED, "ctmark")


def test_bits_lost_between_namespaces_are_erased() -> None:
    """Set at the last point of one, clear at the first of the next, and no rule in between."""
    relied = Expectation(Point("pod", "prerouting", -450), "mark", Mark(0x40, 0xF0))
    owner = replace(OWNER, flows=(replace(FLOW, expectations=(relied,)),))
    alone = run(line(read(AFTER, 0x40), read(relied.point, 0x40)), software=(owner,))
    beside = run(line(read(AFTER, 0x40), read(relied.point, 0)), software=(owner, OTHER))
    (found,) = compare([alone, beside])
    assert found.outcome is Outcome.ERASED
    assert found.reason == "erased on the way from node to pod"


def test_what_is_erased_after_the_point_explains_nothing() -> None:
    """Every packet that leaves a namespace loses its mark, alone as well."""
    pod = Point("pod", "prerouting", -450)
    found = verdict(line(read(BEFORE, 0), read(AFTER, 0x20), read(pod, 0)))
    assert found.outcome is Outcome.INCONCLUSIVE


def test_a_rule_that_takes_anothers_bits_for_its_own_is_a_false_match() -> None:
    """Although marks and fate are as alone."""
    found = verdict(line(*RIGHT[:2], hit(TESTS, 0x40), read(AFTER, 0x40)))
    assert found.outcome is Outcome.FALSE_MATCH
    assert found.culprit is not None
    assert found.culprit.rule == TESTS
    assert OWNER.title in found.culprit.writer
    assert found.bits == 0xF0 & 0x40


def test_a_false_match_says_which_way_the_packet_went() -> None:
    """A match on a reply is not one on a request."""
    reply = line(read(BEFORE, 0), wrote(SETS, 0, 0x40), hit(TESTS, 0x40), direction="reply")
    (found,) = compare([ALONE, run(line(*RIGHT), reply)])
    assert (found.outcome, found.direction) == (Outcome.FALSE_MATCH, "reply")


def test_a_policy_rule_can_match_falsely() -> None:
    """A routing decision tests marks as a filter rule does."""
    policy = PolicyRule(
        100,
        7,
        "lookup",
        Mark(0x40, 0xF0),
        False,
        "",
        "",
        "",
        "",
        RULES.index(POLICY),
        "100: from all fwmark 0x40/0xf0 lookup 7",
    )
    routed = Routed("node", "prerouting", 0x40, 0, "default dev eth1 table 7", "eth1")
    beside = run(
        line(read(BEFORE, 0), wrote(SETS, 0, 0x40), routed, read(AFTER, 0x40)), policy=(policy,)
    )
    (found,) = compare([ALONE, beside])
    assert found.outcome is Outcome.FALSE_MATCH
    assert found.culprit is not None
    assert found.culprit.rule == POLICY


def test_another_route_is_misrouted() -> None:
    """The marks are intact, the packet leaves elsewhere and does not arrive."""
    was = Routed("node", "prerouting", 0, None, "10.0.0.0/8 dev eth0 table 254", "eth0")
    now = replace(was, device="eth1", route="default dev eth1 table 254")
    alone = run(line(was, *RIGHT), software=(OWNER,))
    found = verdict(line(now, *RIGHT), alone=alone, fate=LOST)
    assert found.outcome is Outcome.MISROUTED
    assert found.reason == "routed to eth1 instead of eth0"


def test_of_a_packet_that_is_routed_again_within_output_the_last_route_counts() -> None:
    """However often another's mark has it routed on the way; the last policy rule is to blame."""
    first = Routed("node", "output", 0, None, "default dev eth0 table main", "eth0")
    tunnel = replace(first, mark=0x100, device="tun0")
    stolen = replace(first, mark=0x300, policy=0)
    rule = PolicyRule(100, 7, "lookup", None, False, "", "", "", "", RULES.index(POLICY), "100:")
    alone = run(line(first, tunnel, *RIGHT), software=(OWNER,))
    lost = run(line(first, first, stolen, *RIGHT), fate=LOST, policy=(rule,))
    (found,) = compare([alone, lost])
    assert found.outcome is Outcome.MISROUTED
    assert found.reason == "routed to eth0 instead of tun0"
    assert found.culprit is not None
    assert found.culprit.rule == POLICY
    (found,) = compare([alone, run(line(first, first, tunnel, *RIGHT), fate=LOST)])
    assert found.outcome is Outcome.DROPPED


def test_a_packet_that_ends_in_a_rule_is_dropped_by_it() -> None:
    """Bits that were seen intact; the rule is named."""
    end = Dropped("node", "postrouting", 0, RULES.index(DROPS), "dropped by this rule")
    found = verdict(line(*RIGHT, end), fate=LOST)
    assert found.outcome is Outcome.DROPPED
    assert found.culprit is not None
    assert found.culprit.rule == DROPS
    assert found.culprit.before == 0x40


def test_a_lost_packet_without_a_culprit_is_dropped_all_the_same() -> None:
    """The fate says where it ended."""
    found = verdict(line(*RIGHT), fate=LOST)
    assert (found.outcome, found.culprit) == (Outcome.DROPPED, None)
    assert found.reason == LOST.end


def test_another_source_address_is_rewritten() -> None:
    """Delivered and answered, but the receiver sees somebody else."""
    found = verdict(line(*RIGHT), fate=replace(GOOD, seen_from="y"))
    assert found.outcome is Outcome.REWRITTEN
    assert found.reason == "seen from y instead of x"
    assert found.fate_alone == "delivered to lan from x"


def test_fewer_answers_are_dropped() -> None:
    """Replies belong to the flow."""
    found = verdict(line(*RIGHT), fate=replace(GOOD, answered=1, end="reply ended on node"))
    assert found.outcome is Outcome.DROPPED


@pytest.mark.parametrize(
    ("alone", "together", "reason"),
    [
        (
            ALONE,
            replace(run(line(*RIGHT)), refused="other:3: refused"),
            "could not be installed together: other:3: refused",
        ),
        (
            ALONE,
            replace(run(line(*RIGHT)), lost=("buffer full",)),
            "observation was lost: buffer full",
        ),
        (replace(ALONE, lost=("gone",)), run(line(*RIGHT)), "observation was lost: gone"),
        (ALONE, replace(run(line(*RIGHT)), flows=()), "the flow was not run"),
        (ALONE, run(line(read(BEFORE, 0))), f"no packet reached {AFTER}: "),
        (
            run(line(read(AFTER, 0)), software=(OWNER,)),
            run(line(*RIGHT)),
            f"the entry alone does not hold: expected request {AFTER}: mark 0x40/0xf0, read 0x0",
        ),
    ],
)
def test_what_cannot_be_told_is_inconclusive_with_the_reason(
    alone: Run, together: Run, reason: str
) -> None:
    """Never green, never without a reason."""
    found = [v for v in compare([alone, together]) if len(v.order) > 1]
    assert [(v.outcome, v.reason) for v in found] == [(Outcome.INCONCLUSIVE, reason)]


def test_without_the_run_alone_nothing_can_be_told() -> None:
    """The run alone of another family or variant does not count."""
    other = replace(ALONE, experiment=replace(ALONE.experiment, family="ipv6"))
    found = [v for v in compare([other, run(line(*RIGHT))]) if len(v.order) > 1]
    assert [v.outcome for v in found] == [Outcome.INCONCLUSIVE]
    assert found[0].reason == "there is no run of it alone to compare with"


def test_a_flow_without_expectations_is_never_green() -> None:
    """An empty result is no proof."""
    owner = replace(OWNER, flows=(replace(FLOW, expectations=()),))
    found = compare(
        [run(line(*RIGHT), software=(owner,)), run(line(*RIGHT), software=(owner, OTHER))]
    )
    assert {v.outcome for v in found} == {Outcome.INCONCLUSIVE}


def test_an_expectation_may_concern_later_packets_only() -> None:
    """Some conflicts show from the second packet on."""
    relied = replace(RELIED, packets="later")
    owner = replace(OWNER, flows=(replace(FLOW, expectations=(relied,)),))
    first = line(read(AFTER, 0))
    alone = run(first, line(*RIGHT, ordinal=1), software=(owner,))
    beside = run(
        first,
        line(*RIGHT[:2], wrote(CLEARS, 0x40, 0), read(AFTER, 0), ordinal=1),
        software=(owner, OTHER),
    )
    assert [v.outcome for v in compare([alone, beside]) if len(v.order) > 1] == [Outcome.CLOBBERED]
    fine = run(line(read(AFTER, 0x80)), line(*RIGHT, ordinal=1), software=(owner, OTHER))
    assert [v.outcome for v in compare([alone, fine])] == [Outcome.SURVIVES]


def test_an_entry_that_holds_alone_has_nothing_unmet() -> None:
    """Marks, fate and source address."""
    assert unmet(ALONE) == ()


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (run(line(read(AFTER, 0x10)), software=(OWNER,)), "read 0x10"),
        (run(line(read(BEFORE, 0x40)), software=(OWNER,)), "nothing was read at"),
        (run(line(*RIGHT), software=(OWNER,), fate=LOST), "expected to be answered by lan, but"),
        (
            run(line(*RIGHT), software=(OWNER,), fate=replace(GOOD, seen_from="y")),
            "expected to be seen from x, but",
        ),
    ],
)
def test_an_entry_that_does_not_hold_alone_says_why(broken: Run, problem: str) -> None:
    """The flow is named, and what was expected."""
    (found,) = unmet(broken)
    assert found.startswith("own@1:m out: ")
    assert problem in found


def test_the_exit_code_tells_conflicts_from_doubt() -> None:
    """0 all survive, 1 a conflict, 2 inconclusive; nothing at all is not green."""
    green = verdict(line(*RIGHT))
    doubt = replace(green, outcome=Outcome.INCONCLUSIVE)
    conflict = replace(green, outcome=Outcome.DROPPED)
    assert [exit_code(v) for v in ([green], [green, doubt], [doubt, conflict], [])] == [0, 2, 1, 2]
    assert worst([green, doubt]) is Outcome.INCONCLUSIVE
    assert worst([]) is None
