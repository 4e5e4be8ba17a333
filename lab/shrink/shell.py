"""The shell text of which reproducing scripts are made [pure]."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from lab.shrink import programs
from lab.topology.plan import Interface, Topology
from lab.traffic.flow import Family, Flow
from lab.traffic.packets import MAGIC

_NAMESPACES = """
# Nothing of this machine is changed: everything happens in namespaces that end with the script.
PATH=$PATH:/usr/sbin:/sbin
status=2
leave() { echo "$0: $1" >&2; exit 2; }
if [ -z "${IN_OWN_NAMESPACES:-}" ]; then
    for program in %(programs)s; do
        command -v "$program" >/dev/null || leave "$program is missing"
    done
    [ -f "$0" ] || leave "run it from a file"
    set -- --net --mount --pid --fork
    [ "$(id -u)" = 0 ] || %(ordinary)s
    unshare "$@" true || leave "namespaces are refused; run as root"
    IN_OWN_NAMESPACES=1 exec unshare "$@" --kill-child sh "$0"
fi
finish() {
    [ "$status" != 2 ] || echo "$0: nothing was judged" >&2
    exit "$status"
}
trap finish EXIT
trap 'status=130; exit' INT
trap 'status=143; exit' HUP TERM
mount -t tmpfs tmpfs /run
mkdir /run/netns
on() { ip netns exec "$@"; } # node, command
sysctls() { # node: sets those of standard input, as paths below /proc/sys
    # shellcheck disable=SC2016
    on "$1" sh -c 'while read -r key value; do echo "$value" >"/proc/sys/$key" || exit; done'
}
up() { # node, device: packets are lost while it is not
    until ip -n "$1" link show dev "$2" | grep -q "state UP"; do :; done
}
"""

_MEASURE = """
measure() { # install functions: sets what was seen
    build
    for install in "$@"; do "$install"; done
    probe
    rm -f /run/ready
    ip netns exec "$receiver" python3 /run/receiver.py >/run/received &
    until [ -e /run/ready ]; do kill -0 "$!"; done
    on "$sender" python3 /run/sender.py >/run/answered
    kill "$!"; wait "$!" || true
    words=$(words)
%s    fate="$(cat /run/received), $(cat /run/answered)"
    for node in $nodes; do ip netns del "$node"; done
}
"""


def head(needed: Iterable[str], root: str) -> str:
    """Write how the script goes into namespaces of its own, and how it ends.

    ``needed`` are the programs it starts; ``root`` says why an ordinary user cannot run it.
    """
    everything = " ".join(["unshare", "mount", "ip", "nft", "python3", *needed])
    ordinary = f'leave "{root}; run as root"' if root else 'set -- --map-root-user "$@"'
    return _NAMESPACES % {"programs": everything, "ordinary": ordinary}


def function_name(title: str) -> str:
    """Make a shell function's name of an entry's title."""
    return "install_" + re.sub(r"\W", "_", title, flags=re.ASCII)


def one_line(text: str) -> str:
    """Keep a comment on its line."""
    return " ".join(text.split())


def feed(program: str, content: Iterable[str], indent: str = "    ") -> str:
    """Give lines to a program; nothing in them is expanded, and none of them ends the text."""
    body = [*content]
    end = "RULES"
    while end in body:
        end += "_"
    return f"{indent}{program} <<'{end}'\n" + "".join(f"{line}\n" for line in body) + f"{end}\n"


def sysctls(node: str, settings: Iterable[tuple[str, str]]) -> str:
    """Set sysctls of a node (a name, or a variable in double quotes)."""
    lines = [f"{key.replace('.', '/')} {value}" for key, value in settings]
    return feed(f"sysctls {node}", lines) if lines else ""


def build(topology: Topology, family: Family, settings: Sequence[tuple[str, str]]) -> str:
    """Write the function that makes the namespaces and what connects them.

    ``settings`` are sysctls of the node besides those of the topology.
    """
    common = set.intersection(*(set(node.sysctls) for node in topology.nodes))
    parts = [
        f'nodes="{" ".join(topology.node_names())}"\n',
        "build() {\n    for node in $nodes; do\n",
        '    ip netns add "$node"; ip -n "$node" link set lo up\n',
        sysctls('"$node"', sorted(common)),
        "    done\n",
        *(sysctls(n.name, [s for s in n.sysctls if s not in common]) for n in topology.nodes),
    ]
    steps = [step for link in topology.links for step in _link(link.left, link.right, family)]
    steps += _neighbours_and_routes(topology, family)
    ends = [end for link in topology.links for end in (link.left, link.right)]
    steps += [f"up {end.node} {end.name}" for end in ends]
    parts += [f"    {step}\n" for step in steps]
    return "".join([*parts, sysctls("node", settings), "}\n"])


def _link(left: Interface, right: Interface, family: Family) -> list[str]:
    steps = [
        f"ip link add {left.name} {_device(left)} netns {left.node} type veth "
        f"peer name {right.name} {_device(right)} netns {right.node}"
    ]
    nodad = " nodad" if family == "ipv6" else ""
    for end in (left, right):
        steps.append(f"ip -n {end.node} link set {end.name} up{'' if end.arp else ' arp off'}")
        steps += [
            f"ip -n {end.node} address add {address} dev {end.name}{nodad}"
            for address in end.addresses
            if _is(address, family)
        ]
    return steps


def _neighbours_and_routes(topology: Topology, family: Family) -> list[str]:
    steps = [
        f"ip -n {n.node} neighbour replace {n.address} lladdr {n.mac} dev {n.device}"
        for n in topology.neighbours
        if _is(n.address, family)
    ]
    for route in topology.routes:
        if _is(route.to, family):
            via = f" via {route.via} onlink" if route.via else ""
            steps.append(f"ip -n {route.node} route add {route.to} dev {route.device}{via}")
    return steps


def _device(end: Interface) -> str:
    return f"address {end.mac} mtu {end.mtu}"


def _is(address: str, family: Family) -> bool:
    return (":" in address) == (family == "ipv6")


def python(name: str, text: str) -> str:
    """Write a Python program to a file of the script's own ``/run``."""
    return feed(f"cat >/run/{name}.py", text.strip("\n").split("\n"), indent="")


