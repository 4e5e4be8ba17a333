"""Entries have the rules that upstream's own tests expect, as the kernel lists both."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.fidelity.golden import Comparison, Golden, compare, entry_of, explanations, read
from lab.plugin import Lab, entries
from lab.scenario import Scenario

FOLDER = Path(__file__).parents[1] / "golden"
GOLDENS = read(FOLDER)
EXPLAINED = explanations(FOLDER)

pytestmark = pytest.mark.kernel


def compared(lab: Lab, golden: Golden) -> Comparison:
    """List the golden rules and the entry's by the same kernel and compare them."""
    entry = entry_of(golden, entries())
    listed = []
    for software in (golden.as_software(entry), entry):
        scenario = Scenario((software,), families=(golden.family,), variants=("nft",))
        (experiment,) = scenario.experiments()
        listed.append(lab.run(experiment).rules)
    return compare(golden, *listed)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)
def test_the_entry_has_every_rule_on_marks_that_upstream_expects(lab: Lab, golden: Golden) -> None:
    """In the same chain and order; a difference stands in explained.toml with its reason."""
    comparison = compared(lab, golden)
    assert comparison.unexplained(EXPLAINED.get(golden.name, {})) == ()
    assert comparison.found, "no rule of the golden file concerns marks, or all are explained away"


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)
def test_every_explanation_is_needed(lab: Lab, golden: Golden) -> None:
    """An explanation of a difference that is not there any more is removed."""
    assert set(EXPLAINED.get(golden.name, {})) <= set(compared(lab, golden).missing)


def test_every_explanation_belongs_to_a_golden_file() -> None:
    """A renamed or removed golden file takes its explanations along."""
    assert set(EXPLAINED) <= {golden.name for golden in GOLDENS}


def test_every_golden_file_says_where_it_comes_from() -> None:
    """Repository, version, path and lines."""
    assert [golden.name for golden in GOLDENS if "@" not in golden.source] == []
