"""The rules of a host: those of iptables in its own form, all others as nft lists them.

nft prints masked CONNMARK of iptables-nft without its masks, so a table of iptables-nft is kept
only as iptables-nft-save prints it. That fails on tables in which others put native rules; those
are kept as nft lists them, unless they hold what only xtables can say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lab.capture import listings
from lab.capture.ask import Part, Unread, ask, installed, is_installed, part, version
from lab.capture.listings import Table
from lab.kernel.features import dormant
from lab.lint.source import LARGEST

_BUILTIN = ("raw", "mangle", "nat", "filter", "security")
_XTABLES = ("ip", "ip6", "bridge", "arp")
"""The families in which programs of xtables make tables, under built-in names."""
_FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}
_NET = Path("/proc/thread-self/net")
_MOST_JSON = 4 * LARGEST


@dataclass(slots=True)
class _Tables:
    """The tables of nftables, and what became of saving those that iptables-nft would make."""

    known: tuple[Table, ...] = ()
    problem: str = ""
    saved: set[Table] = field(default_factory=set)
    broken: dict[Table, str] = field(default_factory=dict)

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


def _nft(program: str, tables: _Tables, _: list[str]) -> str:
    """Save each table of iptables-nft by itself; one that is mixed would hide the others."""
    if tables.problem:
        return _checked(ask(_save(program, "nft")))
    texts = []
    for table in tables.known:
        if table.family == _FAMILIES[program] and table.name in _BUILTIN:
            try:
                texts.append(_checked(ask(_save(program, "nft"), "-t", table.name)))
                tables.saved.add(table)
            except Unread as problem:
                tables.broken[table] = str(problem)
    return "\n".join(texts)


def _checked(text: str) -> str:
    if not listings.is_whole(text):
        raise Unread("it holds native rules, which iptables-nft-save leaves out")
    return listings.saved(text)


def _legacy(program: str, _: list[str]) -> str:
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


def _ruleset(tables: _Tables, notes: list[str]) -> str:
    rest = [table for table in tables.all() if table not in tables.saved]
    if not rest:
        return ""
    text = ask("nft", "-s", "-T", "list", "ruleset")
    untrue = listings.warned(text) | {table for table in rest if _has_xt(table)}
    for table in sorted(untrue.intersection(rest)):
        reason = tables.broken.get(table, "no program that is asked here can list them")
        notes.append(
            f"table {table} is left out: nft does not list its xtables rules truly; {reason}"
        )
    return listings.ruleset(text, tables.saved | untrue, notes)


def _has_xt(table: Table) -> bool:
    """Look into the JSON of a table that xtables may have made: old releases warn of nothing."""
    if table.family not in _XTABLES or table.name not in (*_BUILTIN, "broute"):
        return False
    listing = ("nft", "-j", "-t", "list", "table", table.family, table.name)
    try:
        return table in listings.with_xt(ask(*listing, most=_MOST_JSON))
    except (Unread, ValueError, KeyError, TypeError):  # built without JSON, or too large
        return False


def _sets(listing: Part, notes: list[str]) -> str:
    """Name sets: those of ipset as commands that make them, those of nftables as remarks."""
    lines: list[str] = []
    if not dormant(("ip_set",)):
        try:
            lines += listings.ipsets(ask("ipset", "list", "-terse"))
        except Unread as problem:
            notes.append(f"sets of ipset: {problem}")
    if listing.text is None:
        notes.append("sets of nftables: see ruleset.nft")
    lines += listings.named_sets(listing.text or "")
    return "\n".join(lines)
