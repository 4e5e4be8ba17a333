"""A question about software, and the experiments that answer it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from lab.registry.places import arranged
from lab.registry.software import Software
from lab.traffic.flow import FAMILIES, Family

Variant = Literal["nft", "legacy"]
Orders = Literal["all", "given", "reverse"]
VARIANTS: tuple[Variant, ...] = ("nft", "legacy")
POD_PREFIX = "veth"
"""How the pods' devices begin where no software names them."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One combination: software in the order of installation, family, iptables variant, topology.

    ``points`` and ``flows`` cover every software of the scenario, so that the run alone and the
    run together are read at the same places.
    """

    topology: str
    pod_prefix: str
    software: tuple[Software, ...]
    beside: tuple[Software, ...]
    family: Family
    variant: Variant
    flows: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        return hash((self.software, self.family, self.variant, self.pod_prefix))

    @property
    def order(self) -> tuple[str, ...]:
        """Name the software in the order of installation."""
        return tuple(s.title for s in self.software)

    @property
    def alone(self) -> bool:
        """Tell whether one software is installed by itself."""
        return len(self.software) == 1

    def __str__(self) -> str:
        return f"{' then '.join(self.order)}, {self.family}, iptables-{self.variant}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Which software, where, and which variants of the question to try."""

    software: tuple[Software, ...]
    topology: str = "kubernetes-node"
    families: tuple[Family, ...] = FAMILIES
    variants: tuple[Variant, ...] = VARIANTS
    orders: Orders = "all"
    flows: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()

    def pod_prefix(self) -> str:
        """Name the pods' interfaces as the first software that names them does."""
        return next((s.pod_prefix for s in self.software if s.pod_prefix), POD_PREFIX)

    def effective_variants(self) -> tuple[Variant, ...]:
        """Drop the iptables variants where nobody uses iptables."""
        if any(s.uses_xtables() for s in self.software):
            return self.variants
        return self.variants[:1]

    def install_orders(self) -> tuple[tuple[Software, ...], ...]:
        """List the orders of installation to try; one order where there is one software."""
        if self.orders == "given" or len(self.software) == 1:
            return (self.software,)
        if self.orders == "reverse":
            return (tuple(reversed(self.software)),)
        return tuple(permutations(self.software))

    def experiments(self) -> Iterator[Experiment]:
        """Yield each software alone, then all together in every order, for every variant."""
        for variant in self.effective_variants():
            for family in self.families:
                for one in self.software:
                    yield self._experiment((one,), family, variant)
                if len(self.software) > 1:
                    for order in self.install_orders():
                        yield self._experiment(order, family, variant)

    def _experiment(
        self, order: tuple[Software, ...], family: Family, variant: Variant
    ) -> Experiment:
        return Experiment(
            topology=self.topology,
            pod_prefix=self.pod_prefix(),
            software=arranged(order),
            beside=self.software,
            family=family,
            variant=variant,
            flows=self.flows,
            sysctls=self.sysctls,
        )
