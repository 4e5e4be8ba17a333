"""All peers in one run: round by round each does the same, and must see the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from benchmarks.experiments import measured, together, worker
from benchmarks.peers import plan
from benchmarks.peers.compile import compiled, counter
from benchmarks.peers.install import Environment, environment
from benchmarks.samples import Sample
from lab.record import FlowRun, Run
from lab.registry.software import Software
from lab.runner.pool import Worker
from lab.scenario import Experiment
from lab.traffic.flow import Expectation

OWNER = "tailscale"
PEERS = (("shell", "drive_shell"), ("Mininet", "drive_mininet"), ("munet", "drive_munet"))
LAB = "fwmark-lab"
_LAB_TIMES = 5
"""Experiments of the lab per round; its own are short."""
_PRIVATE = 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"'
_COUNTER = re.compile(r"counter (\w+) \{\s*packets (\d+)")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Seen:
    """How many packets of each flow were answered, and how many each counter counted."""

    answered: dict[str, int]
    counted: dict[str, int]


class Peer(Protocol):
    """Someone who can carry out the scenario."""

    def run(self) -> tuple[float, Seen]:
        """Carry it out once, from nothing to nothing; return the seconds and what was seen."""


@dataclass(slots=True)
class Result:
    """What came of one peer; ``missing`` says why it is not here at all.

    ``failures`` lists why single attempts do not count; among them that it saw something else.
    """

    name: str
    missing: str = ""
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def sample(self) -> Sample:
        """Return the seconds per experiment."""
        return Sample(tuple(self.seconds))


@dataclass(frozen=True, slots=True)
class Race:
    """The results of all, and how large the scenario was; ``lost`` packets are never answered."""

    results: tuple[Result, ...]
    commands: int
    flows: int
    lost: int


def race(rounds: int) -> Race:
    """Let all peers run, interleaved, for some rounds after one that is not counted."""
    experiment = together(flows_of=OWNER)
    owner = next(s for s in experiment.software if s.name == OWNER)
    with ExitStack() as stack:
        place = stack.enter_context(environment(_ROOT))
        todo = compiled(experiment, owner, place.python)
        results: list[Result] = []
        peers: dict[str, Peer] = {}
        for name, module in PEERS:
            result = Result(name, place.missing.get(name, ""))
            results.append(result)
            if not result.missing:
                peers[name] = _Program(stack.enter_context(_process(place, module, todo)))
        lab = _Lab(stack.enter_context(worker()), experiment, owner)
        own = Result(LAB)
        _, truth = lab.run()
        for number in range(rounds + 1):
            if number == 1:  # the first round only warms up
                for result in (own, *results):
                    result.seconds, result.ratios, result.failures = [], [], []
            _round(own, lab, results, peers, truth)
        lost = sum(flow.count - truth.answered[flow.name] for flow in owner.flows)
    return Race((own, *results), len(todo.rules), len(owner.flows), lost)


def _round(
    own: Result,
    lab: Peer,
    results: Sequence[Result],
    peers: dict[str, Peer],
    truth: Seen,
) -> None:
    mine = [taken for _ in range(_LAB_TIMES) for taken in _attempt(own, lab, truth)]
    for result in results:
        if mine and result.name in peers:
            for taken in _attempt(result, peers[result.name], truth):
                result.ratios.append(taken / Sample(tuple(mine)).median)


def _attempt(result: Result, peer: Peer, truth: Seen) -> list[float]:
    """Let a peer carry it out; return the seconds, or nothing if it does not count."""
    try:
        seconds, seen = peer.run()
    except (OSError, ValueError) as problem:
        result.failures.append(str(problem))
        return []
    if why := difference(truth, seen):
        result.failures.append(why)
        return []
    result.seconds.append(seconds)
    return [seconds]


def difference(truth: Seen, seen: Seen) -> str:
    """Say what a peer saw differently from the lab; nothing if it saw the same."""
    expected, found = truth.answered | truth.counted, seen.answered | seen.counted
    differing = [
        f"{name}: {found.get(name)} instead of {number}"
        for name, number in sorted(expected.items())
        if found.get(name) != number
    ]
    return f"it saw something else: {', '.join(differing)}" if differing else ""


@dataclass(frozen=True, slots=True)
class _Lab:
    """The lab's own worker, asked as ``check`` asks it."""

    worker: Worker
    experiment: Experiment
    owner: Software

    def run(self) -> tuple[float, Seen]:
        seconds, run = measured(self.worker, self.experiment)
        return seconds, seen_by_the_lab(run, self.owner)


def seen_by_the_lab(run: Run, owner: Software) -> Seen:
    """Count in a run what the peers' counters count."""
    answered: dict[str, int] = {}
    counted: dict[str, int] = {}
    for flow in owner.flows:
        recorded = run.flow(owner.title, flow.name)
        if recorded is None or run.lost or run.refused:
            raise ValueError(f"the lab lost something: {run.lost or run.refused or flow.name}")
        answered[flow.name] = recorded.fate.answered
        for number, expectation in enumerate(flow.expectations, 1):
            words = list(_words(recorded, expectation))
            right = sum(expectation.mark.matches(word) for word in words)
            name = counter(flow, number)
            counted |= {f"{name}_right": right, f"{name}_wrong": len(words) - right}
    return Seen(answered, counted)


def _words(flow: FlowRun, expectation: Expectation) -> Iterator[int]:
    for line in flow.timelines:
        if line.direction == expectation.direction and expectation.covers(line.ordinal):
            for reading in line.readings():
                word = reading.word(expectation.field)
                if reading.point == expectation.point and reading.probe and word is not None:
                    yield word


@dataclass(frozen=True, slots=True)
class _Program:
    """A peer's process: a line in, a line of JSON out."""

    process: subprocess.Popen[str]

    def run(self) -> tuple[float, Seen]:
        started = time.perf_counter()
        print(file=_stream(self.process.stdin), flush=True)
        line = _stream(self.process.stdout).readline()
        if not line:
            raise ValueError(f"its process ended with {self.process.wait()}")
        seconds = time.perf_counter() - started
        answer = json.loads(line)
        if "failure" in answer:
            raise ValueError(answer["failure"])
        counted = {name: int(number) for name, number in _COUNTER.findall(answer["counters"])}
        return seconds, Seen(answer["answered"], counted)


@contextmanager
def _process(place: Environment, module: str, todo: plan.Plan) -> Iterator[subprocess.Popen[str]]:
    """Start a peer in namespaces of its own; whatever it leaves behind ends with them."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    with tempfile.TemporaryDirectory(dir=place.variables["TMPDIR"]) as folder:
        path = Path(folder) / "plan.json"
        plan.write(todo, path)
        # munet ends its hosts by SIGHUP: if nohup's "ignore" came down to them, it would wait 30 s.
        default = ("env", "--default-signal=HUP")
        unshare = ("unshare", *user, "--net", "--mount", "--pid", "--fork", "--mount-proc")
        program = (place.python, "-m", f"benchmarks.peers.{module}", str(path))
        with subprocess.Popen(
            (*default, *unshare, "--kill-child", "sh", "-c", _PRIVATE, "sh", *program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=place.variables,
            text=True,
            process_group=0,  # Ctrl-C is for the benchmark, which then ends this
        ) as process:
            try:
                _stream(process.stdout).readline()
                yield process
            finally:
                process.kill()  # --kill-child ends the rest


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the process has no pipe")
    return stream