def attach(node: str, device: str, hook: str, target: str, code: bytes) -> str:
    """Load and attach an eBPF program with :data:`lab.shrink.programs.ATTACH`."""
    words = shlex.join(["python3", "/run/attach.py", device, hook, target])
    digits = code.hex()
    return feed(f"on {node} {words}", [digits[i : i + 96] for i in range(0, len(digits), 96)])


def traffic(flow: Flow, ends: tuple[str, str, str], family: Family) -> str:
    """Write the two small programs that send and answer."""
    source, to, _ = ends
    by_kernel = flow.sender == "node" and not flow.source_address
    both = {
        "family": "AF_INET" if family == "ipv4" else "AF_INET6",
        "kind": "SOCK_STREAM" if flow.protocol == "tcp" else "SOCK_DGRAM",
        "count": flow.count,
        "transparent": flow.transparent,
    }
    receiver = programs.program(programs.RECEIVER, **both, port=flow.answer_port or flow.port)
    sender = programs.program(
        programs.SENDER,
        **both,
        port=flow.port,
        source="" if by_kernel else source,
        to=to,
        mark=flow.socket_mark,
        uid=flow.uid,
        magic=MAGIC,
    )
    return (
        f"sender={flow.sender} receiver={flow.listener or flow.sender}\n"
        f"{python('receiver', receiver)}\n{python('sender', sender)}"
    )


def measure(counts: Iterable[str]) -> str:
    """Write the function that builds, installs, sends and looks; ``counts`` it takes as well."""
    return _MEASURE % "".join(f'    {c}=$({c}); : "${{{c}:?}}"\n' for c in counts)


def conclude(owner: str, everyone: str, condition: str, *, arrives: bool) -> str:
    """Write the comparison of the run alone with the run together.

    ``condition`` compares ``$alone_NAME`` and ``$together_NAME``. With ``arrives`` a flow that is
    lost already alone ends the script without a judgement.
    """
    lost = 'case $fate in 0*) leave "alone nothing arrives, although it should" ;; esac\n'
    return f"""
measure {owner}
{_keep("alone", condition)}
show alone
{lost if arrives else ""}measure {everyone}
{_keep("together", condition)}
show together
[ "$alone_fate" = "$together_fate" ] || echo "the flow ends differently together"
if {condition}; then
    echo "the conflict shows"
    status=1
else
    echo "no conflict here"
    status=0
fi
"""


def _keep(which: str, condition: str) -> str:
    names = ["fate", *(n for n in ("right", "matched") if f"${which}_{n}" in condition)]
    return "; ".join(f"{which}_{name}=${name}" for name in names)
