"""What is measured within the worker, where experiments run; called there by ``Task``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from lab.kernel.netns import Netns
from lab.kernel.sandbox import Sandbox
from lab.runner import bench, sequence
from lab.scenario import Experiment

PHASES = ("build", "apply", "watch", "send", "collect", "tear down")


@dataclass(frozen=True, slots=True)
class Batch:
    """An experiment to run some times while ``idle`` other namespaces are alive."""

    experiment: Experiment
    times: int
    idle: int = 0

    def __str__(self) -> str:
        return f"{self.times} times {self.experiment}, beside {self.idle} namespaces"


def resident_kibibytes(_: Sandbox, __: None) -> int:
    """Return how much memory the worker holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def seconds(sandbox: Sandbox, batch: Batch) -> tuple[float, ...]:
    """Run experiments and return how long each took."""
    with ExitStack() as stack:
        for number in range(batch.idle):
            stack.callback(Netns.create(f"idle-{number}").close)
        sandbox.home.enter()
        return tuple(sum(phases) for phases in _all(sandbox, batch))


def phases(sandbox: Sandbox, batch: Batch) -> tuple[tuple[float, ...], ...]:
    """Run experiments and return how long each of PHASES took, in seconds."""
    return _all(sandbox, batch)


def _all(sandbox: Sandbox, batch: Batch) -> tuple[tuple[float, ...], ...]:
    kept = bench.stock(sandbox)
    sequence.run(batch.experiment, sandbox, kept)  # fills the caches, as in any session
    return tuple(_phases(batch.experiment, sandbox, kept) for _ in range(batch.times))


def _phases(experiment: Experiment, sandbox: Sandbox, kept: bench.Stock) -> tuple[float, ...]:
    """Run one experiment and note when one phase ends and the next begins.

    ``collect`` ends when the run is recorded; what is left is closing sockets and namespaces.
    """
    moments = [time.perf_counter()]

    def noted(function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not after:
                moments.append(time.perf_counter())
            result = function(*arguments)
            if after:
                moments.append(time.perf_counter())
            return result

        return call

    with ExitStack() as stack:
        for owner, name, after in (
            (bench, "install", False),
            (sequence, "_watch", False),
            (sequence, "_send", False),
            (sequence, "keep_books", False),
            (sequence, "_run", True),
        ):
            timed = noted(getattr(owner, name), after=after)
            stack.enter_context(mock.patch.object(owner, name, timed))
        sequence.run(experiment, sandbox, kept)
    moments.append(time.perf_counter())
    return tuple(end - start for start, end in pairwise(moments))
