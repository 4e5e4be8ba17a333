"""The eBPF programs that the lab's small language cannot say, as instructions.

Instruction set: Documentation/bpf/standardization/instruction-set.rst; offsets of ``struct
__sk_buff`` and ``struct xdp_md``, and helper numbers: include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

from lab.errors import UnsupportedError

_MARK, _SKB_DATA, _SKB_META = 8, 76, 140
_XDP_DATA, _XDP_META = 0, 8
_CLONE_REDIRECT, _ADJUST_META = 13, 54
_PASS, _UNSPEC = 2, -1
_LOAD, _LINK_CREATE = 5, 28
XDP, GROUP_PACKETS, GROUP_SOCKETS, ROUTE_OUT = 6, 8, 9, 11
"""Types of programs (``enum bpf_prog_type``)."""
_SOCKET_MARK = 16
_SYSCALLS = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361}
_libc = ctypes.CDLL(None, use_errno=True)


def _code(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    signed = immediate - (1 << 32) if immediate > 0x7FFFFFFF else immediate
    return struct.pack("<BBhi", code, src << 4 | dst, offset, signed)


def _move(dst: int, src: int) -> bytes:
    return _code(0xBF, dst, src)


def _set(dst: int, value: int) -> bytes:
    return _code(0xB4, dst, immediate=value)  # 32 bits; the upper half becomes zero


def _load(dst: int, src: int, offset: int) -> bytes:
    return _code(0x61, dst, src, offset)


def _store(dst: int, src: int, offset: int) -> bytes:
    return _code(0x63, dst, src, offset)


def _call(helper: int) -> bytes:
    return _code(0x85, immediate=helper)


def _leave(value: int) -> bytes:
    return _code(0xB7, 0, immediate=value) + _code(0x95)


def clone(mark: int, index: int) -> bytes:
    """Set the mark, then ``bpf_clone_redirect(skb, index, 0)``."""
    head = _move(6, 1) + _set(0, mark) + _store(6, 0, _MARK)
    return (
        head + _move(1, 6) + _set(2, index) + _set(3, 0) + _call(_CLONE_REDIRECT) + _leave(_UNSPEC)
    )


def store_metadata(mark: int) -> bytes:
    """Write a word in front of the frame: ``bpf_xdp_adjust_meta(xdp, -4)``, XDP_PASS."""
    head = _move(6, 1) + _code(0xB7, 2, immediate=-4) + _call(_ADJUST_META)
    load = _load(2, 6, _XDP_META) + _load(3, 6, _XDP_DATA)
    return head + load + _within(_set(0, mark) + _store(2, 0, 0)) + _leave(_PASS)


def mark_from_metadata() -> bytes:
    """Copy the word in front of the frame to the mark, and go on with the next program."""
    load = _load(2, 1, _SKB_META) + _load(3, 1, _SKB_DATA)
    return load + _within(_load(0, 2, 0) + _store(1, 0, _MARK)) + _leave(_UNSPEC)


def _within(body: bytes) -> bytes:
    """Run ``body`` if r2 + 4 <= r3, which the verifier insists on."""
    end = _move(4, 2) + _code(0x07, 4, immediate=4)
    return end + _code(0x2D, 4, 3, len(body) // 8) + body  # if r4 > r3, skip it


def write_mark(kind: int, mark: int) -> bytes:
    """Set the mark of the packet, or of the socket, and let it pass."""
    offset = _SOCKET_MARK if kind == GROUP_SOCKETS else _MARK
    return _set(0, mark) + _store(1, 0, offset) + _leave(0 if kind == ROUTE_OUT else 1)


def load(kind: int, instructions: bytes) -> int:
    """Load a program and return its descriptor. Raises OSError or UnsupportedError."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    terms = ctypes.create_string_buffer(b"GPL")
    content = struct.pack("=IIQQ", kind, len(instructions) // 8, ctypes.addressof(code),
                          ctypes.addressof(terms)).ljust(72, b"\0")  # fmt: skip
    return _bpf(_LOAD, content, "load such programs")


def link(program: int, target: int, attach_type: int) -> int:
    """Attach a program to a control group for as long as the returned descriptor is open.

    Raises OSError or UnsupportedError.
    """
    content = struct.pack("=IIII", program, target, attach_type, 0).ljust(64, b"\0")
    return _bpf(_LINK_CREATE, content, "attach programs to control groups")


def _bpf(command: int, content: bytes, what: str) -> int:
    number = _SYSCALLS.get(os.uname().machine, 280)
    attributes = ctypes.create_string_buffer(content, len(content))
    fd = int(_libc.syscall(number, command, attributes, len(content)))
    if fd >= 0:
        return fd
    error = ctypes.get_errno()
    if error == 1:  # EPERM
        raise UnsupportedError(f"this user may not {what}; run as root of the machine")
    raise OSError(error, f"the kernel refused the eBPF program: {os.strerror(error)}")
