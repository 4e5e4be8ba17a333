"""What the user's process and its workers say to each other, as pickles with their lengths."""

from __future__ import annotations

import copyreg
import pickle
import struct
from contextvars import ContextVar
from dataclasses import dataclass, fields
from io import BytesIO
from operator import attrgetter
from typing import IO, Any, Literal

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
from lab.registry.software import Software
from lab.scenario import Experiment
from lab.verdict.outcome import Culprit, Verdict

_LENGTH = struct.Struct("=Q")
_MOST_TOLD = 1000
"""Software that a pipe remembers; what comes after it is handed over every time."""
_TOLD: ContextVar[list[Software]] = ContextVar("told")


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
    than to judge. Experiments that leave the kernel in the same state have one run, but for
    ``each``. Those of ``soon`` it runs when it has answered, to be ready for the next question.
    """

    experiments: tuple[Experiment, ...]
    wanted: Literal["verdicts", "runs"]
    each: bool = False
    soon: tuple[Experiment, ...] = ()


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


class Pipe:
    """One end of what joins two processes: values as pickles.

    An experiment names software whose texts take milliseconds to hand over. The end that asks
    tells each once; from then on both ends name it by its number.
    """

    def __init__(self, output: IO[bytes], source: IO[bytes], *, asks: bool) -> None:
        self._output, self._source, self._asks = output, source, asks
        self._told: list[Software] = []
        self._numbers: dict[int, int] = {}
        self._reduced_by = {**copyreg.dispatch_table, Software: self._reduce}

    def send(self, value: object) -> None:
        """Write one value."""
        known, content = len(self._told), BytesIO()
        pickler = pickle.Pickler(content)
        pickler.dispatch_table = self._reduced_by
        pickler.dump(value)
        for part in (pickle.dumps(self._told[known:]), content.getbuffer()):
            self._output.write(_LENGTH.pack(len(part)))
            self._output.write(part)
        self._output.flush()

    def receive(self) -> object:
        """Read one value; raises EOFError at the end of input."""
        for software in pickle.loads(self._part()):
            self._tell(software)
        _TOLD.set(self._told)
        return pickle.loads(self._part())

    def close(self) -> None:
        """Close both streams."""
        self._output.close()
        self._source.close()

    def _part(self) -> bytes:
        header = self._source.read(_LENGTH.size)
        if len(header) < _LENGTH.size:
            raise EOFError
        return self._source.read(_LENGTH.unpack(header)[0])

    def _reduce(self, software: Software) -> str | tuple[Any, ...]:
        number = self._numbers.get(id(software))
        if number is None:
            if not self._asks or len(self._told) >= _MOST_TOLD:
                return software.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
            number = self._tell(software)
        return _named, (number,)

    def _tell(self, software: Software) -> int:
        number = self._numbers[id(software)] = len(self._told)
        self._told.append(software)  # and keeps its id() from being given to another
        return number


def _named(number: int) -> Software:
    """Return the software of a number, on the pipe that is being read."""
    return _TOLD.get()[number]
