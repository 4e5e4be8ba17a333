"""One request to rtnetlink, and the words that many lines have in common.

Whatever cannot be read raises ValueError, KeyError or IndexError.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from lab.kernel.netlink import NLM_ACK, attribute
from lab.kernel.route import TABLES, message

# Make it, and refuse what is there already; or put it in the place of that.
CREATE, REPLACE = 0x600, 0x500
_NAMED = {name: number for number, name in TABLES.items()}
_ALIASES = {"priority": "pref", "prio": "pref", "lookup": "table"}
_NUMBER = re.compile(r"0|0x[0-9a-fA-F]+|[1-9][0-9]*")
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True)
class Request:
    """A message but for the indexes of devices, of which every namespace has its own.

    That of ``device`` stands between ``before`` and ``after``, that of ``other`` behind them.
    """

    kind: int
    before: bytes
    device: str = ""
    after: bytes = b""
    other: str = ""
    flags: int = CREATE

    def encoded(self) -> bytes:
        """Return the message for the current namespace. Raises OSError where there is no device."""
        body = self.before + _index(self.device) + self.after + _index(self.other)
        return message(self.kind, body, NLM_ACK | self.flags)


def _index(device: str) -> bytes:
    return struct.pack("=I", socket.if_nametoindex(device)) if device else b""


def pairs(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return what is said under each word of ``known``, or its alias."""
    keys = [_ALIASES.get(word, word) for word in words[::2]]
    if len(set(keys)) != len(keys) or not set(keys) <= set(known):
        raise ValueError(keys)
    return dict(zip(keys, words[1::2], strict=True))


def prefix(written: str, family: int) -> tuple[bytes, int]:
    """Return an address and the length of the prefix, that of a whole one where none is given."""
    if not written:
        return b"", 0
    host, divided, length = written.partition("/")
    address = socket.inet_pton(family, host)
    bits = number(length) if divided else len(address) * 8
    if bits > len(address) * 8:
        raise ValueError(written)
    return address, bits


def device(name: str) -> str:
    """Return a name that a device may have."""
    if not _DEVICE.fullmatch(name):
        raise ValueError(name)
    return name


def table(name: str) -> tuple[int, bytes]:
    """Return what the header says of a table, and the attribute of one that it has no room for."""
    value = _NAMED[name] if name in _NAMED else number(name)
    return (value, b"") if value < 256 else (0, struct.pack("=I", value))


def number(written: str) -> int:
    """Return a number of 32 bits, decimal or hexadecimal."""
    if not _NUMBER.fullmatch(written) or int(written, 0) >> 32:
        raise ValueError(written)
    return int(written, 0)


def word(written: str | None) -> bytes:
    """Pack such a number, or nothing."""
    return b"" if written is None else struct.pack("=I", number(written))


def attributes(*parts: tuple[int, bytes]) -> bytes:
    """Pack attributes that say anything, each as number and value."""
    return b"".join(attribute(kind, value) for kind, value in parts if value)
