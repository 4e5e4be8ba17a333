"""What the registry's entries install, in the form in which a host's rules are compared [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lab.capture.listed import Item, Kind
from lab.capture.shapes import Key, chain_shape, key, prefix, table_shape
from lab.native import nft_text, normal, normal_policy
from lab.native.iptables_text import BUILTIN, changes
from lab.native.lines import lines
from lab.native.normal import Normal
from lab.registry.placeholders import fill, names
from lab.registry.software import Ruleset, Software
from lab.topology import library
from lab.traffic.flow import FAMILIES, Family

_SAME_ANYWHERE = ("ip", "any", "loopback")
"""Facts that are no address or device of a certain host."""
_MARKS = ("mark", "--set-xmark", "--save-mark", "--restore-mark")
ChainName = tuple[str, str]
"""Table without its family, and the shape of a chain's name."""


@dataclass(frozen=True)
class Known:
    """One entry: the keys of its rules, and what it calls its chains and tables."""

    entry: Software
    rules: Mapping[Key, tuple[Normal, ...]]
    chains: frozenset[ChainName]
    prefixes: frozenset[str] = field(default=frozenset())
    families: Mapping[Key, frozenset[Family]] = field(default_factory=dict)

    @cached_property
    def telling(self) -> frozenset[Key]:
        """Return the keys that another program would hardly have: of its chains or with marks."""
        own = {name for _, name in self.chains}
        return frozenset(
            one
            for one in self.rules
            if one[0] in ("iptables", "nft", "policy")
            and ((one[1], one[2]) in self.chains or _jumps(one, own) or _marks(one))
        )

    def expected(self, families: frozenset[Family]) -> frozenset[Key]:
        """Return the telling keys of rules of some families."""
        return frozenset(one for one in self.telling if self.families[one] & families)


def _jumps(one: Key, chains: set[str]) -> bool:
    return any(word in chains for part in one[3] for word in part)


def _marks(one: Key) -> bool:
    return any("mark" in word for part in one[3] for word in part)


def known(entries: Iterable[Software]) -> tuple[Known, ...]:
    """Read every entry's rules of the node; those of pods are no host's."""
    return tuple(_known(entry) for entry in entries)


def _known(entry: Software) -> Known:
    rules: dict[Key, dict[Normal, None]] = {}
    chains: set[tuple[str, str]] = set()
    families: dict[Key, frozenset[Family]] = {}
    for family in FAMILIES:
        for ruleset in entry.rulesets:
            if ruleset.node == "node" and family in ruleset.families:
                text = _filled(ruleset, entry, family)
                for item in _items(ruleset, text):
                    one = key(item)
                    rules.setdefault(one, {})[item.normal] = None
                    families[one] = families.get(one, frozenset()) | {family}
                chains.update(_chains(ruleset, text))
    shapes = frozenset((table_shape(table), chain_shape(name)) for table, name in chains)
    found = {one: tuple(texts) for one, texts in rules.items()}
    prefixes = frozenset(prefix(name) for _, name in chains)
    return Known(entry, found, shapes, prefixes, families)


def _filled(ruleset: Ruleset, entry: Software, family: Family) -> str:
    topology = library.find("kubernetes-node").facts_for(family)
    marked = {name: f"_role_{name}_" for name in topology}
    marked |= {name: topology[name] for name in _SAME_ANYWHERE}
    own = {name: v4 if family == "ipv4" else v6 for name, v4, v6 in entry.facts}
    marked |= {name: fill(text, marked, entry.file) for name, text in own.items()}
    return (
        fill(ruleset.text, marked, ruleset.file, ruleset.line)
        if names(ruleset.text)
        else ruleset.text
    )


def _items(ruleset: Ruleset, text: str) -> Iterator[Item]:
    if ruleset.tool == "iptables":
        for change in changes(text):
            if change.verb in ("append", "insert"):
                said = normal.iptables(change.text)
                yield _item("iptables", change.text, said, change.table, change.chain)
    elif ruleset.tool == "nft":
        for rule in nft_text.rules(text):
            said = normal.nft(rule.text)
            yield _item("nft", rule.text, said, f"{rule.family} {rule.table}", rule.chain)
    elif ruleset.tool in ("ip", "sysctl"):
        for line in lines(text):
            yield from _line(ruleset.tool, line.text)


def _line(tool: str, text: str) -> Iterator[Item]:
    if tool == "sysctl":
        name, _, value = text.partition("=")
        yield _item("sysctl", text, ((name.strip(), value.strip()),))
    elif text.startswith("rule add"):
        yield _item("policy", text, normal_policy.policy(text))
    elif text.startswith("route add"):
        yield _item("route", text, normal_policy.route(text))


def _item(kind: Kind, text: str, said: Normal, table: str = "", chain: str = "") -> Item:
    return Item(kind, "", 0, text, said, table=table, chain=chain)


def _chains(ruleset: Ruleset, text: str) -> Iterator[tuple[str, str]]:
    """Yield the chains of its own that a ruleset declares, or of a table of nft has rules in."""
    if ruleset.tool == "iptables":
        for change in changes(text):
            if change.verb == "declare" and change.chain not in BUILTIN[change.table]:
                yield change.table, change.chain
    elif ruleset.tool == "nft":
        for rule in nft_text.rules(text):
            if rule.table not in BUILTIN or rule.chain not in BUILTIN[rule.table]:
                yield rule.table, rule.chain
