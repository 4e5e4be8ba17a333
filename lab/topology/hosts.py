"""Namespaces of nodes on which nobody installs anything, used by one network after another.

Making and destroying a namespace costs more than everything else about a host. What packets can
tell apart is made anew all the same: a host comes back without the devices of its links, so without
their addresses, routes and neighbours, and no socket of a flow is left in it.

The far end of a tunnel is such a host as well: its device stays, and serves networks that want the
same there. To remove one of type vxlan, the kernel waits for a normal RCU grace period with the
lock of rtnetlink in hand (net/ipv4/udp_tunnel_core.c, udp_tunnel_sock_release).
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterable, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from lab.kernel.netns import Netns, assert_not
from lab.kernel.route import Router
from lab.kernel.sysctl import write_sysctl
from lab.topology.plan import Node

_MOST = 8
"""So many of each node wait at most: the kernel takes its time to remove devices."""
_PATIENCE = 5.0
# What the kernel would remember of an earlier network's packets: closed connections, measured
# round trips, and how many ICMP errors it has sent.
_FORGETFUL = (
    ("net.ipv4.tcp_max_tw_buckets", "0"),
    ("net.ipv4.tcp_no_metrics_save", "1"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
)


Equipment = tuple[str, ...]
"""Lines of ip, ruleset by ruleset, of which nothing goes with the devices of a host's links."""


@dataclass(frozen=True, slots=True)
class Host:
    """A node's namespace and its rtnetlink socket; whether its equipment is there already."""

    namespace: Netns
    router: Router
    equipped: bool = False

    def has(self, devices: Set[int]) -> bool:
        """Tell whether any of these devices is there; some modules give every namespace others."""
        return any(map(self.router.has_link, devices))

    def close(self) -> None:
        """Let go of it."""
        self.router.close()
        self.namespace.close()


def new_host(node: Node, home: Netns, sysctls: Iterable[tuple[str, str]] = ()) -> Host:
    """Make a node's namespace and stay in it; ``sysctls`` are set after the node's own."""
    with ExitStack() as undo:
        namespace = Netns.create(node.name)
        undo.callback(namespace.close)
        assert_not(home.inode)
        router = Router()
        undo.callback(router.close)
        for key, value in (*node.sysctls, *sysctls):
            write_sysctl(key, value)
        undo.pop_all()
        return Host(namespace, router)


@dataclass(slots=True)
class Hosts:
    """The hosts of one process. Only those that nothing can have happened to are given back."""

    home: Netns
    _spare: dict[tuple[Node, Equipment], deque[tuple[Host, Set[int]]]] = field(default_factory=dict)

    def take(self, node: Node, equipment: Equipment = ()) -> Host:
        """Return a host for a node; the calling thread may be in its namespace afterwards.

        A new one still has to be given its ``equipment``.
        Of those given back the oldest is taken, once the kernel has removed its devices together
        with the namespace at their other end. Raises OSError.
        """
        spare = self._spare.setdefault((node, equipment), deque())
        deadline = time.monotonic() + _PATIENCE
        while spare and spare[0][0].has(spare[0][1]):
            if len(spare) < _MOST:
                return new_host(node, self.home, _FORGETFUL)
            if time.monotonic() > deadline:
                spare.popleft()[0].close()
            select.select((), (), (), 0.001)
        return spare.popleft()[0] if spare else new_host(node, self.home, _FORGETFUL)

    def give_back(
        self, node: Node, host: Host, devices: Set[int], equipment: Equipment = ()
    ) -> None:
        """Keep a host for other networks; ``devices`` are the indexes of those it had in one."""
        equipped = replace(host, equipped=bool(equipment))
        self._spare[node, equipment].append((equipped, devices))

    def close(self) -> None:
        """Let go of all that were given back."""
        for spare in self._spare.values():
            while spare:
                spare.popleft()[0].close()
