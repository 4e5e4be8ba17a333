"""What the rules of one software touch in the kernel, as far as the order can matter [pure]."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

Key = tuple[str, ...]
"""Node, kind, and the names of an object of the kernel."""


@dataclass(slots=True)
class Footprint:
    """Objects of the kernel by how they are touched.

    ``added``: how rules come into a chain: at its end (``append``), at its top (``insert``) or in
    any ``other`` way. ``hooked``: the chains that hook in at one place. ``agreed``: where two may
    touch the same as long as all they say of it is equal. ``exclusive``: where they may not.
    ``devices`` are made, ``words`` are mentioned; what is ``unknown`` commutes with nobody.
    """

    added: dict[Key, set[str]] = field(default_factory=dict)
    hooked: dict[Key, set[Key]] = field(default_factory=dict)
    agreed: dict[Key, set[str]] = field(default_factory=dict)
    exclusive: set[Key] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    unknown: bool = False

    def add(self, way: str, *key: str) -> None:
        """Note how a rule comes into a chain."""
        self.added.setdefault(key, set()).add(way)

    def hook(self, chain: Key, *place: str) -> None:
        """Note that a chain hooks in at a priority."""
        self.hooked.setdefault(place, set()).add(chain)

    def agree(self, value: str, *key: str) -> None:
        """Note what is said of an object of which others must say the same."""
        self.agreed.setdefault(key, set()).add(value)

    @property
    def empty(self) -> bool:
        """Tell whether nothing is touched at all."""
        return not (self.unknown or self.words)


def commute(one: Footprint, other: Footprint) -> bool:
    """Tell whether the kernel ends in the same state in whichever order the two are installed.

    False where it may not.
    """
    if one.empty or other.empty:
        return True
    return (
        not (one.unknown or other.unknown)
        and one.exclusive.isdisjoint(other.exclusive)
        and one.devices.isdisjoint(other.words)
        and other.devices.isdisjoint(one.words)
        and all(
            _keep_apart(one.added[key], other.added[key])
            for key in one.added.keys() & other.added.keys()
        )
        and all(
            len(one.agreed[key] | other.agreed[key]) == 1
            for key in one.agreed.keys() & other.agreed.keys()
        )
        and all(
            _called(one.hooked[key] | other.hooked[key], one, other) <= 1
            for key in one.hooked.keys() & other.hooked.keys()
        )
    )


def _called(chains: Set[Key], one: Footprint, other: Footprint) -> int:
    """Count the chains that do something: the first to hook in at a priority is called first."""
    return sum(
        chain[1] != "chain" or chain in one.added or chain in other.added for chain in chains
    )


def _keep_apart(ways: Set[str], others: Set[str]) -> bool:
    """Tell whether one's rules are all put at the top and the other's all at the end."""
    return {frozenset(ways), frozenset(others)} == {frozenset({"append"}), frozenset({"insert"})}
