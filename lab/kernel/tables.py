"""Tables of nf_tables as the kernel's own messages.

What the kernel dumps of a table is what it takes to make it again, except for the numbers that it
gives out itself (include/uapi/linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from enum import Enum

from lab.kernel.netlink import (
    NLM_ACK,
    NLM_REQUEST,
    Attributes,
    Netfilter,
    attribute,
    attributes,
    each,
)

_NFTABLES = 10
_BEGIN, _END = 16, 17
_CREATE, _APPEND = 0x400, 0x800
_IS_NESTED = 0x8000
_SET_NAME, _SET_ID, _EXPRESSIONS = 2, 10, 4
_ELEMENT, _NAME, _VALUE, _TIMEOUT = 1, 1, 2, 6


class Part(Enum):
    """What a table is made of: the message that makes one, and the one that dumps it."""

    TABLE = 0, 1
    CHAIN = 3, 4
    RULE = 6, 7
    SET = 9, 10


# The attributes to keep: of a table its name and flags, of a set all but handle and number, of a
# chain all but counters, of a rule what it does and what it says of itself.
_KEPT = {
    Part.TABLE: (1, 2),
    Part.SET: (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13),
    Part.CHAIN: (1, 3, 4, 5, 7),
    Part.RULE: (1, 2, 4, 7),
}
_NESTED = {(Part.SET, 9), (Part.CHAIN, 4), (Part.RULE, 4)}


def dump(socket: Netfilter, part: Part, family: int) -> Iterator[Attributes]:
    """Yield all of one kind that a family has in the namespace. Raises OSError."""
    yield from socket.dump(_NFTABLES << 8 | part.value[1], family)


def made(part: Part, family: int, found: Attributes, more: bytes = b"") -> bytes:
    """Return the message that makes what was dumped; ``more`` are further attributes."""
    if part is Part.RULE:
        found[_EXPRESSIONS] = b"".join(map(_expression, each(found[_EXPRESSIONS])))
    body = b"".join(
        attribute(number | (_IS_NESTED if (part, number) in _NESTED else 0), found[number])
        for number in _KEPT[part]
        if number in found
    )
    if part is Part.SET:  # a number of its own within the transaction
        body += attribute(_SET_ID, struct.pack("!I", zlib.crc32(found[_SET_NAME])))
    # Only the table is acknowledged; whatever is refused is reported.
    append, acknowledge = part is Part.RULE, part is Part.TABLE
    flags = _CREATE | (_APPEND if append else 0) | (NLM_ACK if acknowledge else 0)
    return _message(_NFTABLES << 8 | part.value[0], flags, family, body + more)


def transaction(messages: Iterable[bytes]) -> bytes:
    """Return what has the kernel do all of the messages or nothing."""
    return b"".join((_message(_BEGIN, 0, 0, b""), *messages, _message(_END, 0, 0, b"")))


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


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    payload = struct.pack("!BBH", family, 0, _NFTABLES) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, NLM_REQUEST | flags, 0, 0) + payload
