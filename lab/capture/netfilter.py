"""The rules of a host: those of iptables in its own form, all others as nft lists them.

nft prints masked CONNMARK of iptables-nft without its masks, so a table of iptables-nft is kept
only as iptables-nft-save prints it. That fails on tables in which others put native rules: of those
the chains with rules of xtables are listed one by one, and nft lists the rest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lab.capture import listings
from lab.capture.ask import Notes, Part, Unread, ask, installed, is_installed, part, version
from lab.capture.listings import Chain, Table
from lab.kernel.features import dormant
from lab.lint.source import LARGEST

_BUILTIN = ("raw", "mangle", "nat", "filter", "security")
_XTABLES = ("ip", "ip6", "bridge", "arp")
"""The families in which programs of xtables make tables, under built-in names."""
_FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}
_NET = Path("/proc/thread-self/net")
_MOST_JSON = 4 * LARGEST
_PATIENCE = 60.0
"""Seconds for all chains of a mixed table; each takes a process."""
_MEASURED = (1, 8, 9)
"""The oldest iptables of which we saw that listing a chain leaves everything as it is."""


@dataclass(slots=True)
class _Tables:
    """The tables of nftables, and what became of saving those that iptables-nft would make.

    ``saved`` are those that iptables-nft-save prints whole, ``broken`` the others with the reason,
    and ``emptied`` the chains of these whose rules are not left to nft.
    """

    known: tuple[Table, ...] = ()
    problem: str = ""
    saved: set[Table] = field(default_factory=set)
    broken: dict[Table, str] = field(default_factory=dict)
    emptied: dict[Table, frozenset[str]] = field(default_factory=dict)

    def all(self) -> tuple[Table, ...]:
        """Return them. Raises Unread where nft cannot list them."""
        if self.problem:
            raise Unread(self.problem)
        return self.known


def parts() -> Iterator[Part]:
    """Read the rules, and the names of sets."""
    tables = _tables()
    for program in _FAMILIES:
        yield part(f"{program}-nft.save", partial(_nft, program, tables))
    for program in _FAMILIES:
        yield part(f"{program}-legacy.save", partial(_legacy, program))
    listing = part("ruleset.nft", partial(_ruleset, tables))
    yield listing
    yield part("sets.txt", partial(_sets, listing))


def _tables() -> _Tables:
    if dormant(("nf_tables",)):  # asking would load it
        return _Tables()
    try:
        return _Tables(listings.tables(ask("nft", "list", "tables")))
    except Unread as problem:
        return _Tables(problem=str(problem))


# --- iptables ------------------------------------------------------------------------------------


def _save(program: str, variant: str) -> str:
    """Return the program that saves one variant's tables. Raises Unread."""
    name = f"{program}-{variant}-save"
    plain = f"{program}-save"
    if is_installed(name) or not is_installed(plain):
        return installed(name)
    return plain if ("nf_tables" in version(plain)) == (variant == "nft") else installed(name)


def _nft(program: str, tables: _Tables, notes: Notes) -> str:
    """Save each table of iptables-nft by itself; one that is mixed would hide the others."""
    if tables.problem:
        return _checked(ask(_save(program, "nft")))
    texts = []
    for table in tables.known:
        if table.family != _FAMILIES[program] or table.name not in _BUILTIN:
            continue
        try:
            texts.append(_checked(ask(_save(program, "nft"), "-t", table.name)))
            tables.saved.add(table)
        except Unread as problem:
            tables.broken[table] = str(problem)
            texts += _piecewise(program, table, tables, notes)
    return "\n".join(texts)


def _piecewise(program: str, table: Table, tables: _Tables, notes: Notes) -> Iterator[str]:
    """Save those chains of a mixed table in which xtables made rules; nft lists the others."""
    found = _chains(table)
    ours = [chain for chain in found if chain.xt]
    if not ours or not _lists_chains(f"{program}-nft"):
        return
    rules: list[str] = []
    until = time.monotonic() + _PATIENCE
    for chain in ours:
        try:
            if time.monotonic() > until:
                raise Unread(f"no end within {_PATIENCE:g} s")
            rules += listings.added(ask(f"{program}-nft", "-t", table.name, "-S", chain.name))
        except Unread as problem:
            notes.lost.append(f"the rules of chain {table} {chain.name} are left out: {problem}")
    tables.emptied[table] = frozenset(chain.name for chain in ours)
    yield listings.save_text(program, table, found, rules)


def _lists_chains(program: str) -> bool:
    """Tell whether a program lists one chain and changes nothing: earlier ones may make chains."""
    found = re.search(r"v(\d+)\.(\d+)\.(\d+).*nf_tables", version(program))
    return found is not None and tuple(map(int, found.groups())) >= _MEASURED


def _checked(text: str) -> str:
    if not listings.is_whole(text):
        raise Unread("it holds native rules, which iptables-nft-save leaves out")
    return listings.saved(text)


def _legacy(program: str, _: Notes) -> str:
    """Save the tables that exist: asking for another would make it."""
    names = {"iptables": "ip_tables_names", "ip6tables": "ip6_tables_names"}[program]
    try:
        tables = (_NET / names).read_text().split()
    except FileNotFoundError:  # not loaded, so there are none
        return ""
    except OSError as problem:
        raise Unread(f"/proc/net/{names}: {problem.strerror}") from None
    return "\n".join(
        listings.saved(ask(_save(program, "legacy"), "-t", name)) for name in sorted(tables)
    )


# --- nftables ------------------------------------------------------------------------------------


def _ruleset(tables: _Tables, notes: Notes) -> str:
    rest = [table for table in tables.all() if table not in tables.saved]
    if not rest:
        return ""
    text = ask("nft", "-s", "-T", "list", "ruleset")
    untrue = listings.warned(text) | {t for t in rest if any(c.xt for c in _chains(t))}
    untrue = untrue.intersection(rest) - set(tables.emptied)
    for table in sorted(untrue):
        reason = tables.broken.get(table, "no program that is asked here can list them")
        notes.lost.append(
            f"table {table} is left out: nft does not list its xtables rules truly; {reason}"
        )
    return listings.ruleset(text, tables.saved | untrue, notes.remarks, tables.emptied)


def _chains(table: Table) -> tuple[Chain, ...]:
    """Look into the JSON of a table that xtables may have made: old releases warn of nothing."""
    if table.family not in _XTABLES or table.name not in (*_BUILTIN, "broute"):
        return ()
    listing = ("nft", "-j", "-t", "list", "table", table.family, table.name)
    try:
        return listings.chains(ask(*listing, most=_MOST_JSON))
    except (Unread, ValueError):  # built without JSON, or too large
        return ()


def _sets(listing: Part, notes: Notes) -> str:
    """Name sets: those of ipset as commands that make them, those of nftables as remarks."""
    lines: list[str] = []
    if not dormant(("ip_set",)):
        try:
            lines += listings.ipsets(ask("ipset", "list", "-terse"))
        except Unread as problem:
            notes.lost.append(f"sets of ipset: {problem}")
    if listing.text is None:
        notes.lost.append("sets of nftables: see ruleset.nft")
    lines += listings.named_sets(listing.text or "")
    return "\n".join(lines)
