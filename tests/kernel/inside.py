"""What the kernel tests do inside a worker's sandbox; each is called by name."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from lab.capture import archive, host
from lab.errors import SandboxError
from lab.kernel import bpf, command, features, netns, tcx, template
from lab.kernel.netlink import Netfilter
from lab.kernel.netns import Netns
from lab.kernel.nftables import Nft
from lab.kernel.sandbox import Sandbox
from lab.native.iptables_text import saved
from lab.native.rule import Rule
from lab.observe import recorder
from lab.observe.recorder import Recorder
from lab.record import Run
from lab.rules import apply
from lab.rules.installed import Installed
from lab.rules.listing import Listings
from lab.runner import bench as benches
from lab.runner import sequence
from lab.scenario import Experiment
from lab.topology import library
from lab.topology.build import Network, build
from lab.traffic.flow import FAMILIES, Family
from lab.traffic.send import Switchboard

PORT = 7000


@contextmanager
def network(place: Sandbox, family: Family) -> Iterator[Network]:
    """Build the node and its neighbours."""
    made = build(library.find("kubernetes-node"), family, place.home)
    try:
        yield made
    finally:
        made.close()


def inodes(place: Sandbox, _: object) -> tuple[int, int]:
    """Return the caller's namespace and this one."""
    return place.outside, netns.host_inode()


def refusal(place: Sandbox, _: object) -> str:
    """Return what is said when rules are to be installed where one must not."""
    try:
        netns.assert_not(place.home.inode)
    except SandboxError as problem:
        return str(problem)
    return ""


def open_socket(made: Network, node: str, port: int) -> socket.socket:
    """Open a UDP socket on a node."""
    family = socket.AF_INET6 if made.family == "ipv6" else socket.AF_INET
    with made.namespaces[node].inside(made.home):
        found = socket.socket(family, socket.SOCK_DGRAM)
    found.setblocking(False)
    found.bind(("", port))
    return found


def received(sock: socket.socket) -> list[bytes]:
    """Take what has arrived."""
    found = []
    while True:
        try:
            found.append(sock.recv(64))
        except BlockingIOError:
            return found


def first_packets(place: Sandbox, rounds: object) -> dict[str, int]:
    """Send one packet over each link as soon as the network is built; count what arrived."""
    counts = {"sent": 0, "arrived": 0}
    for number in range(int(str(rounds))):
        family = FAMILIES[number % 2]
        with network(place, family) as made, ExitStack() as stack:
            facts = made.topology.facts_for(family)
            ways = (
                ("client", "node", "node.ip"),
                ("node", "client", "client.ip"),
                ("lan", "pod-a", "pod-a.ip"),
                ("pod-a", "pod-b", "pod-b.ip"),
                ("peer", "node", "node.tailnet-ip"),
            )
            for port, (sender, receiver, fact) in enumerate(ways, PORT):
                server = stack.enter_context(open_socket(made, receiver, port))
                client = stack.enter_context(open_socket(made, sender, 0))
                client.sendto(b"first", (facts[fact], port))
                place.settler.settle()
                counts["sent"] += 1
                counts["arrived"] += len(received(server))
    return counts


def settled(place: Sandbox, rounds: object) -> tuple[int, int, int]:
    """Send through two namespaces and back; return what was sent, there at once, and late."""
    sent = at_once = late = 0
    with network(place, "ipv4") as made, ExitStack() as stack:
        facts = made.topology.facts_for("ipv4")
        server = stack.enter_context(open_socket(made, "pod-b", PORT))
        client = stack.enter_context(open_socket(made, "pod-a", 0))
        for number in range(int(str(rounds))):
            for part in range(4):
                client.sendto(b"%d.%d" % (number, part), (facts["pod-b.ip"], PORT))
                sent += 1
            place.settler.settle()
            at_once += len(received(server))
            for _ in range(3):
                place.settler.settle()
            late += len(received(server))
    return sent, at_once, late


