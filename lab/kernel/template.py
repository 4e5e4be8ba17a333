"""Tables of nf_tables as the kernel's own messages: read by nft once, put in anywhere afterwards.

libnftables takes milliseconds to read a ruleset, and the recorder's is installed in every namespace
of every experiment. What the kernel dumps of a table is what it takes to make it again
(include/uapi/linux/netfilter/nf_tables.h), except for the numbers that it gives out itself.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

from lab.kernel.netlink import (
    NLM_ACK,
    NLM_REQUEST,
    Attributes,
    Netfilter,
    attribute,
    attributes,
    each,
)
from lab.kernel.netns import Netns, assert_not
from lab.kernel.nftables import Nft

_INET, _NFTABLES = 1, 10
_BEGIN, _END = 16, 17
_CREATE, _APPEND = 0x400, 0x800
_TABLE, _CHAIN, _RULE, _SET = 0, 3, 6, 9
# Messages that make something, each with the one that dumps it and the attributes to keep: of a
# table its name and flags, of a set all but handle and number, of a chain all but counters. Then
# the attribute that holds the name, of a rule its chain's.
_PARTS = (
    (_TABLE, 1, (1, 2), 1),
    (_SET, 10, (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13), 2),
    (_CHAIN, 4, (1, 3, 4, 5, 7), 3),
    (_RULE, 7, (1, 2, 4), 2),
)
_CHAINS = re.compile(r"\bchain (\S+) \{")
_IS_NESTED = 0x8000
_NESTED = {(_SET, 9), (_CHAIN, 4), (_RULE, 4)}
_SET_NAME, _SET_ID, _EXPRESSIONS = 2, 10, 4
_ELEMENT, _NAME, _VALUE, _TIMEOUT = 1, 1, 2, 6


@dataclass(frozen=True, slots=True)
class Parts:
    """The messages that make a ruleset, in this order."""

    tables: tuple[bytes, ...]
    sets: tuple[bytes, ...]
    chains: tuple[bytes, ...]
    rules: tuple[bytes, ...]


def transaction(frame: str, chains: Sequence[str], home: Netns) -> bytes:
    """Return what installs one table of the family ``inet`` in one transaction.

    ``frame`` is the table with its sets; each of ``chains`` has one chain, in a table with the same
    sets but for their size. Those that were read before, in whatever company, are not read again.
    The calling thread is in ``home`` again afterwards. Raises OSError where nft does not take them.
    """
    known = _known()
    if frame not in known:
        known |= _read([frame], home)
    if unread := [chain for chain in chains if chain not in known]:
        known |= _read(unread, home)
    parts = [known[chain] for chain in chains]
    messages = (
        *known[frame].tables,
        *known[frame].sets,
        *(message for part in parts for message in part.chains),
        *(message for part in parts for message in part.rules),
    )
    return b"".join((_message(_BEGIN, 0, b""), *messages, _message(_END, 0, b"")))


@lru_cache(maxsize=1)
def _known() -> dict[str, Parts]:
    return {}


def _read(rulesets: Sequence[str], home: Netns) -> dict[str, Parts]:
    """Install rulesets in a namespace that is thrown away, and read back what each has become."""
    scratch = Netns.create("template")
    try:
        assert_not(home.inode)
        _install("".join(rulesets))
        with closing(Netfilter()) as socket:
            tables, sets, chains, rules = (_dumped(socket, *part) for part in _PARTS)
    finally:
        home.enter()
        scratch.close()
    every = tuple(message for _, message in tables), tuple(message for _, message in sets)
    return {
        ruleset: Parts(*every, _of(names, chains), _of(names, rules))
        for ruleset in rulesets
        for names in [{f"{name}\0".encode() for name in _CHAINS.findall(ruleset)}]
    }


def _install(rulesets: str) -> None:
    with closing(Nft()) as nft:
        _, error = nft.run(rulesets)
    if error:
        raise OSError(0, error)


def _of(names: set[bytes], dumped: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    return tuple(message for name, message in dumped if name in names)


def _dumped(
    socket: Netfilter, make: int, dump: int, kept: tuple[int, ...], name: int
) -> list[tuple[bytes, bytes]]:
    """List what there is of one kind: the chain's name, and the message that makes it."""
    found = socket.dump(_NFTABLES << 8 | dump, _INET)
    return [(one[name], _make(make, kept, one)) for one in found]


def _make(kind: int, kept: tuple[int, ...], found: Attributes) -> bytes:
    if kind == _RULE:
        found[_EXPRESSIONS] = b"".join(map(_expression, each(found[_EXPRESSIONS])))
    body = b"".join(
        attribute(number | (_IS_NESTED if (kind, number) in _NESTED else 0), found[number])
        for number in kept
        if number in found
    )
    if kind == _SET:  # a number of its own within the transaction
        body += attribute(_SET_ID, struct.pack("!I", zlib.crc32(found[_SET_NAME])))
    # Only the table is acknowledged; whatever is refused is reported.
    flags = _CREATE | (_APPEND if kind == _RULE else 0) | (NLM_ACK if kind == _TABLE else 0)
    return _message(_NFTABLES << 8 | kind, flags, body)


def _expression(content: bytes) -> bytes:
    """Return an element of a rule's list of expressions.

    Of ``add @set`` the kernel dumps a timeout of 0 where there is none, but takes none there.
    """
    parts = attributes(content)
    if parts[_NAME] == b"dynset\0" and not any(attributes(parts[_VALUE]).get(_TIMEOUT, b"")):
        value = attributes(parts[_VALUE])
        value.pop(_TIMEOUT, None)
        body = b"".join(attribute(kind, part) for kind, part in value.items())
        content = attribute(_NAME, parts[_NAME]) + attribute(_VALUE | _IS_NESTED, body)
    return attribute(_ELEMENT | _IS_NESTED, content)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    family = 0 if kind in (_BEGIN, _END) else _INET
    payload = struct.pack("!BBH", family, 0, _NFTABLES) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, NLM_REQUEST | flags, 0, 0) + payload
