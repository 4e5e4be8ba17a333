"""Worker processes, seen from the process the user started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from lab.errors import SandboxError
from lab.kernel.keep import MARKER, Kept, own_marker
from lab.record import Run
from lab.runner.protocol import Answer, Failure, Pipe, Question, Request, Task
from lab.scenario import Experiment

_HERE = Path(__file__).parents[2]
_AHEAD = 3
"""Experiments per worker that are under way or done before their turn comes."""


class Worker:
    """One process that runs experiments, one at a time."""

    def __init__(self, number: int) -> None:
        # The worker imports the same package, wherever the command was started.
        path = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {MARKER: own_marker(), "PYTHONPATH": path}
        self._process = subprocess.Popen(
            (sys.executable, "-m", "lab.runner.worker", str(os.getpid()), str(number)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C is for the command; the worker ends when its input does
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise SandboxError("the worker has no pipe")
        self._pipe = Pipe(self._process.stdin, self._process.stdout, asks=True)
        self._ready = False

    def run(self, request: Request) -> tuple[Run, Kept | None]:
        """Run one experiment. Raises what the worker raised, or SandboxError if it died."""
        answer = self.ask(request)
        if not isinstance(answer, Answer):
            raise SandboxError(f"the worker answered {type(answer).__name__}")
        return answer.run, answer.kept

    def ask(self, request: Request | Question | Task) -> object:
        """Return the answer to one request. Raises as ``run`` does."""
        try:
            if not self._ready:
                _raise_failure(self._pipe.receive())
                self._ready = True
            self._pipe.send(request)
            answer = self._pipe.receive()
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            raise SandboxError(f"the worker process ended with status {status}") from None
        _raise_failure(answer)
        return answer

    def close(self) -> None:
        """End the process; its namespaces end with it."""
        self._pipe.close()
        self._process.wait()


def _raise_failure(answer: object) -> None:
    if isinstance(answer, Failure):
        raise answer.error


class Pool:
    """Several workers; give each an experiment as it becomes free.

    Each keeps to one CPU, the first to the ``first``-th of those allowed.
    """

    def __init__(self, workers: int = 0, first: int = 0) -> None:
        count = workers or min(4, len(os.sched_getaffinity(0)))
        self._workers = [Worker(number) for number in range(first, first + count)]
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, experiments: Iterable[Experiment]) -> Iterator[Run]:
        """Run experiments side by side and yield the runs in the order of the experiments.

        Few are ahead of whoever takes them, so that thousands need no memory.
        """
        waiting = iter(experiments)
        ahead = deque(self.start(e) for e in islice(waiting, _AHEAD * len(self._workers)))
        try:
            while ahead:
                run = ahead.popleft().result()
                ahead.extend(self.start(e) for e in islice(waiting, 1))
                yield run
        finally:
            for future in ahead:
                future.cancel()

    def start(self, experiment: Experiment) -> Future[Run]:
        """Start one experiment; its Future raises what the worker raised."""
        return self._threads.submit(lambda: self._one(Request(experiment))[0])

    def keep(self, experiment: Experiment) -> tuple[Run, Kept]:
        """Run one experiment and leave its namespaces, held by a process of their own."""
        run, kept = self._one(Request(experiment, keep=True))
        if kept is None:
            raise SandboxError("the worker kept nothing")
        return run, kept

    def call(self, task: Task) -> object:
        """Call a function in a worker's sandbox and return what it returns."""
        return self.ask(task)

    def ask(self, request: Question | Task) -> object:
        """Ask a worker, of a question for what it remembers, or runs now.

        Every worker has a memory of its own. Raises what the worker raised.
        """
        worker = self._free.get()
        try:
            return worker.ask(request)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End all workers."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _one(self, request: Request) -> tuple[Run, Kept | None]:
        worker = self._free.get()
        try:
            return worker.run(request)
        finally:
            self._free.put(worker)
