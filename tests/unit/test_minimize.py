"""The shrinker leaves out everything that is not needed, and nothing that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.registry.loader import DATA, read
from lab.shrink.minimize import minimize
from lab.shrink.units import only, units

CALICO = DATA / "calico" / "3.20-iptables.toml"


@given(st.lists(st.integers(), max_size=40), st.data())
def test_exactly_the_needed_items_are_left(items: list[int], data: st.DataObject) -> None:
    """Where a fixed set of positions is needed, it is what remains, in order."""
    numbered = list(enumerate(items))
    needed = set(data.draw(st.sets(st.sampled_from(numbered))) if numbered else set())
    assert set(minimize(numbered, lambda kept: needed <= set(kept))) == needed


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_no_single_item_can_be_spared(items: list[int]) -> None:
    """With any test, the result shows it and none of its parts with one item less does."""
    goal = sum(items) // 2

    def shows(kept: tuple[int, ...]) -> bool:
        return sum(kept) >= goal

    kept = minimize(items, shows)
    assert shows(kept)
    assert not any(shows(kept[:i] + kept[i + 1 :]) for i in range(len(kept)) if kept[i])


def test_each_candidate_is_tried_once() -> None:
    """An experiment costs 50 ms: none is repeated."""
    asked: list[tuple[int, ...]] = []

    def shows(kept: tuple[int, ...]) -> bool:
        asked.append(kept)
        return {3, 17} <= set(kept)

    assert minimize(range(64), shows) == (3, 17)
    assert len(asked) == len(set(asked)) < 40


def test_what_does_not_reproduce_is_refused() -> None:
    """Where even everything does not show it, there is nothing to shrink."""
    with pytest.raises(ValueError, match="does not reproduce"):
        minimize([1, 2, 3], lambda kept: False)


def test_all_units_are_the_entry_itself() -> None:
    """Keeping every rule keeps every line, chains included."""
    entry = read(CALICO)
    assert only((entry,), units((entry,))) == (entry,)


def test_chains_that_nothing_needs_go() -> None:
    """Without rules no chain of its own is declared."""
    entry = read(CALICO)
    (bare,) = only((entry,), ())
    texts = "\n".join(r.text for r in bare.rulesets if r.tool == "iptables")
    assert "cali-" not in "\n".join(text for text in texts.splitlines() if not text.startswith("#"))