def restored(place: Sandbox, argument: Any) -> dict[tuple[str, str], list[str]]:
    """Load texts one after another with iptables-restore; return iptables-save's chains."""
    program, texts = argument
    with _fresh(place):
        for text in texts:
            result = command.run((f"{program}-restore", "--noflush"), text)
            if result.status:
                raise SandboxError(f"{text!r}: {result.error}")
        return saved(command.run((f"{program}-save",)).output)


@contextmanager
def _fresh(place: Sandbox) -> Iterator[None]:
    made = Netns.create("fresh")
    try:
        yield
    finally:
        place.home.enter()
        made.close()


def installed_twice(place: Sandbox, argument: Any) -> tuple[str, str]:
    """Install by nft, and as the messages of one transaction; return how nft lists either."""
    frame, chains = argument
    listed = []
    messages = template.transaction(frame, chains, place.home)
    for by_nft in (True, False):
        with _fresh(place), closing(Nft()) as nft, closing(Netfilter()) as netlink:
            if by_nft:
                nft.run("".join((frame, *chains)))
            else:
                netlink.transact(messages)
            listed.append(nft.run("list ruleset")[0])
    return listed[0], listed[1]


def refused_in_part(place: Sandbox, argument: Any) -> tuple[str, str]:
    """Install a transaction whose rules the kernel refuses; return the error and what is there."""
    messages = template.transaction(*argument, place.home)
    with _fresh(place), closing(Nft()) as nft, closing(Netfilter()) as netlink:
        try:
            netlink.transact(messages.replace(b"immediate\0", b"immediatf\0"))
        except OSError as problem:
            return str(problem.strerror), nft.run("list ruleset")[0]
    return "", ""


def observed(place: Sandbox, argument: Any) -> tuple[int, list[str], int]:
    """Run an experiment's flows with or without the recorder.

    Returns the conntrack entries on the node, the fates, and the number of passes watched.
    """
    experiment, recording = argument
    with ExitStack() as stack:
        bench = benches.set_up(_checked(experiment), place, stack)
        benches.install(bench)
        watching = Recorder()
        stack.callback(watching.close)
        if recording:
            sequence._watch(bench, watching, 99)
        switchboard = Switchboard(bench.network, place.settler.settle)
        stack.callback(switchboard.close)
        calls = benches.calls(bench)
        switchboard.listen(calls)
        outcomes = [str(switchboard.run(call)) for call in calls]
        passes = sum(len(mine) for met in watching.cut().values() for mine in met.values())
        with bench.network.namespaces["node"].inside(place.home):
            count = Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text()
        return int(count), outcomes, passes


def run_with_small_buffers(place: Sandbox, argument: Any) -> tuple[str, ...]:
    """Run an experiment whose first attempts have too small a buffer; return what was lost."""
    experiment, small = argument
    sizes = iter([1] * small)
    once = sequence._once

    def attempt(*arguments: Any) -> Run:
        with mock.patch.object(recorder, "_BUFFER", next(sizes, recorder._BUFFER)):
            return once(*arguments)

    with mock.patch.object(sequence, "_once", attempt):
        return sequence.run(_checked(experiment), place, benches.stock(place)).lost


def listed_otherwise(place: Sandbox, argument: Any) -> list[str]:
    """Install an experiment's rules, run a command that changes one, and list them."""
    experiment, arguments = argument
    with ExitStack() as stack:
        bench = benches.set_up(_checked(experiment), place, stack)
        benches.install(bench)
        with bench.network.namespaces["node"].inside(place.home):
            result = command.run(arguments)
        if result.status:
            raise SandboxError(f"{arguments}: {result.error}")
        return sequence._list_rules(bench, Listings())


def _checked(experiment: object) -> Experiment:
    if not isinstance(experiment, Experiment):
        raise SandboxError(f"{experiment!r} is no experiment")
    return experiment


