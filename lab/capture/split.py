"""A host's rules, divided among those who put them there [pure].

Whose a rule is, is told by the chain it stands in or jumps to, by rules of entries that are equal
but for addresses and devices, and by the routing table it leads to. What none of that explains
keeps together by the first word of its chains' names, and the rest is the host's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.capture.known import Known
from lab.capture.listed import Item
from lab.capture.shapes import Key, chain_shape, key, prefix, table_shape
from lab.native.iptables_text import BUILTIN
from lab.registry.find import version
from lab.registry.software import Software
from lab.traffic.flow import FAMILIES, Family

HOST = "host"
"""The name of whoever has the rules that nothing explains."""
_PART_OF_CHAINS = 3
_PART_OF_RULES = 4
"""So much of an entry must be there, one third and one fourth: the rest may be switched off."""
_SHARED_TABLES = tuple(BUILTIN)


@dataclass(frozen=True, slots=True)
class Party:
    """One owner and its lines; ``entry`` is None for what no entry explains.

    ``strange`` are its lines that no release of the entry has, ``missing`` counts the entry's
    rules that are not on the host, ``rivals`` names entries that explain as much.
    """

    name: str
    items: tuple[Item, ...]
    entry: Software | None = None
    strange: tuple[Item, ...] = ()
    missing: int = 0
    rivals: tuple[str, ...] = ()


def split(items: Sequence[Item], known: Iterable[Known]) -> tuple[Party, ...]:
    """Give each item to exactly one party; parties come in the order of their first lines.

    Sysctls help to tell releases apart, but have no owner: a program may find one as it wants it.
    """
    found = _Found(items, tuple(known))
    owned = [item for item in items if item.kind != "sysctl"]
    owners = _by_table(owned, [found.owner(item) for item in owned])
    shares: dict[str, list[Item]] = {}
    for item, owner in zip(owned, owners, strict=True):
        shares.setdefault(owner, []).append(item)
    return tuple(found.party(name, share) for name, share in shares.items())


def _by_table(items: Sequence[Item], owners: list[str]) -> list[str]:
    """Give the routes of a table to whoever's policy rules lead there."""
    leads = {
        (item.family, item.table): owner
        for item, owner in zip(items, owners, strict=True)
        if item.kind == "policy"
    }
    return [
        leads.get((item.family, item.table), owner) if item.kind == "route" else owner
        for item, owner in zip(items, owners, strict=True)
    ]


