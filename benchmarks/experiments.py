"""What one experiment costs, in which phase, and what the cost grows with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.inside import PHASES, Batch
from benchmarks.samples import Sample, milliseconds
from lab.record import Run
from lab.registry.find import find, known
from lab.registry.software import Software
from lab.runner.pool import Worker
from lab.runner.protocol import Request, Task
from lab.scenario import Experiment, Scenario

SUBJECT = ("tailscale", "calico@3.20")
"""The pair of which most numbers speak, together in the given order, IPv4, iptables-nft."""
_GROWING = (
    ("portmap",),
    ("tailscale",),
    ("calico@3.20",),
    SUBJECT,
    (*SUBJECT, "kubernetes"),
    (*SUBJECT, "kubernetes", "portmap"),
)
_IDLE = 100


@dataclass(frozen=True, slots=True)
class Endurance:
    """The same experiment many times over by one worker: milliseconds, and memory in KiB.

    ``in_hand`` counts the way of the record to the process that asked as well. ``memory`` is read
    after the first one, half-way and at the end.
    """

    milliseconds: Sample
    in_hand: Sample
    memory: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Size:
    """How large an experiment is, and its milliseconds."""

    software: tuple[str, ...]
    rules: int
    flows: int
    packets: int
    milliseconds: Sample


def together(
    names: tuple[str, ...] = SUBJECT, flows_of: str = "", variant: str = "nft"
) -> Experiment:
    """Return the experiment in which all the named software is installed, in that order."""
    software = tuple(find(name, known(name)) for name in names)
    scenario = Scenario(
        software,
        families=("ipv4",),
        variants=("legacy" if variant == "legacy" else "nft",),
        orders="given",
        flows=_flows(software, flows_of),
    )
    return list(scenario.experiments())[-1]


def _flows(software: tuple[Software, ...], of: str) -> tuple[str, ...]:
    return tuple(f"{s.name}/{flow.name}" for s in software if s.name == of for flow in s.flows)


@contextmanager
def worker() -> Iterator[Worker]:
    """Start one worker process, and end it."""
    one = Worker(0)
    try:
        yield one
    finally:
        one.close()


def measured(one: Worker, experiment: Experiment) -> tuple[float, Run]:
    """Run an experiment; return the seconds from the request to the run in hand, and the run."""
    started = time.perf_counter()
    run, _ = one.run(Request(experiment))
    return time.perf_counter() - started, run


def endurance(times: int, variant: str) -> Endurance:
    """Run the subject ``times`` times in one worker."""
    experiment = together(variant=variant)
    with worker() as one:
        measured(one, experiment)  # the first one imports and lists every rule
        memory, taken, in_hand = [_memory(one)], [], []
        for half in (times // 2, times - times // 2):
            for _ in range(half):
                seconds, run = measured(one, experiment)
                taken.append(run.seconds)
                in_hand.append(seconds)
            memory.append(_memory(one))
        return Endurance(
            milliseconds(taken), milliseconds(in_hand), (memory[0], memory[1], memory[2])
        )


def phases(times: int, variant: str) -> list[tuple[str, Sample]]:
    """Return the milliseconds of every phase of the subject, and of all together.

    What comes last includes the way of the record to the process that asked.
    """
    batch = Batch(together(variant=variant), times)
    with worker() as one:
        rows: Any = one.ask(Task("benchmarks.inside:phases", batch))
        measured(one, batch.experiment)
        seconds = [measured(one, batch.experiment)[0] for _ in range(times)]
    columns = [milliseconds(column) for column in zip(*rows, strict=True)]
    total = milliseconds([sum(row) for row in rows])
    return [
        *zip(PHASES, columns, strict=True),
        ("all", total),
        ("all, and the record handed over", milliseconds(seconds)),
    ]


def sizes(times: int) -> list[Size]:
    """Measure experiments from one software with few flows to four with many."""
    with worker() as one:
        return [_size(one, names, times) for names in _GROWING]


def _size(one: Worker, names: tuple[str, ...], times: int) -> Size:
    experiment = together(names)
    _, run = measured(one, experiment)
    seconds = [measured(one, experiment)[0] for _ in range(times)]
    packets = sum(len(flow.timelines) for flow in run.flows)
    return Size(names, len(run.rules), len(run.flows), packets, milliseconds(seconds))


def beside_idle_namespaces(times: int) -> list[tuple[int, Sample]]:
    """Measure the subject alone on the machine, and while many namespaces are alive."""
    experiment = together()
    with worker() as one:
        found = []
        for idle in (0, _IDLE):
            batch = Batch(experiment, times, idle)
            seconds: Any = one.ask(Task("benchmarks.inside:seconds", batch))
            found.append((idle, milliseconds(seconds)))
        return found


def _memory(one: Worker) -> int:
    found: Any = one.ask(Task("benchmarks.inside:resident_kibibytes"))
    return int(found)
