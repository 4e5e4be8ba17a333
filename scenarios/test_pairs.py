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

import os
from collections.abc import Sequence

import pytest
from expectations import unexpected

from lab.pairs import Pair, current, pairs
from lab.plugin import Lab, entries, scenarios
from lab.scenario import Scenario
from lab.traffic.flow import Family

pytestmark = pytest.mark.pairs

CURRENT = current(entries())
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PERCENT: dict[Family, tuple[int, ...]] = (
    {"ipv4": (60, 14, 8, 6, 4, 3, 2, 1, 1, 1), "ipv6": (100,)}
    if _WORKERS <= 2
    else {"ipv4": (30, 20, 14, 10, 8, 6, 4, 3, 2, 1, 1, 1), "ipv6": (60, 20, 10, 5, 3, 1, 1)}
)
"""Sizes of groups: xdist gives out large ones first, and ever smaller ones even out the end.

Every worker makes the runs alone that it needs for itself. Of two, one has all of a family's.
"""
_PARTS = {f: [n for n, size in enumerate(p) for _ in range(size)] for f, p in _PERCENT.items()}


def every_case(found: Sequence[Pair]) -> list[object]:
    """List the cases of all pairs; neighbours have runs alone in common, and one group."""
    return [
        pytest.param(scenario, marks=pytest.mark.xdist_group(_group(scenario, number / len(found))))
        for number, pair in enumerate(found)
        for scenario in scenarios(*pair)
    ]


def _group(scenario: Scenario, place: float) -> str:
    """Name the group of a case whose pair has a place from 0 to 1 among all of them."""
    (family,) = scenario.families
    return f"pairs-{family}-{_PARTS[family][int(place * 100)]}"


@pytest.mark.parametrize("scenario", every_case(pairs(CURRENT)))
def test_each_pair_does_what_is_predicted_or_explained(lab: Lab, scenario: Scenario) -> None:
    """Nothing happens to either owner that was not to be expected, and what was explained does."""
    assert unexpected(lab, scenario) == ()
