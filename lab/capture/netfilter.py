"""The rules of a host: those of iptables in its own form, all others as nft lists them.

nft prints masked CONNMARK of iptables-nft without its masks, so a table of iptables-nft is kept
only as iptables-nft-save prints it. That fails on tables in which others put native rules; those
are kept as nft lists them, unless they hold what only xtables can say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lab.capture import listings
from lab.capture.ask import Part, Unread, ask, installed, is_installed, part, version
from lab.capture.listings import Table
from lab.kernel.features import dormant
from lab.lint.source import LARGEST

_BUILTIN = ("raw", "mangle", "nat", "filter", "security")
_FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}
_NET = Path("/proc/thread-self/net")
_MOST_JSON = 4 * LARGEST


def parts() -> Iterator[Part]:
    """Read the rules, and the names of sets."""
    broken: dict[Table, str] = {}
    whole: set[Table] = set()
    for program in _FAMILIES:
        yield part(f"{program}-nft.save", partial(_nft, program, whole, broken))
    for program in _FAMILIES:
        yield part(f"{program}-legacy.save", partial(_legacy, program))
    listing = part("ruleset.nft", partial(_ruleset, whole, broken))
    yield listing
    yield part("sets.txt", partial(_sets, listing))


# --- iptables ------------------------------------------------------------------------------------


def _save(program: str, variant: str) -> str:
    """Return the program that saves one variant's tables. Raises Unread."""
    name = f"{program}-{variant}-save"
    plain = f"{program}-save"
    if is_installed(name) or not is_installed(plain):
        return installed(name)
    return plain if ("nf_tables" in version(plain)) == (variant == "nft") else installed(name)


def _nft(program: str, whole: set[Table], broken: dict[Table, str], _: list[str]) -> str:
    """Save the tables of iptables-nft; add them to ``whole``, or to ``broken`` with the reason."""
    if dormant(("nf_tables",)):
        return ""
    if not is_installed("nft"):
        return _checked(ask(_save(program, "nft")))
    family = _FAMILIES[program]
    found = [t for t in _tables() if t.family == family and t.name in _BUILTIN]
    texts = []
    for table in found:
        try:
            texts.append(_checked(ask(_save(program, "nft"), "-t", table.name)))
            whole.add(table)
        except Unread as problem:
            broken[table] = str(problem)
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


def _tables() -> tuple[Table, ...]:
    return listings.tables(ask("nft", "list", "tables"))


def _ruleset(whole: set[Table], broken: dict[Table, str], notes: list[str]) -> str:
    if dormant(("nf_tables",)):
        return ""
    rest = [table for table in _tables() if table not in whole]
    if not rest:
        return ""
    text = ask("nft", "-s", "-T", "list", "ruleset")
    untrue = [table for table in _with_xt(text) if table in rest]
    for table in untrue:
        reason = broken.get(table, "no program that is asked here can list them")
        notes.append(
            f"table {table} is left out: nft does not list its xtables rules truly; {reason}"
        )
    return listings.ruleset(text, {*whole, *untrue}, notes)


def _with_xt(text: str) -> Sequence[Table]:
    try:
        return sorted(listings.with_xt(ask("nft", "-j", "-t", "list", "ruleset", most=_MOST_JSON)))
    except (Unread, ValueError, KeyError, TypeError):  # built without JSON, or too large
        return sorted(listings.warned(text))


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
