"""What the user's process and its workers say to each other: a length, then a pickle."""

from __future__ import annotations

import copyreg
import pickle
import struct
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import BinaryIO, Literal

from lab.errors import LabError, SandboxError
from lab.kernel.keep import Kept
from lab.native.rule import Rule
from lab.points import Point
from lab.record import (
    Dropped,
    FlowRun,
    Hit,
    PolicyRule,
    Reading,
    Routed,
    Run,
    Timeline,
    Write,
)
from lab.scenario import Experiment
from lab.verdict.outcome import Culprit, Verdict

_LENGTH = struct.Struct("=Q")


def _pickle_by_fields(kind: type) -> None:
    """Pickle a frozen dataclass as constructor and values; the default takes three times as long.

    A run has thousands of these.
    """
    values = attrgetter(*(field.name for field in fields(kind)))
    copyreg.pickle(kind, lambda one: (kind, values(one)))


for _kind in (
    *(Reading, Hit, Write, Routed, Dropped, Timeline, FlowRun, PolicyRule, Point, Rule),
    *(Verdict, Culprit),
):
    _pickle_by_fields(_kind)


@dataclass(frozen=True, slots=True)
class Request:
    """One experiment to run; with ``keep`` its namespaces stay, held by a process of their own."""

    experiment: Experiment
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """Experiments of which the worker remembers the runs, and what of them is wanted.

    It runs those that it does not remember. Few want whole runs, which take longer to hand over
    than to judge: it tells the verdicts on them, or nothing as long as the runs are only to be
    ready.
    """

    experiments: tuple[Experiment, ...]
    wanted: Literal["verdicts", "runs", "nothing"]


@dataclass(frozen=True, slots=True)
class Task:
    """A function of a worker's sandbox and one argument, named ``module:function``, to call there.

    For whatever builds namespaces of its own and is no experiment on rules. It must leave the
    worker as it found it; argument and result travel as pickles.
    """

    function: str
    argument: object = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an experiment recorded, and what holds its namespaces if they were to be kept."""

    run: Run
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that the requester is to raise."""

    error: LabError | SandboxError


def send(stream: BinaryIO, value: object) -> None:
    """Write one length and pickle."""
    content = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: BinaryIO) -> object:
    """Read one value; raises EOFError at the end of input."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    content = stream.read(_LENGTH.unpack(header)[0])
    return pickle.loads(content)
