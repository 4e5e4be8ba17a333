"""The plain way: one shell script per experiment, in the style of the kernel's own selftests."""

from __future__ import annotations

import shlex
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.peers.drive import COUNTERS, PROBE, Answered, serve
from benchmarks.peers.plan import Command, Plan

_SCRIPT = Path("/run/plain.sh")


def script(plan: Plan) -> str:
    """Write the shell script of a plan."""
    nodes = " ".join(plan.nodes)
    ready = " && ".join(f"[ -e {path} ]" for path in plan.ready)
    return "\n".join(
        [
            "#!/bin/sh",
            "set -eu",
            f"trap 'kill $answerers; for node in {nodes}; do ip netns del $node; done' EXIT",
            "answerers=",
            f"for node in {nodes}; do",
            '    ip netns add "$node"; ip -n "$node" link set lo up',
            "done",
            *(
                f"ip link add {here} netns {a} type veth peer name {there} netns {b}"
                for a, here, b, there in plan.links
            ),
            *(_in(command) for command in plan.network),
            *(f'{_in(c)} & answerers="$answerers $!"' for c in plan.answerers),
            *(_in(command) for command in plan.rules),
            _in(("node", f"nft -f {PROBE}")),
            f"until {ready}; do :; done",
            *(f"echo {flow} $({_in((node, command))})" for flow, node, command in plan.askers),
            "echo counters",
            _in(("node", COUNTERS)),
        ]
    )


def _in(command: Command) -> str:
    node, line = command
    if line.startswith("ip "):
        return f"ip -n {shlex.quote(node)}{line[2:]}"
    return f"ip netns exec {shlex.quote(node)} {line}"


@cache
def _written(text: str) -> Path:
    _SCRIPT.write_text(text)
    return _SCRIPT


def carry_out(plan: Plan) -> tuple[Answered, str]:
    """Run the script once."""
    path = _written(script(plan))
    done = subprocess.run(("sh", str(path)), stdout=subprocess.PIPE, text=True, check=True)
    head, _, counters = done.stdout.partition("counters\n")
    answered = dict(line.split() for line in head.splitlines())
    return {flow: int(count) for flow, count in answered.items()}, counters


if __name__ == "__main__":
    serve(carry_out)
