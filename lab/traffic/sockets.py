"""What sockets of flows are told beside their addresses."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import UnsupportedError

_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75  # include/uapi/linux/in.h and in6.h
_TCP_REPAIR = 19  # include/uapi/linux/tcp.h


@contextmanager
def silent_at_last(sock: socket.socket) -> Iterator[None]:
    """Close a TCP socket at the end without a packet, whatever state its connection is in.

    Otherwise the kernel would go on repeating what nobody has acknowledged: packets of one flow
    that are seen while another runs.
    """
    try:
        yield
    finally:
        drop(sock)


def answer_with_data(sock: socket.socket) -> None:
    """Have what a TCP socket receives acknowledged with what it sends, as far as TCP allows."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)


def drop(sock: socket.socket) -> None:
    """Close a TCP socket without a packet, now or later."""
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)


def make_transparent(sock: socket.socket, family: int) -> None:
    """Let a socket have addresses that are not this namespace's."""
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Make sockets that belong to ``uid``: netfilter's owner match reads the file's fsuid.

    Raises UnsupportedError in a user namespace that does not know the user.
    """
    if not uid:
        yield
        return
    library = ctypes.CDLL(None)
    before = library.setfsuid(uid)
    try:
        # setfsuid reports no error: the second call tells what stands.
        if library.setfsuid(uid) != uid:
            raise UnsupportedError(
                f"user {uid} is not known in this user namespace; run as root to send as that user"
            )
        yield
    finally:
        library.setfsuid(before)


def report_destination(sock: socket.socket, family: int) -> None:
    """Have recvmsg tell the local address, so that the answer leaves from it."""
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_PKTINFO", 8), 1)
