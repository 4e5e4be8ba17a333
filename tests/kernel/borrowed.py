"""What is done with hosts that one network after another uses, within a worker's sandbox."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import Any
from unittest import mock

from lab.errors import SandboxError
from lab.kernel import command
from lab.kernel.netns import Netns
from lab.kernel.route import Router
from lab.kernel.sandbox import Sandbox
from lab.observe import recorder
from lab.record import FlowRun, Run
from lab.runner import bench as benches
from lab.runner import sequence
from lab.scenario import Experiment
from lab.topology import library
from lab.topology.build import Network, build
from lab.topology.hosts import Hosts
from lab.traffic.flow import Family
from lab.traffic.packets import MAGIC
from lab.traffic.sockets import drop
from tests.kernel.states import WANDERING

_LISTINGS = (
    "ip -o link",
    "ip -o addr",
    "ip -4 route show table all",
    "ip -4 rule",
    "ip -6 rule",
    "ip neigh show nud permanent",
)
_ADDRESSES = re.compile(r"\blink/\S+ \S+|\bpermaddr \S+")
"""Those of what a tunnel's module makes in every namespace are random."""
_ACK = 0x10
"""The flags of such a packet of TCP: the tenth of the 12 bytes it is told by."""
Seen = tuple[tuple[str, str, object, tuple[object, ...]], ...]


def three_networks(place: Sandbox, family: Family) -> list[tuple[list[int], object]]:
    """Build a network on new hosts, then on these, then on others, as the second did not end well.

    Return of each the namespaces of its hosts and what ip lists there.
    """
    hosts, found = Hosts(place.home), []
    with ExitStack() as until_the_end:
        for ends_well in (True, False, True):
            network = build(library.find("kubernetes-node"), family, place.home, hosts, ("node",))
            nodes = [name for name in network.namespaces if name != "node"]
            inodes = [network.namespaces[name].inode for name in nodes]
            for name in nodes:  # the kernel gives the number of one that is gone to another
                until_the_end.callback(os.close, os.dup(network.namespaces[name].fd))
            found.append((inodes, [_listed(network, name) for name in nodes]))
            _close(network, ends_well)
    return found


def _close(network: Network, ends_well: bool) -> None:
    """Let go of a network, and wait until its hosts have no devices left."""
    watching: list[tuple[Router, set[int]]] = []
    for node in network.borrowed:
        with network.namespaces[node.name].inside(network.home):
            watching.append((Router(), set(network.device_names(node.name)) - {1}))
    network.ended_well = ends_well
    network.close()
    for router, devices in watching:
        while any(map(router.has_link, devices)):
            select.select((), (), (), 0.01)
        router.close()


def _listed(network: Network, node: str) -> list[list[str]]:
    with network.namespaces[node].inside(network.home):
        return [
            sorted(WANDERING.sub("", _ADDRESSES.sub("", _output(one))).split()) for one in _LISTINGS
        ]


def _output(line: str) -> str:
    return command.run(tuple(line.split())).output


def borrowed(place: Sandbox, experiment: Experiment) -> set[str]:
    """Name the nodes that an experiment borrows."""
    with ExitStack() as stack:
        bench = benches.set_up(experiment, place, stack, Hosts(place.home))
        return {node.name for node in bench.network.borrowed}


def on_lan(place: Sandbox, experiments: Iterable[Experiment]) -> list[tuple[int, str]]:
    """Install one experiment after another; tell of each lan's namespace and devices."""
    hosts, found = Hosts(place.home), []
    for experiment in experiments:
        with ExitStack() as stack:
            bench = benches.set_up(experiment, place, stack, hosts)
            benches.install(bench)
            lan = bench.network.namespaces["lan"]
            with lan.inside(place.home):
                found.append((lan.inode, _output("ip -o link")))
            bench.network.ended_well = True
        _wait_until_free(hosts)
    hosts.close()
    return found


def _wait_until_free(hosts: Hosts) -> None:
    for host, devices in (one for spare in hosts._spare.values() for one in spare):
        while host.has(devices):
            select.select((), (), (), 0.01)


def on_new_and_on_used(place: Sandbox, experiment: Experiment) -> tuple[Seen, Seen]:
    """Run on new hosts, then until all are used ones; return what was seen on either.

    Packets are told by what does not wander: not by TCP's numbers.
    """
    stock = benches.stock(place)
    hosts = stock.lends(experiment)
    new = sequence.run(experiment, place, stock)
    deadline = time.monotonic() + 10
    while True:
        made = _inodes(hosts)
        used = sequence.run(experiment, place, stock)
        if _inodes(hosts) == made:
            return _seen(new), _seen(used)
        if time.monotonic() > deadline:
            raise SandboxError("no host came back within 10 s")


def kept_of_a_run_that_missed_something(place: Sandbox, experiment: Experiment) -> int:
    """Run with receive buffers that are too small, and count the hosts that are kept."""
    stock = benches.stock(place)
    with mock.patch.object(recorder, "_BUFFER", 1):
        if not sequence.run(experiment, place, stock).lost:
            raise SandboxError("nothing was lost")
    return len(_inodes(stock.lends(experiment)))


def kept_of_a_refused_run(place: Sandbox, experiment: Experiment) -> int:
    """Run what cannot be installed together, and count the hosts that are kept."""
    stock = benches.stock(place)
    if not sequence.run(experiment, place, stock).refused:
        raise SandboxError("nothing was refused")
    return len(_inodes(stock.lends(experiment)))


def _inodes(hosts: Hosts) -> set[int]:
    return {host.namespace.inode for spare in hosts._spare.values() for host, _ in spare}


def _seen(run: Run) -> Seen:
    return tuple((f.owner, f.name, f.fate, _lines(f)) for f in run.flows)


def _lines(flow: FlowRun) -> tuple[object, ...]:
    """List what each packet met, but for those of TCP that only acknowledge.

    The kernel sends another one where this process was held up for 40 ms (TCP_DELACK_MIN).
    """
    said = (line for line in flow.timelines if not _only_acknowledges(bytes.fromhex(line.packet)))
    return tuple((line.direction, line.events) for line in said)


def _only_acknowledges(packet: bytes) -> bool:
    return packet[:2] != MAGIC.to_bytes(2, "big") and packet[9] == _ACK


def dropped_connection(place: Sandbox, argument: Any) -> tuple[bytes, str]:
    """Drop a TCP connection with bytes that nobody has acknowledged; return what the peer reads.

    With ``argument`` it is closed instead, for comparison.
    """
    there = Netns.create("connection")
    try:
        command.run(("ip", "link", "set", "lo", "up"))
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
        with peer:
            client.send(b"x")
            client.close() if argument else drop(client)
            peer.setblocking(False)
            read = peer.recv(10)
            try:
                peer.recv(10)
            except BlockingIOError:
                return read, "silence"
            return read, "the end"
    finally:
        place.home.enter()
        there.close()
