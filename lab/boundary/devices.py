"""What the tools of today's distributions cannot do, or not without another package.

``netkit NAME PEER none|default`` makes a pair (iproute2 before 6.8 does not know it); ``tun
NAME`` tries a tun device; ``offload DEVICE off`` is ``ethtool -K DEVICE tso off gso off``;
``wireguard NAME KEY PEER ENDPOINT FWMARK`` is ``wg set``; ``clone DEVICE TARGET MARK`` marks what
comes in and sends a copy on by ``bpf_clone_redirect``; ``xdp DEVICE MARK`` puts a mark in front
of each frame as XDP metadata; ``metadata DEVICE`` turns that into the packet's mark; ``lwt
DEVICE ADDRESS MARK`` adds a route whose program marks what takes it; ``control-group`` tries
whether programs may be attached to the machine's control group.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable

from lab.boundary import programs
from lab.errors import UnsupportedError
from lab.kernel import bpf
from lab.kernel.features import in_guest
from lab.kernel.netlink import NLM_ACK, NLM_REQUEST, attribute
from lab.kernel.route import Router

_NEWLINK, _SETLINK, _CREATE = 16, 19, 0x600
_IFNAME, _LINKINFO, _KIND, _DATA = 3, 18, 1, 2
_NESTED = 0x8000
_PEER_INFO, _MODE, _SCRUB, _PEER_SCRUB = 1, 5, 6, 7  # enum in include/uapi/linux/if_link.h
_XDP, _XDP_FD, _XDP_FLAGS, _GENERIC = 43, 1, 3, 2
_SIOCETHTOOL, _SET_TSO, _SET_GSO = 0x8946, 0x1F, 0x24
_NEWROUTE, _DESTINATION, _OUT_DEVICE, _ENCAP_TYPE, _ENCAP = 24, 1, 4, 21, 22
_ENCAP_BPF, _LWT_OUT, _LWT_FD, _LWT_NAME = 6, 2, 1, 2
_ATTACH = {"ingress": 0, "egress": 1, "socket": 2}
_TUNSETIFF, _TUN, _TAP, _NO_PACKET_INFO = 0x400454CA, 1, 2, 0x1000


def netkit(name: str, peer: str, scrub: str) -> None:
    """Make a netkit pair of layer 3; ``scrub`` is ``none`` or ``default``."""
    how = struct.pack("=I", 0 if scrub == "none" else 1)
    inside = attribute(_IFNAME, peer.encode() + b"\0")
    options = attribute(_PEER_INFO | _NESTED, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + inside)
    options += attribute(_MODE, struct.pack("=I", 1))
    if scrub == "none":  # the attributes came a release after the device
        options += attribute(_SCRUB, how) + attribute(_PEER_SCRUB, how)
    kind = attribute(_KIND, b"netkit\0") + attribute(_DATA | _NESTED, options)
    body = attribute(_IFNAME, name.encode() + b"\0") + attribute(_LINKINFO | _NESTED, kind)
    _link(_NEWLINK, _CREATE, 0, body)


def _link(kind: int, flags: int, index: int, body: bytes) -> None:
    _send(kind, flags, struct.pack("=BxHiII", 0, 0, index, 0, 0) + body)


def _send(kind: int, flags: int, payload: bytes) -> None:
    router = Router()
    try:
        header = struct.pack("=IHHII", 16 + len(payload), kind, NLM_REQUEST | NLM_ACK | flags, 1, 0)
        router.send(header + payload, 1)
    finally:
        router.close()


def open_tunnel(name: str, kind: str) -> int:
    """Make a tun or tap device and return the descriptor of its far side. Raises OSError."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = (_TUN if kind == "tun" else _TAP) | _NO_PACKET_INFO
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), flags))
    except OSError:
        os.close(fd)
        raise
    return fd


def try_tunnel(name: str) -> None:
    """Make a tun device and remove it again."""
    os.close(open_tunnel(name, "tun"))


def offload(device: str, _: str) -> None:
    """Switch segmentation offload off, so that segments leave one by one."""
    _ethtool(device, _SET_TSO, 0)
    _ethtool(device, _SET_GSO, 0)


