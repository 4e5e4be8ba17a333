"""Namespaces that outlive their run, on request, and finding what was left behind.

A kept network is held by a process that only waits. It and every other process of the lab carry
``FWMARK_LAB_RUN=<pid>:<start time>`` of the command that started them in their environment, so
that ``clean`` finds them and never ends anything else.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.kernel.netns import Netns

MARKER = "FWMARK_LAB_RUN"
_KEPT = "fwmark-lab: kept namespaces"


@dataclass(frozen=True, slots=True)
class Kept:
    """A process that holds namespaces, and the descriptor of each node's."""

    pid: int
    nodes: tuple[tuple[str, int], ...] = ()

    def enter_command(self, node: str) -> str:
        """Say how to get a shell in a node's namespace."""
        fd = dict(self.nodes)[node]
        user = "" if os.geteuid() == 0 else "--user --preserve-credentials "
        return f"nsenter --target {self.pid} {user}--mount --net=/proc/{self.pid}/fd/{fd}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process of the lab whose command is gone, or that was kept on purpose."""

    pid: int
    kept: bool
    command: str


def hold(namespaces: Mapping[str, Netns]) -> Kept:
    """Fork a process that keeps namespaces open under the same descriptors and only waits."""
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        silence = os.open("/dev/null", os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        for namespace in namespaces.values():
            os.set_inheritable(namespace.fd, True)
        os.execv(sys.executable, (_KEPT, "-c", "import signal; signal.pause()"))
    return Kept(child, tuple((name, netns.fd) for name, netns in namespaces.items()))


def own_marker() -> str:
    """Return what identifies this process for as long as the machine runs."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def leftovers() -> Iterator[Leftover]:
    """List the lab's processes that no running command waits for; only the caller's own."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError, IndexError, ValueError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            marker = next((e for e in environment if e.startswith(MARKER.encode() + b"=")), None)
            if marker is None:
                continue
            command = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            owner = marker.decode().partition("=")[2]
            if command == _KEPT or not _alive(owner):
                yield Leftover(int(folder.name), command == _KEPT, command)


def end(leftover: Leftover) -> None:
    """End one leftover process; its namespaces end with it."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(leftover.pid)
        try:
            if any(found.pid == leftover.pid for found in leftovers()):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _alive(owner: str) -> bool:
    pid, _, started = owner.partition(":")
    try:
        return _started(int(pid)) == started
    except (OSError, ValueError, IndexError):
        return False


def _started(pid: int) -> str:
    # Field 22 of proc(5) stat, counted after the command name, which may hold spaces.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
