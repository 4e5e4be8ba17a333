"""The cases a question was tried in, and how to say in which of them something happened [pure]."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lab.record import Run
from lab.report.names import Names, listed
from lab.verdict.outcome import Verdict

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Case:
    """One order of installation, family and iptables variant."""

    order: tuple[str, ...]
    family: str
    variant: str

    @classmethod
    def of(cls, source: Verdict | Run) -> Case:
        """Return the case of a verdict or a run."""
        part = source.experiment if isinstance(source, Run) else source
        return cls(part.order, part.family, part.variant)


@dataclass(frozen=True, slots=True)
class Tried:
    """Every case that was tried; only the runs of all software together count."""

    cases: tuple[Case, ...]
    names: Names

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """List the orders of installation."""
        return tuple(dict.fromkeys(case.order for case in self.cases))

    def phrase(self, some: Collection[Case]) -> str:
        """Say which cases ``some`` are: ``both orders, ipv4+ipv6, nft+legacy``."""
        return "; ".join(self._product(part) for part in _products(set(some)))

    def difference(self, some: Collection[Case]) -> str:
        """Say which cases ``some`` are, leaving out what is the same in all that were tried."""
        parts = []
        for part in _products(set(some)):
            words = (
                []
                if len({c.order for c in part}) == len(self.orders)
                else [self.order_phrase(part)]
            )
            for key in ("family", "variant"):
                everything = [getattr(c, key) for c in self.cases]
                mine = {getattr(c, key) for c in part}
                words += [] if mine == set(everything) else [_joined(everything, mine)]
            parts.append(", ".join(words))
        return "; ".join(parts)

    def _product(self, some: set[Case]) -> str:
        families = _joined([c.family for c in self.cases], {c.family for c in some})
        variants = _joined([c.variant for c in self.cases], {c.variant for c in some})
        return ", ".join(filter(None, (self.order_phrase(some), families, variants)))

    def order_phrase(self, some: Collection[Case]) -> str:
        """Say which orders of installation ``some`` have."""
        orders = list(dict.fromkeys(c.order for c in self.cases if c in some))
        if not orders or len(orders[0]) == 1:
            return "alone"
        if any(self.names.captured(title) for title in orders[0]):
            asked = [self.names.short(t) for t in orders[0] if not self.names.captured(t)]
            return " then ".join(["as captured", *asked])
        if len(orders) == len(self.orders) > 1:
            return "both orders" if len(orders) == 2 else f"all {len(orders)} orders"
        if len(orders) > 2:
            return f"{len(orders)} of {len(self.orders)} orders"
        return listed([" then ".join(self.names.short(t) for t in order) for order in orders])


def _joined(everything: Iterable[str], some: set[str]) -> str:
    return "+".join(word for word in dict.fromkeys(everything) if word in some)


def _products(some: set[Case]) -> list[set[Case]]:
    """Split cases into full products of orders, families and variants, which have short names."""
    orders: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for case in sorted(some, key=lambda c: (c.order, c.family, c.variant)):
        orders.setdefault(case.order, set()).add((case.family, case.variant))
    found = []
    for rest, alike in _shared(orders).items():
        families: dict[str, set[str]] = {}
        for family, variant in sorted(rest):
            families.setdefault(family, set()).add(variant)
        for variants, those in _shared(families).items():
            found.append({Case(o, f, v) for o in alike for f in those for v in variants})
    return found


def _shared(groups: dict[K, set[V]]) -> dict[frozenset[V], list[K]]:
    """Put the keys with the same values together."""
    found: dict[frozenset[V], list[K]] = {}
    for key, values in groups.items():
        found.setdefault(frozenset(values), []).append(key)
    return found


def tried(runs: Sequence[Run], names: Names) -> Tried:
    """Collect the cases; of software that ran alone only, those alone."""
    together = [run for run in runs if not run.experiment.alone] or list(runs)
    return Tried(tuple(Case.of(run) for run in together), names)