def captured(place: Sandbox, argument: Any) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Install software by iptables-nft, then more by iptables-legacy, and capture the node.

    Returns the rules about marks and the sysctls that were installed, as the kernel lists them, and
    what the node looked like before and after. The archive is put where the argument says.
    """
    experiment, legacy, options = argument
    with ExitStack() as stack:
        bench = benches.set_up(_checked(experiment), place, stack)
        benches.install(bench)
        later = Installed(experiment.family, "legacy")
        site = bench.sites["node"]
        sites = bench.sites | {"node": replace(site, installed=later)}
        apply.install(legacy, bench.network, sites)
        with bench.network.namespaces["node"].inside(place.home):
            listings = Listings()
            for installed in (site.installed, later):
                listings.name(installed, site.nft)
            before = looks()
            _run_command(*options)
            after = looks()
        rules = [*site.installed.everything(), *later.everything()]
    return [_as_listed(rule) for rule in rules if _about_marks(rule)], before, after


def _about_marks(rule: Rule) -> bool:
    return rule.tool != "bpf" and ("mark" in rule.written.lower() or rule.tool == "sysctl")


def _as_listed(rule: Rule) -> str:
    return rule.listed or rule.written


def _run_command(*options: str) -> None:
    """Run the command line in the current network namespace."""
    done = subprocess.run(
        (sys.executable, "-m", "lab", "capture", *options),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(sequence.__file__).parents[2])},
    )
    if done.returncode:
        raise SandboxError(f"capture {options}: {done.stderr}")


LOOKS = (
    ("nft", "-s", "-a", "list", "ruleset"),
    ("ip", "-4", "rule"),
    ("ip", "-6", "rule"),
    ("ip", "-4", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "-d", "link"),
    ("ip", "address"),
    ("ip", "xfrm", "policy"),
    ("ip", "xfrm", "state"),
    ("tc", "qdisc"),
    ("ipset", "list"),
)


def looks() -> dict[str, str]:
    """Read everything of the current namespace that a capture could have changed."""
    found = {" ".join(line): command.run(line).output for line in LOOKS}
    for family, prefix in (("ip", "iptables"), ("ip6", "ip6tables")):
        names = Path(f"/proc/thread-self/net/{family}_tables_names").read_text()
        found[f"{family}_tables_names"] = names
        for table in names.split():
            text = command.run((f"{prefix}-legacy-save", "-t", table)).output
            found[f"{prefix} {table}"] = re.sub(r"\[\d+:\d+\]|(?m:^#.*)", "", text)
    for path in sorted(Path("/proc/sys/net").rglob("*")):
        if path.is_file() and os.access(path, os.R_OK) and path.stat().st_mode & 0o444:
            with suppress(OSError):
                found[str(path)] = path.read_text()
    return found | {"modules": re.sub(r"(?m) .*", "", features.read("/proc/modules"))}


_RETURN = bytes.fromhex("b7000000000000009500000000000000")
_LINK_CREATE = 28


def attached_at_tcx(place: Sandbox, _: object) -> tuple[list[Any], ...]:
    """Attach a program at tcx of a new namespace's lo; say what is seen before, then, and after."""
    with _fresh(place):
        before = list(tcx.attached())
        with bpf.loaded(_RETURN) as fd:
            index = socket.if_nametoindex("lo")
            asked = struct.pack("=IIII48x", fd, index, tcx.PLACES["tcx ingress"], 0)
            link, _ = bpf.syscall(_LINK_CREATE, asked)
        if link < 0:
            raise SandboxError(os.strerror(-link))
        then = list(tcx.attached())
        os.close(link)
        return before, then, list(tcx.attached())


def packed(place: Sandbox, argument: Any) -> bytes:
    """Install an experiment's software, then texts by programs; return the node's archive."""
    experiment, extra = argument
    with ExitStack() as stack:
        bench = benches.set_up(_checked(experiment), place, stack)
        benches.install(bench)
        with bench.network.namespaces["node"].inside(place.home):
            for program, text in extra:
                result = command.run(program, text)
                if result.status:
                    raise SandboxError(f"{program}: {result.error}")
            return archive.packed(*host.capture())
