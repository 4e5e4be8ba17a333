"""Everything that watches one network while flows run through it."""

from __future__ import annotations

from dataclasses import dataclass, field
from select import EPOLLIN, epoll

from lab.kernel import template
from lab.kernel.netlink import Netfilter, lost
from lab.observe import carried, nftrace, probes, xtrace
from lab.observe.chains import ChainKey, base_chains, rule_handles
from lab.observe.passes import Chains, Met, Pass, by_packet, legacy_passes, nft_passes
from lab.points import Point
from lab.topology.build import Network

_BUFFER = 64 << 20
_ROOMY = 16 << 20
"""Wanted receive buffer, and the size above which a whole flow fits; a message takes about 1 KiB.
An ordinary user gets less, so that buffer is emptied after every packet."""
_HELD = "watch"


@dataclass(slots=True)
class Watch:
    """What watches one namespace: its recorder's points and its sockets.

    One that ``stays`` is closed with the namespace, and serves every network that has it.
    """

    node: str
    points: tuple[Point, ...]
    stays: bool
    room: int
    trace: Netfilter
    log: Netfilter | None
    query: Netfilter
    chains: Chains
    handles: dict[ChainKey, list[int]]
    traced: list[bytes] = field(default_factory=list)
    logged: list[bytes] = field(default_factory=list)

    def close(self) -> None:
        """Close the sockets."""
        self.trace.close()
        self.query.close()
        if self.log is not None:
            self.log.close()


@dataclass(slots=True)
class Recorder:
    """The watches of a network. ``lost`` says what the observation missed.

    ``carries``: there are tunnels, so packets are read one by one. Which packet a tunnel's packet
    carries shows only from what else was on its way at that moment. ``tight``: a receive buffer is
    so small that a whole flow could fill it.
    """

    carries: bool = False
    watches: dict[str, Watch] = field(default_factory=dict)
    tight: bool = False
    steps: list[dict[str, list[Pass]]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    _ready: epoll = field(default_factory=epoll, repr=False)
    _sources: dict[int, tuple[Watch, Netfilter, list[bytes]]] = field(
        default_factory=dict, repr=False
    )

    def watch(
        self,
        network: Network,
        node: str,
        points: tuple[Point, ...],
        *,
        tracked: bool,
        legacy: bool,
        packets: int,
    ) -> None:
        """Install the recorder in one namespace and listen there. Raises OSError.

        ``tracked`` reads the ctmark, ``legacy`` listens to legacy tables. There is room to note
        so many ``packets`` at every point; with none they are traced only. That stays in the
        namespace for the next network that has it.
        """
        held = network.namespaces[node].held
        found = held.get(_HELD)
        if not isinstance(found, Watch):
            found = self._install(network, node, points, tracked, legacy, packets)
            if found.stays:
                held[_HELD] = found
        self.watches[node] = found
        self._listen(found, found.trace, found.traced)
        if found.log is not None:
            self._listen(found, found.log, found.logged)
        self.tight = self.tight or found.trace.room() < _ROOMY

    def _listen(self, watch: Watch, source: Netfilter, into: list[bytes]) -> None:
        descriptor = source.socket.fileno()
        self._ready.register(descriptor, EPOLLIN)
        self._sources[descriptor] = watch, source, into

    def _install(
        self,
        network: Network,
        node: str,
        points: tuple[Point, ...],
        tracked: bool,
        legacy: bool,
        packets: int,
    ) -> Watch:
        stays = not (packets or legacy)
        room = probes.room_for(packets, len(points)) if packets else 0
        inside = network.family if self.carries else None
        chains = probes.chains(points, tracked=tracked, noted=bool(room), carries=inside)
        table = template.transaction(probes.frame(room), chains, network.home)
        with network.namespaces[node].inside(network.home):
            trace = Netfilter((nftrace.GROUP,), _BUFFER)
            log = xtrace.listen(_BUFFER, network.family) if legacy else None
            query = Netfilter()
            bases, handles = (base_chains(query), rule_handles(query)) if room else ({}, {})
            query.transact(table)  # last, so that it need not be read again
            names = {probes.name(point): point for point in points}
            known = Chains(bases, names, probes.TABLE)
            return Watch(node, points, stays, room, trace, log, query, known, handles)

    def relieve(self, sent: bytes = b"") -> None:
        """Empty the receive buffers that a whole flow could fill; call it after every packet.

        ``sent`` is the tag of the packet, if it had one.
        """
        if self.carries:
            self.drain()
            self.steps.append(carried.told(self._taken(), sent))
        elif self.tight:
            self.drain()

    def drain(self) -> None:
        """Take everything received so far, where anything was."""
        for descriptor, _ in self._ready.poll(0):
            watch, source, into = self._sources[descriptor]
            try:
                into.extend(source.pending())
            except OSError as problem:
                if not lost(problem):
                    raise
                self.lost.append(f"trace messages were lost on {watch.node}: receive buffer full")

    def cut(self) -> dict[str, Met]:
        """Return the passes since the last cut, per node and packet, and forget them.

        Nodes through which nothing passed are left out.
        """
        self.drain()
        last = self._taken()
        steps = [*self.steps, carried.told(last, b"") if self.carries else last]
        self.steps = []
        passed = {node for step in steps for node in step}
        return {
            node: by_packet(step[node] for step in steps if node in step)
            for node in self.watches
            if node in passed
        }

    def _taken(self) -> dict[str, list[Pass]]:
        found = {}
        for node, watch in self.watches.items():
            if watch.traced or watch.logged:
                found[node] = _passes(watch)
                watch.traced.clear()
                watch.logged.clear()
        return found

    def notes(self) -> dict[probes.Noted, int | None]:
        """Read what the recorders noted, in every namespace, with the ctmarks."""
        found: dict[probes.Noted, int | None] = {}
        for watch in self.watches.values():
            for tracked in (False, True) if watch.room else ():
                noted = dict(probes.read(watch.query, watch.points, tracked))
                if len(noted) >= watch.room:
                    self.lost.append(f"more packets than expected were seen on {watch.node}")
                found |= noted
        return found

    def close(self) -> None:
        """Close the sockets, but for those that stay with their namespace."""
        self._ready.close()
        for watch in self.watches.values():
            if not watch.stays:
                watch.close()


def _passes(watch: Watch) -> list[Pass]:
    """List the passes that were received of one namespace: of nftables, then of legacy tables."""
    nft = nft_passes(nftrace.decode_all(watch.traced), watch.chains)
    return [*nft, *legacy_passes(xtrace.decode_all(watch.logged))]
