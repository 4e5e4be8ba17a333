"""Every pair of current releases behaves as was predicted from what its entries say.

The newest release of each software in its default mode, beside each other one: in both orders of
installation, with both address families, with iptables-nft and iptables-legacy where either uses
them. Every flow of both owners is judged beside the other against its run alone.

What is expected comes from reasoning: the predictor (lab/verdict/predict.py) knows what each
software owns, writes and tests; where reality differs, ``expected/*.toml`` says why. A verdict that
is neither predicted nor explained fails, and so does an explanation that no longer applies.
"""

from __future__ import annotations

import pytest
from expectations import unexpected

from lab.pairs import Pair, current, pairs
from lab.plugin import Lab, entries, scenarios
from lab.scenario import Scenario

pytestmark = pytest.mark.pairs

CURRENT = current(entries())


def cases(number: int, pair: Pair) -> list[object]:
    """List the cases of a pair, in few groups: workers reuse the runs alone.

    Pairs beyond the public registry's rows are thorough: all 440 take minutes.
    """
    found: list[object] = []
    public = all(software.registered for software in pair)
    for scenario in scenarios(*pair):
        group = "-".join(("pairs", *scenario.families, *scenario.variants, "ab"[number % 2]))
        marks = [pytest.mark.xdist_group(group)] + [pytest.mark.thorough] * (not public)
        found.append(pytest.param(scenario, marks=marks))
    return found


PAIRS = [case for number, pair in enumerate(pairs(CURRENT)) for case in cases(number, pair)]


@pytest.mark.parametrize("scenario", PAIRS)
def test_each_pair_does_what_is_predicted_or_explained(lab: Lab, scenario: Scenario) -> None:
    """Nothing happens to either owner that was not to be expected, and what was explained does."""
    assert unexpected(lab, scenario) == ()
