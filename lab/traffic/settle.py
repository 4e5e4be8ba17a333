"""Knowing that all packets have been dealt with, without waiting for a time to pass.

A packet crossing a veth pair queues on the backlog of the CPU that sent it, first in, first out.
While the process stays on one CPU, a datagram sent over loopback afterwards queues behind it; when
the datagram is received, everything before it has been processed. Each step of a packet's way may
queue another, so as many datagrams follow as a packet has steps.
"""

from __future__ import annotations

import os
import socket
import struct

from lab.errors import SandboxError

_STEPS = 8
_PATIENCE = 10


class Settler:
    """A loopback socket of the lab's own namespace; make it there, use it anywhere.

    Binds the process to one CPU: the ``number``-th it may use, modulo their count.
    """

    def __init__(self, number: int = 0) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[number % len(allowed)]})
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())
        # A timeout of Python's own would have it poll before every call.
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _PATIENCE, 0)
        )

    def settle(self) -> None:
        """Return when every packet sent so far has reached its end."""
        try:
            for _ in range(_STEPS):
                self._socket.send(b".")
                self._socket.recv(1)
        except BlockingIOError:
            raise SandboxError(f"packets did not settle within {_PATIENCE} s") from None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
