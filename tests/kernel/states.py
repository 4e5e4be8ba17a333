"""What a kernel lists of all that was installed, called within a worker's sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from lab.errors import RuleRefused
from lab.kernel import command
from lab.kernel.sandbox import Sandbox
from lab.native.iptables_text import saved
from lab.native.lines import lines
from lab.rules import again as again_
from lab.rules import apply
from lab.runner import bench as benches
from lab.runner.bench import Bench
from lab.scenario import Experiment

State = dict[str, object]
_LISTINGS = (  # of each the order of lines counts
    "ip -4 rule",
    "ip -6 rule",
    "ip link",
    "ip -o addr",
    "ip xfrm policy",
    "ip xfrm state",
)
_SETS_OF_LINES = (
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip neigh show nud permanent",
    "ipset save",
)
WANDERING = re.compile(
    r"\b(?:(?:expires|valid_lft|preferred_lft) \d+sec|link/ether .*|link-netnsid \d+|link-netns \S+"
    r"|tentative|state [A-Z]+|initval 0x[0-9a-f]+|bucketsize \d+| id \d+)|,?LOWER_UP|NO-CARRIER,"
)
"""What differs between any two installations: times, random addresses, how far a device is up."""
_MADE_LATER = re.compile(r"\bf(?:e80|f00|f02)::|:.* proto kernel ")
"""What the kernel makes in its own time, from a work queue: the routes of IPv6 addresses."""
_BLOCK = re.compile(r"^\t(\w+ \S+) \{\n(.*?)^\t\}", re.MULTILINE | re.DOTALL)


def after(place: Sandbox, experiment: Experiment) -> State:
    """Install software in its order and return all that the kernel tells, of every node."""
    return _after(place, experiment, benches.install)


def after_each(place: Sandbox, experiment: Experiment) -> State:
    """Return the same, each software installed by itself."""
    return _after(place, experiment, _each)


def _each(bench: Bench) -> None:
    for software in bench.experiment.software:
        apply.install((software,), bench.network, bench.sites)


def again(place: Sandbox, experiment: Experiment) -> list[tuple[State, int]]:
    """Install software by its programs, and then as it was made by them.

    Returns what there is after each, and how often iptables-restore was started.
    """
    started: list[str] = []

    def run(arguments: tuple[str, ...], text: str = "") -> command.Result:
        started.append(arguments[0])
        return original(arguments, text)

    original = command.run
    found = []
    for undone in (True, False):
        started.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, "run", run)
            if undone:
                patch.setattr(again_, "put", lambda *_: False)
            state = _after(place, experiment, benches.install)
        found.append((state, sum(name.endswith("-restore") for name in started)))
    return found


def refused_again(place: Sandbox, experiment: Experiment) -> tuple[State, State]:
    """Install software by its programs, and where the kernel refuses to have it put again.

    Returns what there is after each.
    """
    given = _after(place, experiment, benches.install)
    known = again_._known()
    for key, made in known.items():
        if made is not None:
            tables = tuple(replace(table, number=table.number + 1) for table in made.legacy)
            known[key] = again_.Made(made.transaction and bytes(16), tables)
    put = _after(place, experiment, benches.install)
    known.clear()
    return given, put


def _after(place: Sandbox, experiment: Experiment, install: Callable[[Bench], None]) -> State:
    with ExitStack() as stack:
        bench = benches.set_up(experiment, place, stack)
        try:
            install(bench)
        except RuleRefused as problem:
            return {"refused": str(problem)}
        return {node: _state(bench, node) for node in bench.nodes.ruled}


def _state(bench: Bench, node: str) -> State:
    legacy, nftables = bench.sites[node].installed.legacy, bench.sites[node].installed.nftables
    family = bench.experiment.family
    with bench.network.namespaces[node].inside(bench.network.home):
        found: State = {one: list(_lines(one)) for one in _LISTINGS}
        found |= {one: sorted(_lines(one)) for one in _SETS_OF_LINES}
        found |= _nft(_output("nft -s list ruleset"))
        found["sysctls"] = _sysctls(bench.experiment)
        found["programs"] = list(_programs())
        if any(rule.tool == "iptables" for c in nftables.chains.values() for rule in c):
            program = "iptables-nft-save" if family == "ipv4" else "ip6tables-nft-save"
            found["tables"] = saved(_output(program))
        if legacy.chains:
            program = "iptables-legacy-save" if family == "ipv4" else "ip6tables-legacy-save"
            found["legacy"] = saved(_output(program))
    return found


def _output(line: str) -> str:
    return command.run(tuple(line.split())).output


def _lines(line: str) -> Iterator[str]:
    for one in _output(line).splitlines():
        if not _MADE_LATER.search(one):
            yield " ".join(WANDERING.sub("", one).split())


def _programs() -> Iterator[str]:
    """List what runs at devices; only those with such a qdisc can have any."""
    hooked = [line for line in _lines("tc qdisc show") if " clsact " in line or " ingress " in line]
    for line in sorted(hooked):
        device = line.split(" dev ")[1].split()[0]
        for side in ("ingress", "egress"):
            yield f"{device} {side}"
            yield from _lines(f"tc filter show dev {device} {side}")


def _nft(text: str) -> State:
    """Return the blocks of every table: in which order tables and chains were made is all one."""
    found: State = {}
    for part in re.split(r"(?m)^(?=table )", text):
        table = part.partition(" {")[0]
        found |= {f"nft {table} {one[1]}": one[2].splitlines() for one in _BLOCK.finditer(part)}
    return found


def _sysctls(experiment: Experiment) -> dict[str, str]:
    """Read what was written and its namesakes: one may set others."""
    written = {
        line.text.partition("=")[0].strip().rpartition(".")[2]
        for software in experiment.software
        for ruleset in software.rulesets
        if ruleset.tool == "sysctl"
        for line in lines(ruleset.text)
    }
    if written & {"ip_forward", "forwarding"}:
        written |= {"ip_forward", "forwarding"}
    paths = [path for leaf in written for path in Path("/proc/sys/net").rglob(leaf)]
    return {str(path): path.read_text() for path in paths}
