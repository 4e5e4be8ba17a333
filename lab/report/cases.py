"""The cases a question was tried in, and how to say in which of them something happened [pure]."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from lab.record import Run
from lab.report.names import Names, listed
from lab.verdict.outcome import Verdict


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
        if len(orders) == len(self.orders) > 1:
            return "both orders" if len(orders) == 2 else f"all {len(orders)} orders"
        if len(orders) > 2:
            return f"{len(orders)} of {len(self.orders)} orders"
        return listed([" then ".join(self.names.short(t) for t in order) for order in orders])


def _joined(everything: Iterable[str], some: set[str]) -> str:
    return "+".join(word for word in dict.fromkeys(everything) if word in some)


def _products(some: set[Case]) -> list[set[Case]]:
    """Split cases into sets that are full products, so that each has a short name."""
    if len(some) == len({c.order for c in some}) * len({c.family for c in some}) * len(
        {c.variant for c in some}
    ):
        return [some] if some else []
    for key in ("order", "family", "variant"):
        groups: dict[object, set[Case]] = {}
        for case in some:
            groups.setdefault(getattr(case, key), set()).add(case)
        if len(groups) > 1:
            return [part for group in _merged(list(groups.values())) for part in _products(group)]
    return [some]


def _merged(groups: Sequence[set[Case]]) -> list[set[Case]]:
    """Put orders that share the same families and variants together again."""
    by_rest: dict[frozenset[tuple[str, str]], set[Case]] = {}
    for group in sorted(groups, key=lambda g: min((c.order, c.family, c.variant) for c in g)):
        rest = frozenset((c.family, c.variant) for c in group)
        by_rest.setdefault(rest, set()).update(group)
    return list(by_rest.values())


def tried(runs: Sequence[Run], names: Names) -> Tried:
    """Collect the cases; of software that ran alone only, those alone."""
    together = [run for run in runs if not run.experiment.alone] or list(runs)
    return Tried(tuple(Case.of(run) for run in together), names)
