"""The same on munet: its hosts and its point-to-point links."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import tempfile

from munet.base import BaseMunet  # type: ignore[import-not-found]

from benchmarks.peers.drive import COUNTERS, PROBE, Answered, serve, wait_until_ready
from benchmarks.peers.plan import Plan


def carry_out(plan: Plan) -> tuple[Answered, str]:
    """Build, install, send and count with ``host.cmd_raises``, as munet's own tests do."""
    with tempfile.TemporaryDirectory() as folder:
        net = BaseMunet(rundir=folder)
        try:
            return _on(net, plan)
        finally:
            asyncio.run(net.async_delete())


def _on(net: BaseMunet, plan: Plan) -> tuple[Answered, str]:
    for name in plan.nodes:
        net.add_host(name)
    for left, here, right, there in plan.links:
        net.add_link(net.hosts[left], net.hosts[right], here, there)
    for node, command in plan.network:
        net.hosts[node].cmd_raises(command)
    running = [_start(net, node, command) for node, command in plan.answerers]
    for node, command in plan.rules:
        net.hosts[node].cmd_raises(command)
    net.hosts["node"].cmd_raises(f"nft -f {PROBE}")
    wait_until_ready(plan)
    answered = {f: int(net.hosts[node].cmd_raises(command)) for f, node, command in plan.askers}
    counters = net.hosts["node"].cmd_raises(COUNTERS)
    for process in running:
        process.kill()
        process.wait()
    return answered, counters


def _start(net: BaseMunet, node: str, command: str) -> subprocess.Popen[str]:
    return net.hosts[node].popen(  # type: ignore[no-any-return]
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(carry_out)
