"""rtnetlink on the hot path: encoded batches, link readiness and route look-ups.

pyroute2 encodes (see ``lab.topology.build``); the bytes are kept, because one topology is built
hundreds of times and encoding it costs ten times what the kernel needs to build it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import SandboxError
from lab.kernel.netlink import (
    NLM_DUMP,
    NLM_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attribute,
    attributes,
    messages,
)

_GETLINK, _GETROUTE, _GETRULE = 18, 26, 34
_IFLA_OPERSTATE, _UP = 16, 6
_SIOCGIFNAME = 0x8910
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY = 1, 2, 3, 4, 5
_RTA_TABLE, _RTA_MARK, _RTA_PROTO, _RTA_SPORT, _RTA_DPORT = 15, 16, 27, 28, 29
TABLES = {253: "default", 254: "main", 255: "local"}
_LOOKUP_TABLE, _FIB_MATCH = 0x1000, 0x2000
_RTN_LOCAL = 2
_RTF_LOCAL = 0x80000000
_PATIENCE, _A_WHILE = 5, 1


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is asked of the routing tables; ``iif`` is 0 for a packet that starts here."""

    source: str
    destination: str
    mark: int
    iif: int = 0
    protocol: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Which table and route answered; ``error`` is the kernel's refusal, such as EHOSTUNREACH."""

    table: int = 0
    device: int = 0
    gateway: str = ""
    prefix: str = ""
    error: str = ""
    local: bool = False


class Router:
    """One rtnetlink socket of the namespace in which it was opened."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        # A timeout of Python's own would have it poll before every call.
        patience = struct.pack("@ll", _PATIENCE, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)

    def send(self, batch: bytes, count: int) -> None:
        """Send an encoded batch of ``count`` acknowledged requests; raises OSError on a refusal."""
        self._socket.send(batch)
        answered = 0
        while answered < count:
            for kind, payload in messages(self._received()):
                if kind == NLMSG_ERROR:
                    answered += 1
                    number = -struct.unpack_from("=i", payload)[0]
                    if number:
                        raise OSError(number, f"request {answered}: {os.strerror(number)}")

    def has_link(self, index: int) -> bool:
        """Tell whether a link is in this namespace.

        One that is being deleted is not: making another waits for that, this question does not.
        """
        try:
            fcntl.ioctl(self._socket, _SIOCGIFNAME, struct.pack("=16si20x", b"", index))
        except OSError as problem:
            if problem.errno in (errno.ENODEV, errno.ENXIO):
                return False
            raise
        return True

    def wait_until_up(self, index: int) -> None:
        """Wait until a link transmits.

        A first packet is lost in up to a third of all cases unless the link was asked for its
        state; the request itself makes the kernel finish the pending work.
        """
        deadline = time.monotonic() + _PATIENCE
        while self.state(index) != _UP:
            if time.monotonic() > deadline:
                raise SandboxError(f"interface {index} did not come up within {_PATIENCE} s")
            select.select((), (), (), 0.0005)

    def wait_until_local(self, address: str) -> None:
        """Wait until packets to an address of this namespace are delivered here.

        The kernel adds the local route of an IPv6 address from a work queue (net/ipv6/addrconf.c,
        addrconf_dad_work), even without duplicate address detection.
        """
        deadline = time.monotonic() + _PATIENCE
        while not self.look_up(Lookup("", address, 0)).local:
            if time.monotonic() > deadline:
                raise SandboxError(f"address {address} was not usable within {_PATIENCE} s")
            select.select((), (), (), 0.0005)

    def state(self, index: int) -> int:
        """Return how far a link is up (RFC 2863), having the kernel finish pending work on it."""
        body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
        self._socket.send(message(_GETLINK, body))
        for kind, payload in messages(self._received()):
            if kind == NLMSG_ERROR:
                raise SandboxError(f"interface {index} does not exist")
            return attributes(payload, 16).get(_IFLA_OPERSTATE, b"\0")[0]
        return 0

    def look_up(self, question: Lookup) -> Answer:
        """Ask which table and route a packet with this mark takes."""
        family = socket.AF_INET6 if ":" in question.destination else socket.AF_INET
        bits = 128 if family == socket.AF_INET6 else 32
        header = struct.pack(
            "=BBBBBBBBI", family, bits, bits, 0, 0, 0, 0, 0, _LOOKUP_TABLE | _FIB_MATCH
        )
        self._socket.send(message(_GETROUTE, header + _question(question, family)))
        for kind, payload in messages(self._received()):
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                return Answer(error=os.strerror(number))
            return _answer(payload, family)
        return Answer(error="no answer")

    def dump_rules(self, family: int) -> Iterator[bytes]:
        """Yield the policy rules in the kernel's order, as received."""
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
        self._socket.send(message(_GETRULE, body, NLM_DUMP))
        while True:
            for kind, payload in messages(self._received()):
                if kind == NLMSG_DONE:
                    return
                yield payload

    def _received(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except BlockingIOError:
            raise TimeoutError(f"rtnetlink did not answer within {_PATIENCE} s") from None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def wait_for_local_routes(addresses: Iterable[str]) -> None:
    """Wait until IPv6 addresses of the current namespace have their local routes, a second at most.

    The kernel adds them from a work queue, and only when the device has a carrier. A look-up, as
    in ``Router.wait_until_local``, would be answered by whatever policy rules stand first.
    """
    missing = {socket.inet_pton(socket.AF_INET6, address).hex() for address in addresses}
    deadline = time.monotonic() + _A_WHILE
    while missing and time.monotonic() < deadline:
        missing -= set(_local_addresses())
        if missing:
            select.select((), (), (), 0.0005)


def _local_addresses() -> Iterator[str]:
    for line in Path("/proc/thread-self/net/ipv6_route").read_text().splitlines():
        words = line.split()
        if words[1] == "80" and int(words[8], 16) & _RTF_LOCAL:
            yield words[0]


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Frame one request; ``flags`` beside the one that says so."""
    return struct.pack("=IHHII", 16 + len(body), kind, NLM_REQUEST | flags, 1, 0) + body


def _question(question: Lookup, family: int) -> bytes:
    body = attribute(_RTA_DST, socket.inet_pton(family, question.destination))
    if question.source:
        body += attribute(_RTA_SRC, socket.inet_pton(family, question.source))
    if question.iif:
        body += attribute(_RTA_IIF, struct.pack("=I", question.iif))
    if question.protocol:
        body += attribute(_RTA_PROTO, struct.pack("=B", question.protocol))
    return body + attribute(_RTA_MARK, struct.pack("=I", question.mark))


def _answer(payload: bytes, family: int) -> Answer:
    length = payload[1]
    found = attributes(payload, 12)
    prefix = found.get(_RTA_DST)
    gateway = found.get(_RTA_GATEWAY)
    return Answer(
        table=struct.unpack("=I", found[_RTA_TABLE])[0] if _RTA_TABLE in found else payload[4],
        device=struct.unpack("=I", found[_RTA_OIF])[0] if _RTA_OIF in found else 0,
        gateway=socket.inet_ntop(family, gateway) if gateway else "",
        prefix=f"{socket.inet_ntop(family, prefix)}/{length}" if prefix else "default",
        local=payload[7] == _RTN_LOCAL,
        error="" if payload[7] not in (6, 7, 8) else "refused by the route's type",
    )
