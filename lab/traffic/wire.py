"""Frames that enter the network from a device, past the sender's own protocol stack."""

from __future__ import annotations

import socket

from lab.kernel.later import later
from lab.kernel.netns import Netns

_HELD = "wire"


class _Wire:
    """One packet socket that sends frames and receives nothing."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def close(self) -> None:
        """Let go; closing waits for the kernel's readers, 8 to 16 ms, so it is done later."""
        later(self.socket.close)


def send(namespace: Netns, home: Netns, device: str, frame: bytes) -> None:
    """Send one Ethernet frame out of a device of a namespace. Raises OSError."""
    wire = namespace.held.get(_HELD)
    if not isinstance(wire, _Wire):
        with namespace.inside(home):
            wire = namespace.held[_HELD] = _Wire()
    wire.socket.sendto(frame, (device, 0))
