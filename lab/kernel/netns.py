"""Network namespaces held by a file descriptor: they vanish with the process that made them.

``unshare`` and ``setns`` go through libc because Python 3.11 has no ``os.unshare``.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.errors import SandboxError

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_PR_SET_PDEATHSIG = 1
_SELF = Path("/proc/thread-self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces, CLONE_* ``flags`` say which. Raises OSError."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    """Put a file system of a kind at ``target``. Raises OSError."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, None)
    _check(result, f"mount {kind} on {target}")


def make_mounts_private() -> None:
    """Keep later mounts from spreading to the namespace the process came from."""
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send a signal to this process when its parent ends; see prctl(2)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "PR_SET_PDEATHSIG")


class Closing(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Let go."""


@dataclass(frozen=True, slots=True)
class Netns:
    """One network namespace; ``fd`` keeps it alive, ``inode`` is its identity.

    ``held`` are sockets that live as long as it does, by what they are for.
    """

    name: str
    fd: int
    inode: int
    held: dict[str, Closing] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def current(cls, name: str) -> Netns:
        """Hold the namespace the calling thread is in."""
        fd = os.open(_SELF, os.O_RDONLY | os.O_CLOEXEC)
        return cls(name, fd, os.fstat(fd).st_ino)

    @classmethod
    def create(cls, name: str) -> Netns:
        """Make a new namespace and stay in it; the caller returns with ``enter``."""
        unshare(CLONE_NEWNET)
        return cls.current(name)

    def enter(self) -> None:
        """Move the calling thread into this namespace. Raises OSError."""
        _check(_libc.setns(self.fd, CLONE_NEWNET), f"setns {self.name}")

    def assert_inside(self) -> None:
        """Refuse to go on anywhere else: rules land only in namespaces that the lab made."""
        if host_inode() != self.inode:
            raise SandboxError(f"not in the namespace {self.name}: refusing to change anything")

    @contextmanager
    def inside(self, home: Netns) -> Iterator[None]:
        """Run a block in this namespace, then return to ``home``."""
        self.enter()
        try:
            yield
        finally:
            home.enter()

    def close(self) -> None:
        """Let go; the kernel destroys the namespace when nothing else holds it."""
        for held in self.held.values():
            held.close()
        self.held.clear()
        os.close(self.fd)


def host_inode() -> int:
    """Return the identity of the namespace the calling thread is in."""
    return _SELF.stat().st_ino


def devices() -> dict[int, str]:
    """Map the indexes of all devices of the calling thread's namespace to names.

    Reading them here does not wait for the lock under which the kernel makes and removes devices
    anywhere, as a listing by rtnetlink does: with tunnels about, that takes milliseconds.
    """
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    names = (line.partition(":")[0].strip() for line in lines)
    return {socket.if_nametoindex(name): name for name in names}


def assert_not(inode: int) -> None:
    """Refuse to go on inside the namespace ``inode``: rules never land where the lab came from."""
    if host_inode() == inode:
        raise SandboxError("refusing to change the namespace the lab was started in")


def become_root_of_new_user_namespace() -> None:
    """Map the caller to root in a new user namespace; the process must have one thread."""
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
