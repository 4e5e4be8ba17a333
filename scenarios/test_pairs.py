"""Every pair of current releases behaves as was predicted from what its entries say.

The newest release of each software in its default mode, beside each other one: in both orders of
installation, with both address families, with iptables-nft and iptables-legacy where either uses
them. Every flow of both owners is judged beside the other against its run alone. Orders that
leave the kernel in the same state have one run (lab/order), but for ``--lab-every-order``.

What is expected comes from reasoning: the predictor (lab/verdict/predict.py) knows what each
software owns, writes and tests; where reality differs, ``expected/*.toml`` says why. A verdict that
is neither predicted nor explained fails, and so does an explanation that no longer applies.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from expectations import unexpected

from lab.pairs import Pair, current, pairs
from lab.plugin import Lab, entries, scenarios
from lab.scenario import Scenario

pytestmark = pytest.mark.pairs

CURRENT = current(entries())
_PERCENT = (44, 20, 12, 8, 5, 4, 2, 2, 1, 1, 1)
_PARTS = "".join(part * size for part, size in zip("abcdefghijk", _PERCENT, strict=True))
"""xdist gives out large groups first; ever smaller ones even out the end."""


def cases(pair: Pair, part: str) -> list[object]:
    """List the cases of a pair, in few groups: a worker of xdist reuses its runs."""
    found: list[object] = []
    for scenario in scenarios(*pair):
        group = "-".join(("pairs", *scenario.families, part))
        found.append(pytest.param(scenario, marks=pytest.mark.xdist_group(group)))
    return found


def every_case(found: Sequence[Pair]) -> list[object]:
    """List the cases of all pairs; neighbours have runs alone in common, and one group."""
    parts = [_PARTS[number * len(_PARTS) // len(found)] for number in range(len(found))]
    return [case for pair, part in zip(found, parts, strict=True) for case in cases(pair, part)]


@pytest.mark.parametrize("scenario", every_case(pairs(CURRENT)))
def test_each_pair_does_what_is_predicted_or_explained(lab: Lab, scenario: Scenario) -> None:
    """Nothing happens to either owner that was not to be expected, and what was explained does."""
    assert unexpected(lab, scenario) == ()
