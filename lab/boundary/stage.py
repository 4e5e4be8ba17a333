"""A row that stands: its namespaces, what is watched, and what the acts have open."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lab.boundary import steps, watch
from lab.boundary.networks import NETWORKS
from lab.boundary.nfqueue import PacketQueue
from lab.boundary.row import Row
from lab.boundary.watch import Watched
from lab.errors import SandboxError
from lab.kernel.features import in_guest
from lab.kernel.netlink import NLM_REQUEST, messages
from lab.kernel.nftables import Nft
from lab.kernel.route import Lookup, Router
from lab.kernel.sandbox import Sandbox
from lab.topology.build import Network, build

_NEWLINK, _GETLINK, _UP, _RUNNING = 16, 18, 0x1, 0x40
_LOCAL_TABLE = 255
SLOWNESS = 10 if in_guest() else 1
"""How much longer than usual to wait for anything: an emulated processor is slow."""
_PATIENCE = 3.0 * SLOWNESS


@dataclass(slots=True)
class Stage:
    """One row in its namespaces; ``stack`` takes everything down again."""

    row: Row
    sandbox: Sandbox
    network: Network
    stack: ExitStack
    watched: Watched = field(default_factory=Watched)
    queues: dict[str, PacketQueue] = field(default_factory=dict)
    tunnels: dict[str, int] = field(default_factory=dict)

    def run(self, text: str) -> None:
        """Run commands in the row's notation."""
        if text.strip():
            steps.run(text, self.network.namespaces, self.network.home)

    def settle(self) -> None:
        """Return when the packets sent so far are dealt with, and note what arrived."""
        self.sandbox.settler.settle()
        watch.drain(self.watched, self.row.readings)


def set_up(row: Row, sandbox: Sandbox, stack: ExitStack) -> Stage:
    """Build a row, watch its places, and return when its devices transmit."""
    network = build(NETWORKS[row.network], row.family, sandbox.home)
    stack.callback(network.close)
    stage = Stage(row, sandbox, network, stack)
    stage.run(row.built)
    for node, netns in network.namespaces.items():
        with netns.inside(network.home):
            _wait_for_links(node)
            if row.family == "ipv6":
                _wait_for_addresses(node)
    return stage


def start_watching(stage: Stage) -> None:
    """Install the chains and open the sockets that read marks."""
    namespaces, readings = stage.network.namespaces, tuple(enumerate(stage.row.readings))
    for node in dict.fromkeys(reading.node for _, reading in readings):
        with namespaces[node].inside(stage.network.home):
            context = Nft()
            stage.stack.callback(context.close)
            here = [(n, r) for n, r in readings if r.node == node]
            watch.add_sets(stage.watched, here, stage.row.match, context)
            for number, reading in here:
                _open(stage, number, *reading.where)


def _open(stage: Stage, number: int, kind: str, name: str = "", way: str = "") -> None:
    node = stage.row.readings[number].node
    if kind == "tap":
        tap = stage.stack.enter_context(watch.open_tap(name))
        stage.watched.taps[number] = (tap, way == "out")
    if kind == "socket":
        receiver = watch.open_receiver(int(name), stage.row.family)
        stage.watched.receivers[node, int(name)] = stage.stack.enter_context(receiver)


def _wait_for_links(node: str) -> None:
    """Wait until every device of the current namespace that is up also transmits.

    Asking for the state makes the kernel finish what it has put off.
    """
    deadline = time.monotonic() + _PATIENCE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_PATIENCE)
        while waiting := [f for f in _flags(sock) if f & _UP and not f & _RUNNING]:
            if time.monotonic() > deadline:
                raise SandboxError(f"{len(waiting)} devices of {node} do not transmit")


def _wait_for_addresses(node: str) -> None:
    """Wait until packets to every IPv6 address of the current namespace are taken in.

    Without duplicate address detection an address is valid at once, yet a work queue adds its
    local route a little later (net/ipv6/addrconf.c, addrconf_dad_work).
    """
    deadline = time.monotonic() + _PATIENCE
    router = Router()
    try:
        while waiting := [a for a in _addresses() if not _is_local(router, a)]:
            if time.monotonic() > deadline:
                raise SandboxError(f"{', '.join(waiting)} of {node} cannot be reached")
    finally:
        router.close()


def _addresses() -> list[str]:
    """List the global IPv6 addresses of the current namespace."""
    lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    found = [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])) for line in lines]
    return [address for address in found if not address.startswith("fe80:")]


def _is_local(router: Router, address: str) -> bool:
    return router.look_up(Lookup("", address, 0)).table == _LOCAL_TABLE


def _flags(sock: socket.socket) -> list[int]:
    """Ask for every device by itself: a dump of all would not finish what is put off."""
    return [_ask(sock, index) for index, _ in socket.if_nameindex()]


def _ask(sock: socket.socket, index: int) -> int:
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
    sock.send(struct.pack("=IHHII", 16 + len(body), _GETLINK, NLM_REQUEST, 1, 0) + body)
    for kind, payload in messages(sock.recv(1 << 16)):
        if kind == _NEWLINK:
            return int(struct.unpack_from("=I", payload, 8)[0])
    return 0
