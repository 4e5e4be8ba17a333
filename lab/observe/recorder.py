"""Everything that watches one network while flows run through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.kernel.netlink import Netfilter, lost
from lab.kernel.nftables import Nft
from lab.observe import nftrace, probes, xtrace
from lab.observe.chains import ChainKey, Hooked, base_chains, rule_handles
from lab.observe.passes import Pass, legacy_passes, merge, nft_passes
from lab.points import Point
from lab.topology.build import Network

_BUFFER = 64 << 20
_ROOMY = 16 << 20
"""Wanted receive buffer, and the size above which a whole flow fits; a message takes about 1 KiB.
An ordinary user gets less, so that buffer is emptied after every packet."""

Raw = list[tuple[int, bytes]]


@dataclass(slots=True)
class Watch:
    """What watches one namespace: its recorder's points and its sockets."""

    node: str
    points: tuple[Point, ...]
    noted: bool
    trace: Netfilter
    log: Netfilter | None
    bases: dict[ChainKey, Hooked]
    handles: dict[ChainKey, list[int]]
    traced: Raw = field(default_factory=list)
    logged: Raw = field(default_factory=list)


@dataclass(slots=True)
class Recorder:
    """The watches of a network. ``lost`` says what the observation missed."""

    watches: dict[str, Watch] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def watch(
        self,
        network: Network,
        node: str,
        points: tuple[Point, ...],
        nft: Nft,
        *,
        tracked: bool,
        legacy: bool,
        noted: bool,
    ) -> None:
        """Install the recorder in one namespace and listen there. Raises OSError.

        ``tracked`` reads the ctmark, ``legacy`` listens to legacy tables, and without ``noted``
        packets are traced only.
        """
        with network.namespaces[node].inside(network.home):
            _, error = nft.run(probes.ruleset(points, tracked=tracked, noted=noted))
            if error:
                raise OSError(0, f"the recorder was refused on {node}: {error}")
            trace = Netfilter((nftrace.GROUP,), _BUFFER)
            log = xtrace.listen(_BUFFER, network.family) if legacy else None
            query = Netfilter()
            bases, handles = (base_chains(query), rule_handles(query)) if noted else ({}, {})
            watch = Watch(node, points, noted, trace, log, bases, handles)
            query.close()
        self.watches[node] = watch

    def relieve(self) -> None:
        """Empty the receive buffers that a whole flow could fill; call it after every packet."""
        if any(watch.trace.room() < _ROOMY for watch in self.watches.values()):
            self.drain()

    def drain(self) -> None:
        """Take everything received so far."""
        for watch in self.watches.values():
            self._take(watch, watch.trace, watch.traced)
            if watch.log is not None:
                self._take(watch, watch.log, watch.logged)

    def _take(self, watch: Watch, socket: Netfilter, into: Raw) -> None:
        try:
            into.extend(socket.pending())
        except OSError as problem:
            if not lost(problem):
                raise
            self.lost.append(f"trace messages were lost on {watch.node}: receive buffer full")

    def cut(self) -> dict[str, list[Pass]]:
        """Return the passes since the last cut, per node and in order, and forget them."""
        self.drain()
        found = {}
        for node, watch in self.watches.items():
            found[node] = list(_passes(watch))
            watch.traced, watch.logged = [], []
        return found

    def notes(self) -> Iterable[probes.Note]:
        """Read what the recorders noted, in every namespace."""
        for watch in self.watches.values():
            if watch.noted:
                yield from probes.read(watch.trace, watch.points)

    def close(self) -> None:
        """Close the sockets."""
        for watch in self.watches.values():
            watch.trace.close()
            if watch.log is not None:
                watch.log.close()


def _passes(watch: Watch) -> Iterable[Pass]:
    """Yield the passes of one namespace, each packet's in the order in which they happened."""
    names = {probes.name(number): point for number, point in enumerate(watch.points)}
    nft = list(nft_passes(nftrace.decode_all(watch.traced), watch.bases, names, probes.TABLE))
    legacy = list(legacy_passes(xtrace.decode_all(watch.logged)))
    packets = dict.fromkeys(p.headers.packet for p in (*nft, *legacy))
    for packet in packets:
        mine = [p for p in nft if p.headers.packet == packet]
        yield from merge(mine, [p for p in legacy if p.headers.packet == packet])
