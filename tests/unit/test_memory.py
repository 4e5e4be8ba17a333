"""What a worker remembers: every run alone, the last ones together, one for orders alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_runs import ALPHA, BETA, run, runs, software

from lab.record import Environment, Run
from lab.registry.software import Ruleset, Software
from lab.runner.memory import Memory
from lab.scenario import Experiment, Scenario
from lab.verdict.compare import compare
from lab.verdict.outcome import Outcome


def test_a_run_is_made_once_until_many_others_have_come() -> None:
    """Runs alone stay; of those together thousands would not fit."""
    made: list[Experiment] = []

    def make(experiment: Experiment) -> Run:
        made.append(experiment)
        return run(experiment, cleared=False)

    memory = Memory(make)
    known = [one.experiment for one in runs()]
    assert memory.runs(known) == memory.runs(known)
    assert made == known
    memory.runs(replace(known[-1], flows=(str(number),)) for number in range(100))
    del made[:]
    memory.runs(known)
    assert made == [experiment for experiment in known if not experiment.alone]


def _party(*rules: str) -> tuple[Software, ...]:
    return tuple(
        replace(
            software(f"p{number}"),
            rulesets=(Ruleset("iptables", f"*mangle\n{rule}\nCOMMIT", file="a.toml"),),
        )
        for number, rule in enumerate(rules)
    )


def _orders(*rules: str) -> list[Experiment]:
    party = _party(*rules)
    return [e for e in Scenario(party, families=("ipv4",)).experiments() if not e.alone]


APART = _orders("-A INPUT -j ACCEPT", "-A OUTPUT -j ACCEPT")
MEETING = _orders("-A INPUT -j ACCEPT", "-A INPUT -j DROP")


def _memory(refused: str = "") -> tuple[Memory, list[Experiment]]:
    made: list[Experiment] = []

    def make(experiment: Experiment) -> Run:
        made.append(experiment)
        return Run(experiment, Environment("", ()), (), (), (), refused=refused)

    return Memory(make), made


def test_orders_that_leave_the_kernel_in_the_same_state_are_run_once() -> None:
    """Each gets the run under its own name, which says what was run."""
    memory, made = _memory()
    found = memory.runs(APART)
    assert [run.experiment for run in found] == APART
    assert [e.order for e in made] == [("p0@1.10:iptables", "p1@1.10:iptables")] * 2
    assert [e.variant for e in made] == ["nft", "legacy"]
    assert [run.ran_as for run in found] == ["", str(made[0]), "", str(made[1])]


def test_orders_that_may_differ_are_all_run() -> None:
    """Whoever comes first in a chain is asked first."""
    memory, made = _memory()
    assert [run.ran_as for run in memory.runs(MEETING)] == [""] * 4
    assert made == MEETING


def test_every_order_is_run_where_that_is_wanted() -> None:
    """Nothing is said of another then."""
    memory, made = _memory()
    assert [run.ran_as for run in memory.runs(APART, each=True)] == [""] * 4
    assert made == APART


def test_a_refusal_is_told_of_the_order_in_which_it_was_met() -> None:
    """It names who could not be installed beside whom."""
    memory, made = _memory("no")
    assert [run.ran_as for run in memory.runs(APART)] == [""] * 4
    assert made == APART


def _with_flows(*rules: str) -> list[Experiment]:
    """Return the experiments on alpha, whose flow is harmed, and another, alone and together."""
    rulesets = ((Ruleset("iptables", f"*mangle\n{rule}\nCOMMIT", file="a.toml"),) for rule in rules)
    party = (replace(one, rulesets=mine) for one, mine in zip((ALPHA, BETA), rulesets, strict=True))
    return list(Scenario(tuple(party), families=("ipv4",), variants=("nft",)).experiments())


def _made_up(experiment: Experiment) -> Run:
    known = {one.name: one for one in (ALPHA, BETA)}
    small = replace(experiment, software=tuple(known[s.name] for s in experiment.software))
    return replace(run(small, cleared=not experiment.alone), experiment=experiment)


@pytest.mark.parametrize("second", ["-A INPUT -j ACCEPT", "-A OUTPUT -j ACCEPT"])
def test_verdicts_are_those_on_the_runs(second: str) -> None:
    """Also where two orders have one run, and are judged one after the other."""
    asked = _with_flows("-A OUTPUT -j ACCEPT", second)
    alone = [one for one in asked if one.alone]
    memory = Memory(_made_up)
    for together in [one for one in asked if not one.alone] * 2:
        experiments = [*alone, together]
        found = memory.verdicts(experiments)
        assert found == tuple(compare(memory.runs(experiments)))
        assert {v.order for v in found} == {together.order}
        assert any(v.outcome is Outcome.CLOBBERED for v in found)


def test_software_that_iptables_does_not_matter_to_is_run_alone_once() -> None:
    """Under the name of each variant."""
    memory, made = _memory()
    rules = Ruleset("ip", "rule add pref 9 lookup 9", file="a.toml")
    party = (replace(software("n"), rulesets=(rules,)),)
    (nft,) = Scenario(party, families=("ipv4",)).experiments()
    asked = [nft, replace(nft, variant="legacy")]
    assert [run.experiment for run in memory.runs(asked)] == asked
    assert made == [nft]
