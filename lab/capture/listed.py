"""The rules of a captured host, line by line: what there is to be given an owner [pure]."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import UsageError
from lab.lint import source
from lab.native import nft_blocks, nft_text, normal, normal_policy
from lab.native.iptables_text import BUILTIN, changes
from lab.native.normal import Normal
from lab.native.normal_policy import part
from lab.scenario import Variant
from lab.traffic.flow import Family

Kind = Literal["iptables", "default", "nft", "policy", "route", "sysctl"]
_SAVED: dict[str, tuple[Family, Variant]] = {
    "iptables-nft.save": ("ipv4", "nft"),
    "ip6tables-nft.save": ("ipv6", "nft"),
    "iptables-legacy.save": ("ipv4", "legacy"),
    "ip6tables-legacy.save": ("ipv6", "legacy"),
}
_RULES: dict[str, Family] = {"ip-rule.txt": "ipv4", "ip6-rule.txt": "ipv6"}
_ROUTES: dict[str, Family] = {"ip-route.txt": "ipv4", "ip6-route.txt": "ipv6"}
RULESET, SYSCTLS = "ruleset.nft", "sysctl.txt"
_NFT_FAMILIES: dict[str, Family] = {"ip": "ipv4", "ip6": "ipv6"}
_OF_THE_KERNEL = ("0", "32766", "32767")
_OTHER_TABLES = ("", "253", "254", "255")
_DROPS = re.compile(r"policy drop$")
_DEFAULT = re.compile(r":\S+ (?P<policy>[A-Z]+)")


@dataclass(frozen=True, slots=True)
class Item:
    """One rule, policy rule, route, sysctl or default policy; ``line`` counts from 1.

    ``table`` names its family for nft (``inet mine``); without ``family`` it is of both.
    """

    kind: Kind
    file: str
    line: int
    text: str
    normal: Normal
    family: Family | None = None
    variant: Variant = "nft"
    table: str = ""
    chain: str = ""
    jump: str = ""
    """The chain, not of the kernel, to which the rule jumps."""

    @property
    def built_in(self) -> bool:
        """Tell whether it stands in a chain that everybody uses."""
        return self.kind == "iptables" and self.chain in BUILTIN[self.table]

    @property
    def native(self) -> bool:
        """Tell whether it stands in a table that nft lists."""
        return " " in self.table

    @property
    def marks(self) -> bool:
        """Tell whether it names a mark."""
        return "mark" in self.text.lower()


def items(files: Mapping[str, str]) -> tuple[Item, ...]:
    """List everything on a host that needs an owner. Raises UsageError with file and line.

    Left out are the kernel's own policy rules, routes of the kernel's own tables and default
    policies that accept.
    """
    names = (*_SAVED, RULESET, *_RULES, *_ROUTES, SYSCTLS)
    return tuple(item for name in names for item in _items(name, files.get(name, "")))


def _items(name: str, text: str) -> Iterator[Item]:
    if name in _SAVED:
        yield from _told(name, _iptables(name, text, *_SAVED[name]))
    elif name == RULESET:
        yield from _told(name, _nft(name, text))
    elif name in _RULES:
        yield from _told(name, _policy(name, text, _RULES[name]))
    elif name in _ROUTES:
        yield from _told(name, _route(name, text, _ROUTES[name]))
    elif name == SYSCTLS:
        yield from _sysctl(name, text)


def _told(name: str, found: Iterator[Item]) -> Iterator[Item]:
    """Put the name of the file before what is wrong in it."""
    try:
        yield from found
    except ValueError as problem:
        where = re.sub(r"^line (\d+): ", r"\1: ", str(problem))
        told = f"{name}:{where}" if where != str(problem) else f"{name}: {problem}"
        raise UsageError(told) from None


def _iptables(name: str, text: str, family: Family, variant: Variant) -> Iterator[Item]:
    found = list(changes(text))
    made = {(c.table, c.chain) for c in found if c.verb == "declare"}
    for change in found:
        number = change.number + 1
        if change.verb == "declare":
            policy = _DEFAULT.match(change.text)
            if policy and policy["policy"] != "ACCEPT":
                said: Normal = (("policy", policy["policy"]),)
                where = change.table, change.chain
                yield Item("default", name, number, change.text, said, family, variant, *where)
        elif change.verb == "append":
            said = _said(normal.iptables, change.text, number)
            to = next((p[1] for p in said if p[0] in ("-j", "-g") and len(p) > 1), "")
            at = change.table, change.chain, to if (change.table, to) in made else ""
            yield Item("iptables", name, number, change.text, said, family, variant, *at)
        else:
            raise ValueError(f"line {number}: {change.text[:60]!r}: expected what is listed: -A …")


def _said(read: Callable[[str], Normal], text: str, number: int) -> Normal:
    try:
        return read(text)
    except ValueError as problem:
        raise ValueError(f"line {number}: {text[:60]!r}: {problem}") from None


def _nft(name: str, text: str) -> Iterator[Item]:
    nft_text.check(text)
    for found in nft_blocks.statements(text):
        if found.place.kind == "chain" and _DROPS.match(found.text):
            table = f"{found.place.family} {found.place.table}"
            of: Family | None = _NFT_FAMILIES.get(found.place.family)
            said: Normal = (("policy", "DROP"),)
            where = table, found.place.name
            yield Item("default", name, found.line, found.text, said, of, "nft", *where)
    for rule in nft_text.rules(text):
        said = normal.nft(rule.text)
        yield Item(
            "nft",
            name,
            rule.number + 1,
            rule.text,
            said,
            _NFT_FAMILIES.get(rule.family),
            table=f"{rule.family} {rule.table}",
            chain=rule.chain,
            jump=_jump(said),
        )


def _jump(said: Normal) -> str:
    pairs = itertools.pairwise(said)
    return next((to[0] for word, to in pairs if word[0] in ("jump", "goto")), "")


def _policy(name: str, text: str, family: Family) -> Iterator[Item]:
    for number, line in _lines(text):
        if not source.RULE.fullmatch(line):
            raise ValueError(f"line {number}: {line[:60]!r} is no policy rule")
        said = _said(normal_policy.policy, line, number)
        if part(said, "pref") not in _OF_THE_KERNEL:
            yield Item("policy", name, number, line, said, family, table=part(said, "table"))


def _route(name: str, text: str, family: Family) -> Iterator[Item]:
    for number, line in _lines(text):
        said = normal_policy.route(line)
        if part(said, "table") not in _OTHER_TABLES:
            yield Item("route", name, number, line, said, family, table=part(said, "table"))


def _sysctl(name: str, text: str) -> Iterator[Item]:
    for number, line in _lines(text):
        found = source.SYSCTL.fullmatch(line)
        if found and found["key"].startswith("net."):
            said = ((found["key"], " ".join(found["value"].split())),)
            family: Family | None = "ipv6" if said[0][0].startswith("net.ipv6.") else None
            yield Item("sysctl", name, number, line, said, family)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()
