"""Naming the eBPF programs that are attached to devices without a tc filter: at tcx and netkit.

Layouts and numbers: include/uapi/linux/bpf.h (``union bpf_attr``, ``struct bpf_prog_info``).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator

from lab.kernel.bpf import syscall

PLACES = {"tcx ingress": 46, "tcx egress": 47, "netkit primary": 54, "netkit peer": 55}
_FD_BY_ID, _INFO_BY_FD, _QUERY = 13, 15, 16
_QUERIED = struct.Struct("=IIIIQIIQQQQ")
_MOST = 64
_INFO, _NAME = 256, slice(64, 80)
_NONE = (errno.ENOENT, errno.EINVAL, errno.ENXIO, errno.EOPNOTSUPP, errno.ENODEV, errno.EACCES)


def attached() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield device, place and the programs' names, for the current network namespace.

    Raises OSError where this user may not ask.
    """
    for index, device in socket.if_nameindex():
        for place, kind in PLACES.items():
            if names := tuple(map(_name, _programs(index, kind))):
                yield device, place, names


def _programs(index: int, kind: int) -> tuple[int, ...]:
    found = (ctypes.c_uint32 * _MOST)()
    content = _QUERIED.pack(index, kind, 0, 0, ctypes.addressof(found), _MOST, 0, 0, 0, 0, 0)
    result, content = syscall(_QUERY, content)
    if result < 0:
        if -result in _NONE:  # nothing there, no such kind of device, or an older kernel
            return ()
        raise OSError(-result, os.strerror(-result))
    return tuple(found[: _QUERIED.unpack(content)[5]])


def _name(number: int) -> str:
    """Return a program's name, or its number where this user may not look at it."""
    fd, _ = syscall(_FD_BY_ID, struct.pack("=III", number, 0, 0))
    if fd < 0:
        return f"program {number}"
    try:
        info = ctypes.create_string_buffer(_INFO)
        asked = struct.pack("=IIQ", fd, _INFO, ctypes.addressof(info))
        result, _ = syscall(_INFO_BY_FD, asked)
        name = info.raw[_NAME].partition(b"\0")[0].decode(errors="replace")
        return name if result == 0 and name else f"program {number}"
    finally:
        os.close(fd)
