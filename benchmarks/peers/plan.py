"""One scenario as commands, for whoever wants to carry them out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

Command = tuple[str, str]
"""A node and a command line for its namespace."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build, to install, to count and to send.

    ``links`` are (node, device, node, device). ``network`` sets the devices up, ``rules`` holds
    one command per rule, in the order of installation. ``probe`` is nftables text for ``node``
    that counts packets by the mark they carry at each point. ``answerers`` run until they are
    killed, and make their file in ``ready`` once they listen; ``askers`` print how many of a
    flow's packets were answered.
    """

    nodes: list[str]
    links: list[tuple[str, str, str, str]]
    network: list[Command]
    rules: list[Command]
    probe: str
    answerers: list[Command]
    ready: list[str]
    askers: list[tuple[str, str, str]]


def write(plan: Plan, path: Path) -> None:
    """Save a plan."""
    path.write_text(json.dumps(asdict(plan)), encoding="utf-8")


def read(path: Path) -> Plan:
    """Read a plan back."""
    return Plan(**json.loads(path.read_text(encoding="utf-8")))
