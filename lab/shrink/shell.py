"""The shell and Python text of which reproducing scripts are made [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lab.points import Point
from lab.topology.plan import Interface, Topology
from lab.traffic.flow import Direction, Family, Field, Flow
from lab.traffic.packets import MAGIC

OWN_NAMESPACES = """
# Nothing of this machine is changed: everything happens in namespaces that end with the script.
if [ -z "${IN_OWN_NAMESPACES:-}" ]; then
    user=; [ "$(id -u)" = 0 ] || user=--map-root-user
    IN_OWN_NAMESPACES=1 exec unshare $user --net --mount --fork --kill-child sh "$0" "$@"
fi
mount -t tmpfs tmpfs /run
mkdir /run/netns
on() { node=$1; shift; ip netns exec "$node" "$@"; }
"""

MEASURE = """
count() {
    on "$probed" nft list counter inet probe "$1" | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'
}

measure() { # install functions: prints and sets right, wrong and fate
    build
    for install in "$@"; do $install; done
    probe
    rm -f /run/ready
    on "$receiver" python3 /run/receiver.py >/run/received &
    until [ -e /run/ready ]; do kill -0 "$!" || exit 2; done
    on "$sender" python3 /run/sender.py >/run/answered || true
    wait
    right=$(count right); wrong=$(count wrong)
    fate="$(cat /run/received), $(cat /run/answered)"
    for node in $nodes; do ip netns del "$node"; done
}
"""

_RECEIVER = """
import socket
family = socket.{family}
kind = socket.{kind}
v6 = family == socket.AF_INET6
def answer_from(level, kind, value):  # the address it was sent to, whatever the device
    return level, kind, value[:16] + bytes(4) if v6 else bytes(4) + value[4:]
with socket.socket(family, kind) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(*(socket.IPPROTO_IPV6, 49, 1) if v6 else (socket.IPPROTO_IP, 8, 1))
    if {transparent}:
        sock.setsockopt(*(socket.IPPROTO_IPV6, 75, 1) if v6 else (socket.IPPROTO_IP, 19, 1))
    sock.bind(("", {answer_port}))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    open("/run/ready", "w").close()
    sock.settimeout(1.5)
    seen, arrived = "nobody", 0
    try:
        if kind == socket.SOCK_STREAM:
            sock, address = sock.accept()
            sock.settimeout(1.5)
            seen = address[0]
        while arrived < {count}:
            payload, control, _, address = sock.recvmsg(100, 100)
            if not payload:
                break
            seen, arrived = (address or (seen,))[0], arrived + 1
            answer = payload[:4] + bytes([1]) + payload[5:]
            if address:
                sock.sendmsg([answer], [answer_from(*c) for c in control], 0, address)
            else:
                sock.send(answer)
    except TimeoutError:
        pass
    print(f"{{arrived}} of {count} arrived from {{seen}}", end="")
"""

_SENDER = """
import os, socket, struct
family = socket.{family}
v6 = family == socket.AF_INET6
if {uid}:
    os.seteuid({uid})
with socket.socket(family, socket.{kind}) as sock:
    os.seteuid(0)
    sock.settimeout(1)
    if {transparent}:
        sock.setsockopt(*(socket.IPPROTO_IPV6, 75, 1) if v6 else (socket.IPPROTO_IP, 19, 1))
    if {mark}:
        sock.setsockopt(socket.SOL_SOCKET, 36, struct.pack("I", {mark}))
    answered = 0
    try:
        sock.bind(("{source}", 20001))
        sock.connect(("{to}", {port}))
        for number in range({count}):
            sock.send(struct.pack("!HHBB6x", {magic}, 1, 0, number))
            try:
                answered += len(sock.recv(100)) > 0
            except TimeoutError:
                pass
        print(f"{{answered}} of {count} answered", end="")
    except OSError as problem:
        print(f"{{answered}} of {count} answered: {{problem}}", end="")
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """Which packets of a flow are counted where: ``field & bits == value`` is right."""

    point: Point
    field: Field
    bits: int
    value: int
    flow: Flow
    direction: Direction | None


def function_name(title: str) -> str:
    """Make a shell function's name of an entry's title."""
    return "install_" + re.sub(r"\W", "_", title)


def one_line(text: str) -> str:
    """Keep a comment on its line."""
    return " ".join(text.split())


def feed(program: str, node: str, content: Iterable[str]) -> str:
    """Give lines to a program in a node's namespace; nothing in them is expanded."""
    body = "".join(f"{line}\n" for line in content)
    return f"    on {node} {program} <<'RULES'\n{body}RULES\n"


