"""The same on Mininet: its hosts and its veth links, without switches and controller."""

from __future__ import annotations

from mininet.link import Link  # type: ignore[import-not-found]
from mininet.node import Node  # type: ignore[import-not-found]

from benchmarks.peers.drive import COUNTERS, PROBE, Answered, serve, wait_until_ready
from benchmarks.peers.plan import Plan


def carry_out(plan: Plan) -> tuple[Answered, str]:
    """Build, install, send and count with ``host.cmd``, as Mininet's examples do."""
    hosts = {name: Node(name) for name in plan.nodes}
    try:
        return _on(hosts, plan)
    finally:
        for host in hosts.values():
            host.stop()


def _on(hosts: dict[str, Node], plan: Plan) -> tuple[Answered, str]:
    for host in hosts.values():
        host.cmd("ip link set lo up")
    for left, here, right, there in plan.links:
        Link(hosts[left], hosts[right], intfName1=here, intfName2=there)
    for node, command in plan.network:
        _quietly(hosts[node], command)
    for node, command in plan.answerers:
        hosts[node].cmd(f"{command} &")
    for node, command in plan.rules:
        _quietly(hosts[node], command)
    _quietly(hosts["node"], f"nft -f {PROBE}")
    wait_until_ready(plan)
    answered = {flow: int(hosts[node].cmd(command)) for flow, node, command in plan.askers}
    counters = hosts["node"].cmd(COUNTERS)
    for node, _ in plan.answerers:
        hosts[node].cmd("kill %1")
    return answered, counters


def _quietly(host: Node, command: str) -> None:
    printed = host.cmd(command)
    if printed.strip():
        raise RuntimeError(f"{host.name}: {command}: {printed}")


if __name__ == "__main__":
    serve(carry_out)
