"""Every entry of the registry, alone, behaves as its own file says.

What an owner relies on is met with both address families and, where iptables is used, both of its
variants; the marks that an entry names are really seen on packets; and a bitwise entry changes no
bit that it does not own. An entry that fails here says something wrong about its software.
"""

from __future__ import annotations

import pytest

from lab.marks import WORD
from lab.plugin import Lab, entries, scenarios
from lab.record import Run
from lab.registry.software import Ruleset, Software
from lab.scenario import Scenario
from lab.verdict.alone import unmet
from lab.verdict.claims import not_seen, strays

ALONE = [scenario for software in entries() for scenario in scenarios(software)]
# One group per entry: its tests share their runs.
ENTRIES = [pytest.param(s, marks=pytest.mark.xdist_group(s.title)) for s in entries()]
BITWISE = [one for one, s in zip(ENTRIES, entries(), strict=True) if s.style == "bitwise"]


def everything(lab: Lab, software: Software) -> tuple[Run, ...]:
    """Run an entry alone in every way that the command line asks for."""
    scenario = Scenario((software,), families=lab.families, variants=lab.variants)
    return tuple(lab.run(experiment) for experiment in scenario.experiments())


@pytest.mark.parametrize("scenario", ALONE)
def test_each_entry_alone_does_what_its_owner_relies_on(lab: Lab, scenario: Scenario) -> None:
    """Marks, fates and source addresses of every flow are as the entry says, and all are run."""
    (run,) = lab.check(scenario).runs
    assert unmet(run) == ()
    (software,) = scenario.software
    expected = {f.name for f in software.flows if run.experiment.family in f.families}
    assert {flow.name for flow in run.flows} == expected
    assert run.lost == ()


@pytest.mark.parametrize("software", ENTRIES)
def test_each_named_mark_is_seen_on_a_packet(lab: Lab, software: Software) -> None:
    """In the packet mark or ctmark, as the allocation says, unless it gives a reason."""
    if len(lab.families) < 2:
        pytest.skip("a mark may be shown with one address family only; run both")
    assert [str(claim) for claim in not_seen(software, everything(lab, software))] == []


@pytest.mark.parametrize("software", BITWISE)
def test_a_bitwise_entry_changes_no_bit_of_others(lab: Lab, software: Software) -> None:
    """Every write of its rules stays within its allocations."""
    assert strays(software, everything(lab, software)) == ()


def stranger(software: Software) -> Software:
    """Make a software that sets every bit of the packet mark but the entry's own."""
    foreign = WORD & ~software.owned("mark")
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} priority -440;\n"
        f"meta mark set meta mark | {foreign:#010x}\n}}\n"
        for hook in ("prerouting", "output")
    )
    nodes = dict.fromkeys(ruleset.node for ruleset in software.rulesets)
    text = f"table {{{{ ip }}}} stranger {{\n{chains}}}\n"
    rulesets = tuple(Ruleset("nft", text, node=node, file="stranger") for node in nodes)
    return Software(
        "stranger", "1", "nft", "whole-mark", "sets every other bit", "", rulesets=rulesets
    )


@pytest.mark.parametrize("software", BITWISE)
def test_a_bitwise_entry_leaves_foreign_bits_as_they_are(lab: Lab, software: Software) -> None:
    """With every foreign bit set, an unmasked write or restore shows, and there is none."""
    if software.owned("mark") == WORD:
        pytest.skip("every bit is its own: there is none of another to change")
    scenario = Scenario(
        (stranger(software), software),
        families=lab.families,
        variants=lab.variants[:1],
        orders="given",
    )
    runs = [lab.run(experiment) for experiment in scenario.experiments() if not experiment.alone]
    assert [run.refused for run in runs if run.refused] == []
    assert strays(software, runs) == ()
    assert any(
        reading.mark & ~software.owned("mark")
        for run in runs
        for flow in run.flows
        for line in flow.timelines
        for reading in line.readings()
    )


@pytest.mark.parametrize("software", ENTRIES)
def test_each_entry_has_a_flow_and_an_allocation(software: Software) -> None:
    """Without a flow nothing could be judged; what uses no mark says so in its deviations."""
    assert software.flows
    assert software.allocations or "no mark" in " ".join((software.summary, *software.deviations))