def build(topology: Topology, family: Family) -> str:
    """Write the function that makes the namespaces and what connects them."""
    common = set.intersection(*(set(node.sysctls) for node in topology.nodes))
    steps = [
        f'nodes="{" ".join(topology.node_names())}"',
        "build() {",
        "    for node in $nodes; do",
        '        ip netns add "$node"; ip -n "$node" link set lo up',
        *(f'        on "$node" sysctl -q -w {key}={value}' for key, value in sorted(common)),
        "    done",
    ]
    for node in topology.nodes:
        steps += [
            f"    on {node.name} sysctl -q -w {key}={value}"
            for key, value in node.sysctls
            if (key, value) not in common
        ]
    for link in topology.links:
        left, right = link.left, link.right
        steps.append(
            f"    ip link add {left.name} {_link(left)} netns {left.node} type veth "
            f"peer name {right.name} {_link(right)} netns {right.node}"
        )
        for end in (left, right):
            arp = "" if end.arp else " arp off"
            steps.append(f"    ip -n {end.node} link set {end.name} up{arp}")
            steps += [
                f"    ip -n {end.node} address add {a} dev {end.name}{_nodad(family)}"
                for a in end.addresses
                if _is(a, family)
            ]
    steps += _neighbours_and_routes(topology, family)
    return "\n".join([*steps, "}"]) + "\n"


def _neighbours_and_routes(topology: Topology, family: Family) -> list[str]:
    steps = [
        f"    ip -n {n.node} neighbour replace {n.address} lladdr {n.mac} dev {n.device}"
        for n in topology.neighbours
        if _is(n.address, family)
    ]
    for route in topology.routes:
        if _is(route.to, family):
            via = f" via {route.via} onlink" if route.via else ""
            steps.append(f"    ip -n {route.node} route add {route.to} dev {route.device}{via}")
    return steps


def _link(end: Interface) -> str:
    return f"address {end.mac} mtu {end.mtu}"


def _nodad(family: Family) -> str:
    return " nodad" if family == "ipv6" else ""


def _is(address: str, family: Family) -> bool:
    return (":" in address) == (family == "ipv6")


def probe(probe: Probe, nodes: tuple[str, ...]) -> str:
    """Write the function that counts the flow's packets at the point."""
    word = "meta mark" if probe.field == "mark" else "ct mark"
    test = f"{word} & {probe.bits:#010x}"
    packets = _packets(probe)
    node = probe.point.node if probe.point.node in nodes else "node"
    return f"""probed={node}
probe() {{ # {probe.point}: right is {word} & {probe.bits:#x} == {probe.value:#x}
    on {node} nft -f - <<'RULES'
table inet probe {{
  counter right {{ }}
  counter wrong {{ }}
  chain probe {{
    type filter hook {probe.point.hook} priority {probe.point.priority}; policy accept;
    {packets} {test} == {probe.value:#010x} counter name right
    {packets} {test} != {probe.value:#010x} counter name wrong
  }}
}}
RULES
}}
"""


def _packets(probe: Probe) -> str:
    flow = probe.flow
    if flow.protocol == "udp":
        which = {"request": " @th,96,8 0", "reply": " @th,96,8 1"}.get(probe.direction or "", "")
        return f"meta l4proto udp @th,64,16 {MAGIC:#x}{which}"
    ports = ", ".join(sorted({str(flow.port), str(flow.answer_port or flow.port)}))
    end = {"request": "dport", "reply": "sport"}.get(probe.direction or "", "")
    return f"tcp {end} {{ {ports} }}" if end else "meta l4proto tcp"


def traffic(flow: Flow, ends: tuple[str, str, str], family: Family) -> str:
    """Write the two small programs that send and answer."""
    source, to, _ = ends
    by_kernel = flow.sender == "node" and not flow.source_address
    values = {
        "family": "AF_INET" if family == "ipv4" else "AF_INET6",
        "kind": "SOCK_STREAM" if flow.protocol == "tcp" else "SOCK_DGRAM",
        "answer_port": flow.answer_port or flow.port,
        "port": flow.port,
        "count": flow.count,
        "source": "" if by_kernel else source,
        "to": to,
        "mark": flow.socket_mark,
        "transparent": flow.transparent,
        "uid": flow.uid,
        "magic": MAGIC,
    }
    receiver, sender = _RECEIVER.format(**values), _SENDER.format(**values)
    return f"""sender={flow.sender} receiver={flow.listener or flow.sender}
cat >/run/receiver.py <<'PYTHON'{receiver}PYTHON
cat >/run/sender.py <<'PYTHON'{sender}PYTHON
"""


def conclude(owner: str, everyone: str, condition: str, counted: str) -> str:
    """Write the comparison of the run alone with the run together.

    ``counted`` says what is special of the packets that the probe counts as right.
    """
    return f"""
measure {owner}
alone_right=$right; alone_fate=$fate
echo "alone:    $right packets {counted}, $wrong not; $fate"
measure {everyone}
together_right=$right; together_fate=$fate
echo "together: $right packets {counted}, $wrong not; $fate"
[ "$alone_fate" = "$together_fate" ] || echo "the flow ends differently together"
if {condition}; then
    echo "the conflict shows"
    exit 1
fi
echo "no conflict here"
"""
