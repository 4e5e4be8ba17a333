"""Options and arguments that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.registry.software import Software
    from lab.scenario import Variant
    from lab.traffic.flow import Family

F = TypeVar("F", bound=Callable[..., Any])

ENTRY_HELP = """An ENTRY is name[@release][:mode]: tailscale, tailscale@1.1.0, calico@3.20,
tailscale:nft, or the path of a .toml file. A bare name is the newest release in its default
mode."""


def family_option(default: str, *values: str) -> Callable[[F], F]:
    """Return the option --family."""
    return click.option(
        "--family",
        type=click.Choice(values),
        default=default,
        show_default=True,
        help="Address family.",
    )


def variant_option(default: str, *values: str) -> Callable[[F], F]:
    """Return the option --iptables."""
    return click.option(
        "--iptables",
        "variant",
        type=click.Choice(values),
        default=default,
        show_default=True,
        help="iptables variant.",
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show more.")


place_option = click.option(
    "--place",
    "places",
    multiple=True,
    metavar="NAME=NODE",
    help="Put an entry that stands in a pod on another node: istio=node is host networking.",
)


def placed(software: Sequence[Software], places: Sequence[str]) -> tuple[Software, ...]:
    """Put entries on other nodes, each given as NAME=NODE."""
    from lab.errors import unknown
    from lab.registry.place import place

    wanted = {}
    for one in places:
        name, equals, node = one.partition("=")
        if not equals or not node:
            raise UsageError(f"--place {one!r} is not NAME=NODE; expected e.g. istio=node")
        if name not in {s.name for s in software}:
            raise unknown("entry to place", name, [s.name for s in software])
        wanted[name] = node
    return tuple(
        asked(place(s, wanted[s.name]), ("--place", f"{s.name}={wanted[s.name]}"))
        if s.name in wanted
        else s
        for s in software
    )


def asked(software: Software, *options: tuple[str, str]) -> Software:
    """Note on an entry the options that changed it, for commands that a report prints."""
    from dataclasses import replace

    return replace(software, asked=(*software.asked, *options))


def families(choice: str) -> tuple[Family, ...]:
    """Return the families that a choice means."""
    from lab.traffic.flow import FAMILIES

    return tuple(f for f in FAMILIES if choice in (f, "both"))


def variants(choice: str) -> tuple[Variant, ...]:
    """Return the iptables variants that a choice means."""
    from lab.scenario import VARIANTS

    return tuple(v for v in VARIANTS if choice in (v, "both"))


def entries(names: Sequence[str]) -> tuple[Software, ...]:
    """Find every entry named; naming one twice is an error."""
    from lab.capture.parse import given, is_native
    from lab.registry.find import find, known

    found = tuple(
        given(name).software
        if is_native(name)
        else find(name, () if _is_path(name) else known(name))
        for name in names
    )
    for name, software in zip(names, found, strict=True):
        if found.count(software) > 1:
            raise UsageError(f"{name!r} is named twice; expected different entries")
    return found


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith(".toml")


def flow_names(software: Sequence[Software]) -> list[str]:
    """List the flows of some software as the command line names them."""
    return [f"{s.name}/{flow.name}" for s in software for flow in s.flows]


def check_flows(wanted: Sequence[str], software: Sequence[Software]) -> None:
    """Refuse flows that no entry has."""
    from lab.errors import unknown

    known = flow_names(software)
    for name in wanted:
        if name not in known and name not in {n.partition("/")[2] for n in known}:
            raise unknown("flow", name, known)