class _Found:
    """Which programs are on a host, and what each of them explains."""

    def __init__(self, items: Sequence[Item], known: tuple[Known, ...]) -> None:
        self._keys = {item: key(item) for item in items}
        on_host = self._told(items)
        chains = {(one[1], one[2]) for one in on_host if one[0] in ("iptables", "nft")}
        here = [one for one in known if _present(one, on_host, chains)]
        self._known: dict[str, list[Known]] = {}
        for one in known:
            if one.entry.name in {k.entry.name for k in here}:
                self._known.setdefault(one.entry.name, []).append(one)
        self._weights = {
            name: max(len(one.telling & on_host) for one in all_)
            for name, all_ in self._known.items()
        }
        self._sysctls = {one for one in on_host if one[0] == "sysctl"}
        self._tables = Counter((k[1], k[2]) for k in on_host if k[0] == "nft")

    def owner(self, item: Item) -> str:
        """Name the program an item belongs to."""
        if item.kind in ("iptables", "nft") or item.native:
            return self._of_rule(item)
        return self._by_rule(item) or HOST

    def _of_rule(self, item: Item) -> str:
        shared = item.built_in or (item.native and _is_shared(item))
        jumped = item.jump
        if shared:
            to = self._by_chain(item, jumped) if jumped else ""
            return to or self._by_rule(item) or _group(item, jumped)
        standing = self._by_chain(item, item.chain)
        if standing and not self._explains(standing, item):
            other = self._by_rule(item) or (self._by_chain(item, jumped) if jumped else "")
            return other or standing
        return standing or _group(item, item.chain)

    def _explains(self, name: str, item: Item) -> bool:
        return any(self._keys[item] in one.rules for one in self._known[name])

    def _by_rule(self, item: Item) -> str:
        """Name the program that has this very rule; of several, the one with the most rules."""
        fitting = [name for name in self._known if self._explains(name, item)]
        if not fitting and item.kind == "policy":
            fitting = [name for name in self._known if self._has_policy(name, item)]
        return max(fitting, key=self._weight, default="")

    def _has_policy(self, name: str, item: Item) -> bool:
        """Tell whether an entry has a policy rule and leaves its preference to the kernel."""
        return any(_free(self._keys[item]) in one.rules for one in self._known[name])

    def _told(self, items: Sequence[Item]) -> set[Key]:
        """Return the keys of items, of policy rules also without their preference."""
        keys = {self._keys[item] for item in items}
        return keys | {_free(one) for one in keys if one[0] == "policy"}

    def _weight(self, name: str) -> int:
        return self._weights[name]

    def _by_chain(self, item: Item, chain: str) -> str:
        table = table_shape(item.table)
        wanted, begins = (table, chain_shape(chain)), prefix(chain)
        exact = [
            name for name, all_ in self._known.items() if any(wanted in k.chains for k in all_)
        ]
        fitting = exact or [
            name
            for name, all_ in self._known.items()
            if any(begins in k.prefixes for k in all_) and item.kind == "iptables"
        ]
        fitting = fitting or self._by_own_table(item, table)
        return max(fitting, key=lambda name: self._rank(name, begins), default="")

    def _by_own_table(self, item: Item, table: str) -> list[str]:
        """Name the programs that have most of the chains of a table of nft."""
        if not item.native or table in _SHARED_TABLES:
            return []
        chains = {name for name in self._tables if name[0] == table}
        return [
            name
            for name, all_ in self._known.items()
            if any(2 * len(chains & k.chains) >= len(chains) for k in all_)
        ]

    def _rank(self, name: str, begins: str) -> tuple[int, int]:
        """Prefer whoever calls most of its chains so."""
        alike = max(sum(prefix(c) == begins for _, c in one.chains) for one in self._known[name])
        return alike, self._weight(name)

    def party(self, name: str, items: Sequence[Item]) -> Party:
        """Return a program with its lines and the release that is nearest to them."""
        if name not in self._known:
            return Party(name, tuple(items))
        candidates = sorted(
            self._known[name],
            key=lambda k: (self._distance(k, items), not k.entry.default_mode),
        )
        nearest = self._distance(candidates[0], items)
        alike = [k for k in candidates if self._distance(k, items) == nearest]
        best = max(alike, key=lambda k: (k.entry.default_mode, version(k.entry.release)))
        keys = self._told(items)
        native = {(self._keys[i][1], self._keys[i][2]) for i in items if i.kind == "nft"}
        unread = {key for key in best.rules if key[0] == "iptables" and key[1:3] in native}
        elsewhere = {key[1:3] for key in unread}  # rules of iptables that nft lists in its own way
        strange = tuple(
            i
            for i in items
            if _is_rule(i)
            and not self._explains(name, i)
            and not (i.kind == "nft" and self._keys[i][1:3] in elsewhere)
        )
        return Party(
            name,
            tuple(items),
            best.entry,
            tuple(i for i in strange if not self._has_policy(name, i)),
            len(best.expected(families(items)) - keys - unread),
            tuple(k.entry.title for k in alike if k is not best),
        )

    def _distance(self, known: Known, items: Sequence[Item]) -> int:
        """Count what is here and not in the entry, and the other way round."""
        keys = {self._keys[item] for item in items if _is_rule(item)}
        known_here = {one for one in keys if one in known.rules or _free(one) in known.rules}
        distance = len(keys - known_here) + len(known.expected(families(items)) - self._told(items))
        if self._sysctls:
            settings = {one for one in known.rules if one[0] == "sysctl"}
            distance += len(settings - self._sysctls)
        return distance


def families(items: Iterable[Item]) -> frozenset[Family]:
    """Return the address families that rules among some items are about."""
    ruled = {item.family for item in items if _is_rule(item)}
    return frozenset(family for family in FAMILIES if {family, None} & ruled)


def _free(one: Key) -> Key:
    kind, table, chain, said = one
    return kind, table, chain, tuple(part for part in said if part[0] != "pref")


def _is_rule(item: Item) -> bool:
    return item.kind in ("iptables", "nft", "policy")


def _is_shared(item: Item) -> bool:
    table = item.table.rpartition(" ")[2]
    return table in _SHARED_TABLES and item.chain in BUILTIN[table]


def _group(item: Item, chain: str) -> str:
    """Name those who nothing is known of by their chains or their table."""
    if item.native and item.table.rpartition(" ")[2] not in _SHARED_TABLES:
        return _name(item.table.rpartition(" ")[2])
    return _name(prefix(chain)) if chain else HOST


def _name(word: str) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in word.lower()).strip("-")
    return plain or HOST


def _present(known: Known, on_host: set[Key], chains: set[tuple[str, str]]) -> bool:
    """Tell whether enough of an entry is on the host."""
    hits = len(known.telling & on_host)
    if not known.chains:
        return hits > 0 and 2 * hits >= len(known.telling)
    there = len(known.chains & chains)
    return (
        _PART_OF_CHAINS * there >= len(known.chains)
        and _PART_OF_RULES * hits >= len(known.telling)
        and hits > 1
    )
