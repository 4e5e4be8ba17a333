"""What one registry entry says about one release of a software, in one mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.marks import Mark
from lab.traffic.flow import FAMILIES, Family, Field, Flow

Tool = Literal["iptables", "nft", "ip", "ipset", "sysctl", "tc", "bpf"]
Style = Literal["bitwise", "whole-mark"]

TOOLS: tuple[Tool, ...] = ("iptables", "nft", "ip", "ipset", "sysctl", "tc", "bpf")


@dataclass(frozen=True, slots=True)
class Value:
    """A named mark of an allocation, such as ``bypass`` 0x80000/0xff0000."""

    name: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Allocation:
    """The bits of ``field`` that a software says are its own.

    ``unseen`` gives the reason why no flow of the entry can show a mark in these bits.
    """

    field: Field
    mask: int
    values: tuple[Value, ...] = ()
    source: str = ""
    unseen: str = ""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All that a software installs on one node with one tool, as native text.

    ``text`` holds placeholders ``{{ name }}`` for the topology's facts. It begins on ``line`` of
    ``file``. A line ``#@ path#L1-2`` gives the source of the rules that follow it.

    The rules of a ``listed`` one were all in the kernel at once, in the order of their file: in
    every chain they keep that order, whoever installs the others (see :mod:`lab.registry.places`).
    ``variant`` is given where one host uses both variants of iptables.
    """

    tool: Tool
    text: str
    node: str = "node"
    families: tuple[Family, ...] = FAMILIES
    source: str = ""
    file: str = ""
    line: int = 1
    listed: bool = False
    variant: Literal["", "nft", "legacy"] = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """The public registry's row: which bits or value it lists, and since which release."""

    table: Literal["bitwise", "non-bitwise"]
    mark: str
    source: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Software:
    """One registry entry: a release of a software in one mode.

    ``shares_with`` names software with which it uses the same bits on purpose; ``captured`` is the
    archive of the host on which its rules were found, where they are not the entry's own.
    ``asked`` are the options of the command line that made it what it is, such as ``--place`` and
    ``istio=node``: whoever names it again must give them again.
    """

    name: str
    release: str
    mode: str
    style: Style
    summary: str
    source: str
    released: str = ""
    aliases: tuple[str, ...] = ()
    default_mode: bool = True
    pod_prefix: str = ""
    registered: Registered | None = None
    deviations: tuple[str, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    rulesets: tuple[Ruleset, ...] = ()
    flows: tuple[Flow, ...] = ()
    facts: tuple[tuple[str, str, str], ...] = ()
    shares_with: tuple[str, ...] = ()
    file: str = ""
    captured: str = ""
    asked: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        # Enough to tell entries apart, also those of which rules were taken away; experiments are
        # looked up all the time, and hashing every field of every flow takes 20 times as long.
        return hash((self.name, self.release, self.mode, *(r.text for r in self.rulesets)))

    @property
    def title(self) -> str:
        """Name the entry in full: ``tailscale@1.102.3:nft``."""
        return f"{self.name}@{self.release}:{self.mode}"

    def owned(self, field: Field) -> int:
        """Return the mask of all bits of ``field`` that the software says are its own."""
        mask = 0
        for allocation in self.allocations:
            if allocation.field == field:
                mask |= allocation.mask
        return mask

    def uses_xtables(self) -> bool:
        """Tell whether any rule goes through iptables, so that its variant matters."""
        return any(ruleset.tool == "iptables" for ruleset in self.rulesets)

    def __str__(self) -> str:
        return self.title
