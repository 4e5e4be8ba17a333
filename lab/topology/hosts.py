"""Namespaces of nodes on which nobody installs anything, used by one network after another.

Making and destroying a namespace costs more than everything else about a host. What packets can
tell apart is made anew all the same: a host comes back without devices, so without addresses,
routes and neighbours, and no socket of a flow is left in it.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lab.kernel.netns import Netns, assert_not
from lab.kernel.route import Router
from lab.kernel.sysctl import write_sysctl
from lab.topology.plan import Node

_MOST = 8
"""So many of each node wait at most: the kernel takes its time to remove devices."""
_LOOPBACK = 1
_PATIENCE = 5.0
# What the kernel would remember of an earlier network's packets: closed connections, measured
# round trips, and how many ICMP errors it has sent.
_FORGETFUL = (
    ("net.ipv4.tcp_max_tw_buckets", "0"),
    ("net.ipv4.tcp_no_metrics_save", "1"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """A node's namespace and its rtnetlink socket."""

    namespace: Netns
    router: Router

    def is_empty(self) -> bool:
        """Tell whether it has no device but the loopback one."""
        return self.router.links() == {_LOOPBACK}

    def close(self) -> None:
        """Let go of it."""
        self.router.close()
        self.namespace.close()


def new_host(node: Node, home: Netns, sysctls: Iterable[tuple[str, str]] = ()) -> Host:
    """Make a node's namespace and stay in it; ``sysctls`` are set after the node's own."""
    namespace = Netns.create(node.name)
    assert_not(home.inode)
    host = Host(namespace, Router())
    for key, value in (*node.sysctls, *sysctls):
        write_sysctl(key, value)
    return host


@dataclass(slots=True)
class Hosts:
    """The hosts of one process. Only those that nothing can have happened to are given back."""

    home: Netns
    _spare: dict[Node, deque[Host]] = field(default_factory=dict)

    def take(self, node: Node) -> Host:
        """Return a host for a node; the calling thread may be in its namespace afterwards.

        Of those given back the oldest is taken, once the kernel has removed its devices together
        with the namespace at their other end. Raises OSError.
        """
        spare = self._spare.setdefault(node, deque())
        deadline = time.monotonic() + _PATIENCE
        while spare and not spare[0].is_empty():
            if len(spare) < _MOST or time.monotonic() > deadline:
                return new_host(node, self.home, _FORGETFUL)
            select.select((), (), (), 0.001)
        return spare.popleft() if spare else new_host(node, self.home, _FORGETFUL)

    def give_back(self, hosts: Mapping[Node, Host]) -> None:
        """Keep hosts for other networks."""
        for node, host in hosts.items():
            self._spare[node].append(host)
