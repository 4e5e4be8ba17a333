"""Frames that enter the network from a device, past the sender's own protocol stack.

Closing a packet socket waits for the kernel's readers, 8 to 16 ms; nobody here has to wait for
that, so a few threads do the closing.
"""

from __future__ import annotations

import queue
import socket
import threading
from functools import lru_cache

from lab.kernel.netns import Netns

_CLOSERS = 4


class Wire:
    """One packet socket per node that sends frames; it receives nothing."""

    def __init__(self, home: Netns, namespaces: dict[str, Netns]) -> None:
        self._home = home
        self._namespaces = namespaces
        self._sockets: dict[str, socket.socket] = {}

    def send(self, node: str, device: str, frame: bytes) -> None:
        """Send one Ethernet frame out of a device of ``node``. Raises OSError."""
        if node not in self._sockets:
            with self._namespaces[node].inside(self._home):
                self._sockets[node] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._sockets[node].sendto(frame, (device, 0))

    def close(self) -> None:
        """Let go of the sockets; the kernel closes them a little later."""
        for sock in self._sockets.values():
            _closing().put(sock)
        self._sockets.clear()


@lru_cache(maxsize=1)
def _closing() -> queue.SimpleQueue[socket.socket]:
    waiting: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    for number in range(_CLOSERS):
        threading.Thread(
            target=_close, args=(waiting,), name=f"closes-{number}", daemon=True
        ).start()
    return waiting


def _close(waiting: queue.SimpleQueue[socket.socket]) -> None:
    while True:
        waiting.get().close()
