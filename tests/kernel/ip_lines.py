"""What lines of ip leave in a worker's sandbox: sent as requests, and given to ip itself."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from lab.errors import RuleRefused
from lab.kernel import command
from lab.kernel.sandbox import Sandbox
from lab.rules import requests
from lab.runner import bench as benches
from lab.scenario import Experiment

LOOKS = tuple(
    ("ip", "-d", family, *words)
    for family in ("-4", "-6")
    for words in (("rule",), ("route", "show", "table", "all"))
)
Seen = dict[str, list[str]]


def both_ways(place: Sandbox, experiment: Experiment) -> tuple[Seen, Seen]:
    """Install once as it is done, once by ip alone; return what there is to see after each."""
    sent = _seen(place, experiment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "send", lambda *_: 0)
        return sent, _seen(place, experiment)


def ip_is_started(place: Sandbox, experiment: Experiment) -> bool:
    """Tell whether ip is given any line."""
    started: list[tuple[str, ...]] = []

    def run(arguments: tuple[str, ...], text: str = "") -> command.Result:
        started.append(arguments)
        return original(arguments, text)

    original = command.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run", run)
        _seen(place, experiment)
    return any(arguments[0] == "ip" and "-batch" in arguments for arguments in started)


def _seen(place: Sandbox, experiment: Experiment) -> Seen:
    refused = ""
    with ExitStack() as stack:
        bench = benches.set_up(experiment, place, stack)
        try:
            benches.install(bench)
        except RuleRefused as problem:
            refused = str(problem)
        seen = {"refused": [refused]}
        for node, namespace in bench.network.namespaces.items():
            with namespace.inside(place.home):
                seen |= {f"{node}: {' '.join(look)}": _lines(look) for look in LOOKS}
    return seen


def _lines(look: tuple[str, ...]) -> list[str]:
    """Rules in their order; routes in one of their own, since the kernel lists tables by chance."""
    lines = command.run(look).output.splitlines()
    if "rule" in look:
        return lines
    # The kernel makes link-local addresses, and their routes, in its own time.
    return sorted(line for line in lines if "fe80:" not in line and "ff00::/8" not in line)
