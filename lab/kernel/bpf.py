"""Loading eBPF programs with bpf(2) and attaching them at the tc hooks of a device.

Layouts: include/uapi/linux/bpf.h (``union bpf_attr``), rtnetlink.h (``struct tcmsg``) and
pkt_cls.h. A tc filter holds its program: the descriptor may be closed once it is attached.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from typing import Literal

from lab.errors import UnsupportedError
from lab.kernel.netlink import NLM_ACK, NLM_REQUEST, attribute
from lab.kernel.route import Router

_libc = ctypes.CDLL(None, use_errno=True)
_SYSCALLS = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361}
_SYSCALL_ELSEWHERE = 280  # include/uapi/asm-generic/unistd.h: aarch64, riscv64, loongarch64
_PROG_LOAD, _SCHED_CLS = 5, 3
_LICENSE = ctypes.create_string_buffer(b"GPL")  # bpf_redirect_peer and others ask for it
_LOG_SIZE = 1 << 16
_ATTEMPTS = 5
_ATTRIBUTE = struct.Struct("=IIQQIIQII16sII")

_NEWQDISC, _NEWTFILTER = 36, 44
_CREATE, _EXCLUSIVE = 0x400, 0x200
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_KIND, _OPTIONS, _FD, _NAME, _FLAGS, _DIRECT_ACTION = 1, 2, 6, 7, 8, 1
_EVERY_PROTOCOL = socket.htons(3)  # ETH_P_ALL


class Refused(Exception):
    """Carry what the verifier said about a program it did not take."""


@contextmanager
def loaded(instructions: bytes) -> Iterator[int]:
    """Load a tc program and give its descriptor.

    Raises Refused with the end of the verifier's log, and UnsupportedError where this user or
    this kernel may not load any program.
    """
    fd = _loaded(instructions)
    try:
        yield fd
    finally:
        os.close(fd)


def _loaded(instructions: bytes) -> int:
    fd = _load(instructions)
    if fd < 0:
        raise _refusal(instructions, -fd)
    return fd


class Loaded:
    """A tc program and its descriptor ``fd``, which is closed when nobody refers to this."""

    def __init__(self, instructions: bytes) -> None:
        """Load it. Raises what ``loaded`` raises."""
        self.fd = _loaded(instructions)
        weakref.finalize(self, os.close, self.fd)


@lru_cache(maxsize=256)
def kept(instructions: bytes) -> Loaded:
    """Return a tc program that stays loaded: no program knows a namespace or a device's name.

    Loading one has the verifier look at it. Raises what ``loaded`` raises.
    """
    return Loaded(instructions)


def _refusal(instructions: bytes, number: int) -> Exception:
    if number in (errno.EPERM, errno.ENOSYS):
        return UnsupportedError(
            f"this kernel does not let this user load eBPF programs ({os.strerror(number)}); "
            "run as root of the machine (a user namespace is not enough)"
        )
    log = ctypes.create_string_buffer(_LOG_SIZE)
    again = _load(instructions, log)
    if again >= 0:
        os.close(again)
    lines = [line for line in log.value.decode(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("processed ", "verification time"))]
    return Refused("; ".join(said[-3:]) or os.strerror(number))


def _load(instructions: bytes, log: ctypes.Array[ctypes.c_char] | None = None) -> int:
    """Return a descriptor, or minus the error number.

    The verifier gives up with EAGAIN where a signal is pending, such as that of a debugger.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    noted = (0, 0, 0) if log is None else (1, _LOG_SIZE, ctypes.addressof(log))
    content = _ATTRIBUTE.pack(
        _SCHED_CLS,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(_LICENSE),
        *noted,
        0,
        0,
        b"lab",
        0,
        0,
    )
    answers = (syscall(_PROG_LOAD, content)[0] for _ in range(_ATTEMPTS))
    return next((answer for answer in answers if answer != -errno.EAGAIN), -errno.EAGAIN)


def syscall(command: int, content: bytes) -> tuple[int, bytes]:
    """Call bpf(2); return what it returns, or minus the error number, and the content after it."""
    number = _SYSCALLS.get(os.uname().machine, _SYSCALL_ELSEWHERE)
    buffer = ctypes.create_string_buffer(content, len(content))
    result = int(_libc.syscall(number, command, buffer, len(content)))
    return result if result >= 0 else -ctypes.get_errno(), buffer.raw


class Hooks:
    """The tc hooks of the devices of the namespace in which this was made.

    At the first program of a device the kernel waits until an RCU grace period is over since its
    hooks were made ready (net/sched/sch_generic.c, mini_qdisc_pair_swap). So it does only once
    where those of all devices are made ready before.
    """

    def __init__(self) -> None:
        self._router = Router()
        self._ready: set[str] = set()

    def make_ready(self, device: str) -> None:
        """Give a device its hooks.

        Raises OSError where there is no such device or the kernel has no clsact.
        """
        if device not in self._ready:
            with suppress(FileExistsError):
                self._router.send(_clsact(socket.if_nametoindex(device)), 1)
            self._ready.add(device)

    def attach(
        self, fd: int, device: str, hook: Literal["ingress", "egress"], priority: int
    ) -> None:
        """Attach a program; a lower ``priority`` runs earlier.

        Raises OSError where there is no such device or the kernel has no cls_bpf.
        """
        self._router.send(_filter(fd, socket.if_nametoindex(device), hook, priority), 1)

    def close(self) -> None:
        """Close the socket."""
        self._router.close()


def attach(fd: int, device: str, hook: Literal["ingress", "egress"], priority: int) -> None:
    """Attach one program in the current namespace. Raises what ``Hooks`` raises."""
    with closing(Hooks()) as hooks:
        hooks.make_ready(device)
        hooks.attach(fd, device, hook, priority)


def _clsact(index: int) -> bytes:
    kind = attribute(_KIND, b"clsact\0")
    return _request(_NEWQDISC, index, _CLSACT_HANDLE, _CLSACT, 0, kind)


def _filter(fd: int, index: int, hook: str, priority: int) -> bytes:
    options = attribute(_FD, struct.pack("=I", fd)) + attribute(_NAME, b"lab\0")
    options += attribute(_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    body = attribute(_KIND, b"bpf\0") + attribute(_OPTIONS, options)
    what = priority << 16 | _EVERY_PROTOCOL
    return _request(_NEWTFILTER, index, 0, _PARENTS[hook], what, body)


def _request(kind: int, index: int, handle: int, parent: int, what: int, body: bytes) -> bytes:
    payload = struct.pack("=BxHiIII", socket.AF_UNSPEC, 0, index, handle, parent, what) + body
    flags = NLM_REQUEST | NLM_ACK | _CREATE | _EXCLUSIVE
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload
