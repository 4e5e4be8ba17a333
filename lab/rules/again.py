"""What iptables-restore has once made of a text, put into other nodes as the kernel told it.

The same rules are loaded into hundreds of empty nodes, and starting the program takes longer than
all else about it. So the first time it is started, and the kernel is asked what there is now: of
nf_tables the messages that make it (``lab.kernel.tables``), of legacy tables their contents. That
is done only with matches and targets that keep nothing to themselves but what they were told: a
set, for one, is known by a number that other sets change.
"""

from __future__ import annotations

import re
import shlex
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache

from lab.kernel import tables, xtables
from lab.kernel.netlink import Attributes, Netfilter, attribute
from lab.kernel.tables import Part
from lab.native.iptables_text import changes
from lab.rules.installed import Installed
from lab.scenario import Variant

_MOST = 512
_MATCHES = frozenset(
    ("addrtype", "comment", "connmark", "conntrack", "esp", "icmp", "icmp6", "mac", "mark")
)
_MATCHES |= {"multiport", "owner", "physdev", "policy", "rpfilter", "socket", "state", "tcp", "udp"}
_TARGETS = frozenset(("ACCEPT", "DROP", "REJECT", "RETURN", "NFLOG", "TCPMSS", "TPROXY"))
_TARGETS |= {"CONNMARK", "CT", "DNAT", "MARK", "MASQUERADE", "NOTRACK", "REDIRECT", "SNAT"}
_SPELT = ("--match", "--jump", "--goto", "--protocol")
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "esp": 50, "all": 0}
_TABLE = re.compile(r"^\*(\w+)", re.MULTILINE)
_FAMILIES = {"ipv4": (2, socket.AF_INET), "ipv6": (10, socket.AF_INET6)}
_TABLE_OF, _CHAIN_OF = 1, 2  # the first is also the name of a table itself
_PARTS = Part.TABLE, Part.CHAIN, Part.RULE, Part.SET
_COMPAT, _PROTOCOL, _FLAGS, _INVERTED, _NESTED = 5, 1, 2, 2, 0x8000

Key = tuple[Variant, str, str]
"""The variant of iptables, the family, and the text."""


@dataclass(frozen=True, slots=True)
class Made:
    """What there is after a text: a transaction of nf_tables, or legacy tables."""

    transaction: bytes = b""
    legacy: tuple[xtables.Table, ...] = ()


@lru_cache(maxsize=1)
def _known() -> dict[Key, Made | None]:
    return {}


def is_empty(installed: Installed, variant: Variant, text: str) -> bool:
    """Tell whether nothing stands yet in the tables of a text."""
    if variant == "legacy":
        return not installed.legacy.chains
    named = {f"{installed.keyword} {name}" for name in _TABLE.findall(text)}
    return named.isdisjoint(table for table, _ in installed.nftables.chains)


def put(installed: Installed, variant: Variant, text: str) -> bool:
    """Put into the current namespace, where it is empty, what was made of a text before.

    Returns whether it is there. Raises OSError where only some of it is.
    """
    key = variant, installed.family, text
    made = _known().get(key)
    if made is None:
        return False
    try:
        _start(made, _FAMILIES[installed.family][1])
    except OSError:  # nothing has changed, and the program says why
        _known()[key] = None
        return False
    for table in made.legacy[1:]:
        xtables.replace(_FAMILIES[installed.family][1], table)
    return True


def _start(made: Made, family: int) -> None:
    if made.transaction:
        with closing(Netfilter()) as kernel:
            kernel.transact(made.transaction)
    for table in made.legacy[:1]:
        xtables.replace(family, table)


def learn(installed: Installed, variant: Variant, text: str) -> None:
    """Keep what iptables-restore has made of a text in the current namespace, which was empty."""
    key = variant, installed.family, text
    if key in _known():
        return
    if len(_known()) >= _MOST:
        _known().clear()
    _known()[key] = None
    if _is_plain(text):
        with suppress(OSError):
            _known()[key] = (_legacy if variant == "legacy" else _nf_tables)(installed, text)


def _legacy(installed: Installed, text: str) -> Made | None:
    if struct.calcsize("P") != xtables.POINTER:
        return None
    family = _FAMILIES[installed.family][1]
    names = dict.fromkeys(_TABLE.findall(text))
    return Made(legacy=tuple(xtables.read(family, name) for name in names))


def _nf_tables(installed: Installed, text: str) -> Made | None:
    family = _FAMILIES[installed.family][0]
    names = {f"{name}\0".encode() for name in _TABLE.findall(text)}
    with closing(Netfilter()) as kernel:
        every, chains, rules, sets = (
            [one for one in tables.dump(kernel, part, family) if one[_TABLE_OF] in names]
            for part in _PARTS
        )
    more = list(_compatible(rules, installed))
    if sets or len(more) != len(rules):
        return None
    messages = (
        *(tables.made(Part.TABLE, family, one) for one in every),
        *(tables.made(Part.CHAIN, family, one) for one in chains),
        *(tables.made(Part.RULE, family, *one) for one in zip(rules, more, strict=True)),
    )
    return Made(tables.transaction(messages))


def _compatible(rules: Iterable[Attributes], installed: Installed) -> Iterator[bytes]:
    """Yield for each rule its protocol, which xtables' own matches and targets have to know.

    The kernel takes it but does not dump it (net/netfilter/nft_compat.c, nft_parse_compat).
    """
    seen: dict[tuple[str, str], int] = {}
    for rule in rules:
        table, chain = (rule[at].rstrip(b"\0").decode() for at in (_TABLE_OF, _CHAIN_OF))
        key = f"{installed.keyword} {table}", chain
        number = seen[key] = seen.get(key, -1) + 1
        written = installed.nftables.chains.get(key, [])
        if number >= len(written):
            return
        protocol, inverted = _protocol(shlex.split(written[number].written))
        value = attribute(_PROTOCOL, struct.pack("!I", protocol)) + attribute(
            _FLAGS, struct.pack("!I", _INVERTED if inverted else 0)
        )
        yield attribute(_COMPAT | _NESTED, value) if protocol else b""


def _protocol(words: list[str]) -> tuple[int, bool]:
    """Return the protocol that a rule is about, 0 for any, and whether it is about all others."""
    for number, word in enumerate(words):
        if word in ("-p", "--protocol"):
            name = words[number + 1].lower()
            value = int(name) if name.isdecimal() else _PROTOCOLS[name]
            return value, words[number - 1] == "!"
    return 0, False


def _is_plain(text: str) -> bool:
    """Tell whether rules are only added, with matches, targets and protocols known to be plain."""
    found = list(changes(text))
    chains = {change.chain for change in found}
    try:
        return all(
            change.verb == "declare"
            or (change.verb in ("append", "insert") and _is_known(shlex.split(change.text), chains))
            for change in found
        )
    except (ValueError, KeyError, IndexError):
        return False


def _is_known(words: list[str], chains: set[str]) -> bool:
    _protocol(words)
    allowed = dict.fromkeys(("-m", "--match"), _MATCHES)
    allowed |= dict.fromkeys(("-j", "-g", "--jump", "--goto"), _TARGETS | chains)
    return not any(
        (word in allowed and following not in allowed[word])
        or (word[:2] in ("-m", "-j", "-g", "-p") and len(word) > 2)
        or (len(word) > 2 and any(full != word and full.startswith(word) for full in _SPELT))
        for word, following in zip(words, [*words[1:], ""], strict=True)
    )
