"""Framing of netlink messages, for the few requests that are on the hot path.

Everything else goes through pyroute2; its decoder costs milliseconds per rule, and an experiment
reads thousands of trace messages. Layouts: include/uapi/linux/netlink.h and nfnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
NLM_REQUEST, NLM_ACK, NLM_DUMP = 0x01, 0x04, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_FAMILY = struct.Struct("=BBH")
_CHUNK, _BLOCK = 1 << 16, 1 << 13

Attributes = dict[int, bytes]


class Netfilter:
    """One nfnetlink socket of the namespace in which it was opened."""

    def __init__(self, groups: tuple[int, ...] = (), receive_buffer: int = 0) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self._sequence = 0
        if receive_buffer:
            _enlarge(self.socket, receive_buffer)
        for group in groups:
            self.socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def request(
        self, kind: int, family: int, body: bytes, resource: int = 0, flags: int = 0
    ) -> None:
        """Send one request and wait for its acknowledgement; raises OSError as the kernel says."""
        self._send(kind, NLM_REQUEST | NLM_ACK | flags, family, body, resource)
        for _ in self._answers():
            pass

    def ask(self, kind: int, family: int, body: bytes) -> list[Attributes]:
        """Return the attributes of each object in the answer to one question. Raises OSError."""
        self._send(kind, NLM_REQUEST | NLM_ACK, family, body, 0)
        return [attributes(payload, 4) for payload in self._answers()]

    def transact(self, batch: bytes) -> None:
        """Send the messages of one transaction, at least one of which asks for acknowledgement.

        Raises OSError as the kernel says of the first one that it refuses.
        """
        self.socket.send(batch)  # it is carried out, and answered, before this returns
        received = (payload for block in self.pending() for _, payload in messages(block))
        answers = [struct.unpack_from("=i", payload)[0] for payload in received]
        if not answers or any(answers):
            number = next((-answer for answer in answers if answer), errno.EPROTO)
            raise OSError(number, f"netlink: {os.strerror(number)}")

    def dump(self, kind: int, family: int, body: bytes = b"") -> Iterator[Attributes]:
        """Yield the attributes of each object of a dump. Raises OSError."""
        self._send(kind, NLM_REQUEST | NLM_DUMP, family, body, 0)
        for payload in self._answers():
            yield attributes(payload, 4)

    def pending(self) -> Iterator[bytes]:
        """Yield every block of messages received so far, 8 KiB at most each, without waiting.

        Raises OSError with ENOBUFS where the kernel had to throw messages away.
        """
        receive, flags = self.socket.recv, socket.MSG_DONTWAIT
        while True:
            try:
                yield receive(_BLOCK, flags)
            except BlockingIOError:
                return

    def room(self) -> int:
        """Return the size of the receive buffer in bytes, as the kernel accounts it."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def _send(self, kind: int, flags: int, family: int, body: bytes, resource: int) -> None:
        self._sequence += 1
        payload = _FAMILY.pack(family, 0, socket.htons(resource)) + body
        header = _HEADER.pack(16 + len(payload), kind, flags, self._sequence, 0)
        self.socket.send(header + payload)

    def _answers(self) -> Iterator[bytes]:
        while True:
            for kind, payload in messages(self.socket.recv(_CHUNK)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    if number:
                        raise OSError(number, f"netlink: {os.strerror(number)}")
                    return
                yield payload


def _enlarge(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:  # an ordinary user gets net.core.rmem_max at most
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def messages(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a received block into (type, payload) pairs."""
    offset, size = 0, len(block)
    while offset + 16 <= size:
        length, kind, _, _, _ = _HEADER.unpack_from(block, offset)
        yield kind, block[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def attributes(payload: bytes, offset: int = 0) -> Attributes:
    """Read a run of attributes; the nested and byte-order flags of the type are dropped."""
    found: Attributes = {}
    size = len(payload)
    unpack = _ATTRIBUTE.unpack_from
    while offset + 4 <= size:
        length, kind = unpack(payload, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def each(payload: bytes) -> Iterator[bytes]:
    """Yield the values of a list attribute in order."""
    offset, size = 0, len(payload)
    while offset + 4 <= size:
        length, _ = _ATTRIBUTE.unpack_from(payload, offset)
        if length < 4:
            return
        yield payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """Pack one attribute with its padding."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def lost(problem: OSError) -> bool:
    """Tell whether a receive error means that messages were thrown away."""
    return problem.errno == errno.ENOBUFS
