"""Lines of ``ipset`` as requests: sets of addresses and of networks, and what is put into them.

Layouts: include/uapi/linux/netfilter/ipset/ip_set.h. A kind of set has several revisions, and
ipset chooses the newest that it and the kernel know. So the first of each kind is left to ipset,
and the kernel is asked which it was.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from typing import NamedTuple

from lab.kernel.netlink import Netfilter, attribute
from lab.rules.requests.request import number, pairs

_IPSET = 6 << 8
_CREATE, _ADD, _HEADER = 2, 9, 12
_EXCLUSIVE = 0x600  # NLM_F_CREATE, NLM_F_EXCL: what is there already is refused
_PROTOCOL, _NAME, _TYPE, _REVISION, _FAMILY, _DATA = 1, 2, 3, 4, 5, 7
_ADDRESS, _CIDR, _MOST = 1, 3, 19
_NESTED, _BIG_ENDIAN = 0x8000, 0x4000
_VERSION = attribute(_PROTOCOL, b"\x06")
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_A_NAME = re.compile(r"[^\s,]{1,31}")

Kind = tuple[str, int]
"""What a set is of, and the address family."""


class Message(NamedTuple):
    """What a line asks for. Of what makes a set the revision is missing, that of its ``kind``."""

    command: int
    name: str
    body: bytes
    kind: Kind | None = None

    def encoded(self) -> bytes:
        """Return the attributes. Raises KeyError where no set of the kind was seen yet."""
        body = self.body
        if self.kind:
            body += attribute(_REVISION, struct.pack("B", _revisions()[self.kind]))
        return _VERSION + _named(self.name) + body


def send(lines: Sequence[str]) -> int:
    """Do in the current namespace what lines say; return how many of them are done.

    None are where one cannot be read, or makes the first set of its kind.
    """
    read_ = [message for line in lines if (message := read(line))]
    unknown = {message.kind for message in read_ if message.kind} - _revisions().keys()
    if len(read_) != len(lines) or unknown:
        return 0
    with closing(Netfilter()) as kernel:
        for done, message in enumerate(read_):
            kind, family = _IPSET | message.command, socket.AF_INET
            try:
                kernel.request(kind, family, message.encoded(), flags=_EXCLUSIVE)
            except OSError:
                return done
    return len(lines)


def learn(lines: Sequence[str]) -> None:
    """Ask of which revision the sets are that ipset has made from lines."""
    made = {m.kind: m.name for m in map(read, lines) if m is not None and m.kind}
    for kind in made.keys() - _revisions().keys():
        with closing(Netfilter()) as kernel, suppress(OSError):  # it may have another name by now
            _revisions()[kind] = _revision(kernel, made[kind])


def _revision(kernel: Netfilter, name: str) -> int:
    (found,) = kernel.ask(_IPSET | _HEADER, socket.AF_INET, _VERSION + _named(name))
    return found[_REVISION][0]


@lru_cache(maxsize=1)
def _revisions() -> dict[Kind, int]:
    return {}


@lru_cache(maxsize=1024)
def read(line: str) -> Message | None:
    """Read a line of ``ipset``; None where it says anything else than is known here."""
    try:
        verb, name, *words = line.split()
        return {"create": _create, "add": _add}[verb](_checked(name), words)
    except (KeyError, ValueError, OSError):
        return None


def _checked(name: str) -> str:
    if not _A_NAME.fullmatch(name):
        raise ValueError(name)
    return name


def _named(name: str) -> bytes:
    return attribute(_NAME, name.encode() + b"\0")


def _create(name: str, words: list[str]) -> Message:
    of, *said = words
    if of not in ("hash:ip", "hash:net"):
        raise ValueError(of)
    given = pairs(said, ("family", "maxelem"))
    family = _FAMILIES[given.get("family", "inet")]
    body = attribute(_TYPE, of.encode() + b"\0") + attribute(_FAMILY, struct.pack("B", family))
    return Message(_CREATE, name, body + attribute(_DATA | _NESTED, _most(given)), (of, family))


def _most(given: dict[str, str]) -> bytes:
    if "maxelem" not in given:
        return b""
    return attribute(_MOST | _BIG_ENDIAN, struct.pack("!I", number(given["maxelem"])))


def _add(name: str, words: list[str]) -> Message:
    (written,) = words
    host, divided, length = written.partition("/")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.inet_pton(family, host)
    kind = 2 if family == socket.AF_INET6 else 1
    data = attribute(_ADDRESS | _NESTED, attribute(kind | _BIG_ENDIAN, address))
    if divided:
        data += attribute(_CIDR, struct.pack("B", _bits(length, address)))
    return Message(_ADD, name, attribute(_DATA | _NESTED, data))


def _bits(length: str, address: bytes) -> int:
    bits = number(length)
    if not 0 < bits <= len(address) * 8:
        raise ValueError(length)
    return bits
