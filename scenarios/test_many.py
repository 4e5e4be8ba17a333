"""Many programs at once: all that can stand on one node, and every triple of them.

With everything installed together nearly every owner meets a write or a test that is not its own,
so survival is not the claim. It is that nothing comes up which no two of them announce: each
conflict is a hazard that the predictor names for two members, or explained in ``expected/``; that
the run can be observed to its end; and that what is judged is every flow of every owner.

A node has one pod network, so the programs that route the pods are left out here, as are those
that stand in pods alone. The longer suite covers every triple of the rest in sets of seven, in
orders drawn from a seed; a failure prints both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import pytest

from lab.order.alone import by_itself
from lab.pairs import current, foreseen
from lab.plugin import Lab, entries
from lab.registry.software import Software
from lab.scenario import Scenario
from lab.traffic.flow import FAMILIES, Family
from lab.verdict.compare import compare
from lab.verdict.outcome import Outcome, Verdict
from lab.verdict.predict import takes_pods

SEED = 20261121
SIZE = 7
"""Programs in one set of the covering."""
LEFT_OUT = {
    "mwan3": "uses routing table 1, as gke-netd does, and 2, as the VPC CNI does",
    "gke-netd": "uses routing table 1",
    "nordvpn": "refuses a policy rule that wg-quick and Mullvad have installed",
}


def on_the_node(software: Sequence[Software]) -> tuple[Software, ...]:
    """List what can be installed on one node together."""
    return tuple(
        s
        for s in software
        if s.name not in LEFT_OUT
        and {ruleset.node for ruleset in s.rulesets} == {"node"}
        and not any(takes_pods(s, family) for family in FAMILIES)
    )


NODE_LEVEL = on_the_node(current(entries()))


def covering(software: Sequence[Software], size: int, seed: int) -> list[tuple[Software, ...]]:
    """Return sets of ``size``, shuffled, that hold every three of ``software`` between them."""
    draw = random.Random(seed)
    left = set(combinations(sorted(software, key=lambda s: s.name), 3))
    found = []
    while left:
        chosen = list(draw.choice(sorted(left, key=_names)))
        while len(chosen) < min(size, len(software)):
            rest = [s for s in software if s not in chosen]
            draw.shuffle(rest)
            chosen.append(max(rest, key=lambda s: _gain(chosen, s, left)))
        left -= set(combinations(sorted(chosen, key=lambda s: s.name), 3))
        draw.shuffle(chosen)
        found.append(tuple(chosen))
    return found


def _names(triple: Sequence[Software]) -> tuple[str, ...]:
    return tuple(s.name for s in triple)


def _gain(chosen: Sequence[Software], one: Software, left: set[tuple[Software, ...]]) -> int:
    return sum(
        tuple(sorted((*pair, one), key=lambda s: s.name)) in left
        for pair in combinations(chosen, 2)
    )


def unannounced(lab: Lab, order: tuple[Software, ...], family: Family) -> list[Verdict]:
    """Run programs in an order, and list the conflicts of marks that no two of them announce."""
    scenario = Scenario(order, families=(family,), variants=("nft",), orders="given")
    (together,) = (e for e in scenario.experiments() if not e.alone)
    runs = [lab.run(by_itself(together, one)) for one in order]
    run = lab.run(together)
    assert run.refused == ""
    assert run.lost == ()
    verdicts = [v for v in compare((*runs, run)) if len(v.order) > 1]
    flows = {(s.title, f.name) for s in order for f in s.flows if family in f.families}
    assert {(v.owner, v.flow) for v in verdicts} == flows
    of_marks = {Outcome.CLOBBERED, Outcome.ERASED, Outcome.FALSE_MATCH}
    return [v for v in verdicts if v.outcome in of_marks and not foreseen(v, together)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backwards", [False, True], ids=["az", "za"])
def test_all_node_level_software_together_shows_what_two_announce(
    lab: Lab, family: Family, backwards: bool
) -> None:
    """In alphabetical order and in the reverse, every conflict of marks is one of two members."""
    order = tuple(sorted(NODE_LEVEL, key=lambda s: s.name, reverse=backwards))
    assert unannounced(lab, order, family) == []


COVERING = covering(NODE_LEVEL, SIZE, SEED)


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", range(len(COVERING)))
def test_every_triple_shows_what_two_announce(lab: Lab, number: int, family: Family) -> None:
    """The seed stands in this file; a failure names the order that it drew."""
    order = COVERING[number]
    assert unannounced(lab, order, family) == [], f"seed {SEED}: {' then '.join(_names(order))}"


def test_the_covering_holds_every_triple() -> None:
    """Each three programs meet in at least one set."""
    met = {frozenset(t) for chosen in COVERING for t in combinations(_names(chosen), 3)}
    assert met == {frozenset(t) for t in combinations(_names(NODE_LEVEL), 3)}
    assert len(NODE_LEVEL) >= 10


def test_what_is_left_out_is_registered() -> None:
    """A name that no entry has would leave out nothing."""
    assert set(LEFT_OUT) <= {s.name for s in current(entries())}
