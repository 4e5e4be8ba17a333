"""A minimal NFQUEUE program: it takes packets and gives them back, marked if told to.

Messages: include/uapi/linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import struct

from lab.kernel.netlink import Netfilter, attribute, attributes, messages

_PACKET, _VERDICT, _CONFIG = 3 << 8, (3 << 8) | 1, (3 << 8) | 2
_COMMAND, _PARAMETERS, _BIND, _COPY_PACKET = 1, 2, 1, 2
_PACKET_HEADER, _VERDICT_HEADER, _MARK = 1, 2, 3
_ACCEPT = 1


class PacketQueue:
    """Queue 0 of the namespace in which it was opened."""

    def __init__(self) -> None:
        self._netlink = Netfilter()
        bind = attribute(_COMMAND, struct.pack("!BxH", _BIND, 0))
        copy = attribute(_PARAMETERS, struct.pack("!IB", 0xFFFF, _COPY_PACKET))
        for body in (bind, copy):
            self._netlink.request(_CONFIG, 0, body)

    def release(self, mark: int) -> int:
        """Give every waiting packet back, with ``mark`` unless it is 0; return how many."""
        received = (message for block in self._netlink.pending() for message in messages(block))
        waiting = [attributes(body, 4) for kind, body in received if kind == _PACKET]
        for packet in waiting:
            number = struct.unpack_from("!I", packet[_PACKET_HEADER])[0]
            verdict = attribute(_VERDICT_HEADER, struct.pack("!II", _ACCEPT, number))
            if mark:
                verdict += attribute(_MARK, struct.pack("!I", mark))
            self._netlink.request(_VERDICT, 0, verdict)
        return len(waiting)

    def close(self) -> None:
        """Close it; packets that still wait are dropped."""
        self._netlink.close()