def _ethtool(device: str, what: int, value: int) -> None:
    content = ctypes.create_string_buffer(struct.pack("=II", what, value))
    request = struct.pack("@16sP16x", device.encode(), ctypes.addressof(content))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)


def lwt(device: str, address: str, mark: str) -> None:
    """Add a route to one address; its program marks packets between OUTPUT and POSTROUTING."""
    kind = programs.ROUTE_OUT
    fd = programs.load(kind, programs.write_mark(kind, int(mark, 0)))
    try:
        program = attribute(_LWT_FD, struct.pack("=I", fd)) + attribute(_LWT_NAME, b"lab\0")
        body = attribute(_DESTINATION, socket.inet_aton(address))
        body += attribute(_OUT_DEVICE, struct.pack("=I", socket.if_nametoindex(device)))
        body += attribute(_ENCAP_TYPE, struct.pack("=H", _ENCAP_BPF))
        body += attribute(_ENCAP | _NESTED, attribute(_LWT_OUT | _NESTED, program))
        # an IPv4 host route of the main table, static, scope link, unicast
        head = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 4, 253, 1, 0)
        _send(_NEWROUTE, _CREATE, head + body)
    finally:
        os.close(fd)


def control_group() -> None:
    """Attach a program to the root group and detach it again.

    Raises UnsupportedError on a machine that is not a guest: its programs would see every socket.
    """
    os.close(attach_to_group("egress", 0))


def attach_to_group(where: str, mark: int) -> int:
    """Attach a program that writes ``mark``; it is detached when the descriptor is closed.

    Raises OSError and UnsupportedError.
    """
    if not in_guest():
        raise UnsupportedError("sees all sockets of a machine; run it in a guest (fwmark-lab vm)")
    kind = programs.GROUP_SOCKETS if where == "socket" else programs.GROUP_PACKETS
    group = os.open("/sys/fs/cgroup", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = programs.load(kind, programs.write_mark(kind, mark))
        try:
            return programs.link(fd, group, _ATTACH[where])
        finally:
            os.close(fd)
    finally:
        os.close(group)


def wireguard(name: str, private: str, peer: str, endpoint: str, fwmark: str) -> None:
    """Give a WireGuard device its key, port 51820, fwmark and one peer for all addresses."""
    from pyroute2 import WireGuard

    with WireGuard() as generic:
        generic.set(
            name,
            private_key=private,
            listen_port=51820,
            fwmark=int(fwmark, 0),
            peer={
                "public_key": peer,
                "endpoint_addr": endpoint,
                "endpoint_port": 51820,
                "allowed_ips": ["0.0.0.0/0"],
            },
        )


def clone(device: str, target: str, mark: str) -> None:
    """Attach a program that marks packets and sends copies on, at tc ingress."""
    with bpf.loaded(programs.clone(int(mark, 0), socket.if_nametoindex(target))) as fd:
        bpf.attach(fd, device, "ingress", 1)


def xdp(device: str, mark: str) -> None:
    """Attach an XDP program that puts a mark in front of each frame."""
    fd = programs.load(programs.XDP, programs.store_metadata(int(mark, 0)))
    try:
        attached = attribute(_XDP_FD, struct.pack("=i", fd))
        attached += attribute(_XDP_FLAGS, struct.pack("=I", _GENERIC))
        _link(_SETLINK, 0, socket.if_nametoindex(device), attribute(_XDP | _NESTED, attached))
    finally:
        os.close(fd)


def metadata(device: str) -> None:
    """Attach a program that turns XDP metadata into the mark, at tc ingress."""
    with bpf.loaded(programs.mark_from_metadata()) as fd:
        bpf.attach(fd, device, "ingress", 1)


COMMANDS: dict[str, Callable[..., None]] = {
    "netkit": netkit,
    "tun": try_tunnel,
    "offload": offload,
    "wireguard": wireguard,
    "clone": clone,
    "xdp": xdp,
    "metadata": metadata,
    "lwt": lwt,
    "control-group": control_group,
}
