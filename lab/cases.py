"""Registry entries by name and scenarios to parametrize tests with; ``lab.plugin`` offers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from string import ascii_lowercase

from lab.registry.find import find
from lab.registry.loader import load, read
from lab.registry.software import Software
from lab.scenario import VARIANTS, Orders, Scenario, Variant
from lab.traffic.flow import FAMILIES, Family

Named = str | Path | Software
"""A registry entry by name (``calico@3.20``), by its file, or itself."""


@lru_cache(maxsize=1)
def entries() -> tuple[Software, ...]:
    """Read the registry, once per process."""
    return load()


def entry(named: Named) -> Software:
    """Return the registry entry that a name, or a file, stands for. Raises LabError."""
    if isinstance(named, Software):
        return named
    return read(named) if isinstance(named, Path) else find(named, entries())


def scenarios(
    *software: Named,
    families: Sequence[Family] = FAMILIES,
    variants: Sequence[Variant] = VARIANTS,
    orders: Orders = "all",
    flows: Sequence[str] = (),
) -> list[Scenario]:
    """List one scenario per family, iptables variant and order of installation, to parametrize.

    Their ids come from what they are: ``tailscale-1.102.3+calico-3.20-ipv4-nft-ba``.
    """
    whole = Scenario(
        tuple(map(entry, software)),
        families=tuple(families),
        variants=tuple(variants),
        orders=orders,
        flows=tuple(flows),
    )
    return [
        replace(whole, software=given, families=(family,), variants=(variant,), orders=order)
        for given, order in _orders(whole)
        for family in whole.families
        if _has_flows(whole, family)
        for variant in whole.effective_variants()
    ]


def _has_flows(scenario: Scenario, family: Family) -> bool:
    return any(family in flow.families for s in scenario.software for flow in s.flows)


def _orders(scenario: Scenario) -> Iterator[tuple[tuple[Software, ...], Orders]]:
    if len(scenario.software) == 2 and scenario.orders == "all":
        yield scenario.software, "given"
        yield scenario.software, "reverse"
        return
    for order in scenario.install_orders():
        yield order, "given"


def title(scenario: Scenario) -> str:
    """Name a scenario for a test id; the letters at the end tell the order of installation."""
    names = "+".join(short(s) for s in scenario.software)
    letters = ascii_lowercase[: len(scenario.software)]
    order = {"given": letters, "reverse": letters[::-1], "all": ""}[scenario.orders]
    parts = (names, *scenario.families, *scenario.variants, order if len(letters) > 1 else "")
    return "-".join(part for part in parts if part)


def short(software: Software) -> str:
    """Name an entry for a test id; the mode where it is not the default."""
    mode = "" if software.default_mode else f"-{software.mode}"
    return f"{software.name}-{software.release}{mode}"
