"""Legacy tables of iptables as the kernel hands them out, and put in elsewhere as a whole.

Layouts of 64-bit kernels: include/uapi/linux/netfilter_ipv4/ip_tables.h (struct ipt_getinfo,
ipt_get_entries, ipt_replace) and x_tables.h; those of ip6_tables.h are the same.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from dataclasses import dataclass

_LEVELS: dict[int, int] = {socket.AF_INET: 0, socket.AF_INET6: 41}
_REPLACE = _GET_INFO = 64
_GET_ENTRIES = 65
_INFO = struct.Struct("=32sI20s20sII")
_BEFORE_ENTRIES = 40
POINTER = 8
"""Size of a pointer, in bytes, of the kernels whose layouts these are."""
_HEAD = struct.Struct("@32sIII20s20sIP")
_COUNTER = 16
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Table:
    """One table: at which hooks it is called, where their chains begin, and all its rules.

    ``starts`` are offsets of the chains' first rules and of their policies.
    """

    name: str
    hooks: int
    starts: tuple[bytes, bytes]
    number: int
    entries: bytes


def read(family: int, name: str) -> Table:
    """Read a table of the current namespace; the kernel makes an empty one. Raises OSError."""
    with _opened(family) as sock:
        _, hooks, first, last, number, size = _info(sock, family, name)
        content = _asked(sock, family, _GET_ENTRIES, name, struct.pack("=I", size), 4 + size)
        return Table(name, hooks, (first, last), number, content[_BEFORE_ENTRIES:])


def replace(family: int, table: Table) -> None:
    """Put a table in the place of that of the current namespace. Raises OSError."""
    with _opened(family) as sock:
        *_, number, _ = _info(sock, family, table.name)
        counters = ctypes.create_string_buffer(number * _COUNTER)  # the old ones are handed out
        head = _HEAD.pack(
            table.name.encode(),
            table.hooks,
            table.number,
            len(table.entries),
            *table.starts,
            number,
            ctypes.addressof(counters),
        )
        sock.setsockopt(_LEVELS[family], _REPLACE, head + table.entries)


def _opened(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)


def _info(sock: socket.socket, family: int, name: str) -> tuple[bytes, int, bytes, bytes, int, int]:
    content = _asked(sock, family, _GET_INFO, name, b"", _INFO.size - 32)
    found: tuple[bytes, int, bytes, bytes, int, int] = _INFO.unpack(content)
    return found


def _asked(
    sock: socket.socket, family: int, option: int, name: str, said: bytes, more: int
) -> bytes:
    """Call getsockopt with a question in the buffer, which Python's own cannot do."""
    size = 32 + more + (4 if option == _GET_ENTRIES else 0)
    buffer = ctypes.create_string_buffer(name.encode().ljust(32, b"\0") + said, size)
    length = ctypes.c_uint32(size)
    level = _LEVELS[family]
    done = _libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(length))
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"table {name}: {os.strerror(number)}")
    return buffer.raw[: length.value]
