"""The process in which experiments run; it is never the one the user started.

It reads requests from standard input and writes answers to standard output. It ends when its
input ends or its parent dies, and everything it made ends with it.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module

from lab.errors import LabError, SandboxError
from lab.kernel import sandbox
from lab.kernel.later import all_done
from lab.kernel.sandbox import Sandbox
from lab.runner.bench import Stock, stock
from lab.runner.memory import Memory
from lab.runner.protocol import Answer, Failure, Pipe, Question, Request, Task
from lab.runner.sequence import run, run_and_keep


def main(parent: int, number: int) -> None:
    """Serve requests until the input ends."""
    pipe = Pipe(os.fdopen(os.dup(1), "wb"), sys.stdin.buffer, asks=False)
    os.dup2(2, 1)  # whatever a library prints must not come between the answers
    try:
        place = sandbox.enter(parent, number)
    except (LabError, SandboxError) as problem:
        pipe.send(Failure(problem))
        return
    pipe.send("ready")
    kept = stock(place)
    memory = Memory(lambda experiment: run(experiment, place, kept))
    # A run makes tens of thousands of small values, hardly any in cycles: collect rarely.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    while True:
        try:
            request = pipe.receive()
        except EOFError:
            kept.close()
            all_done()  # the kernel would do it as well, one after the other
            return
        if isinstance(request, Request):
            pipe.send(_serve(request, place, kept))
        elif isinstance(request, Question):
            pipe.send(_told(request, memory))
            _make_ready(request, memory)
        elif isinstance(request, Task):
            pipe.send(_call(request, place))


def _call(task: Task, place: Sandbox) -> object:
    module, _, function = task.function.partition(":")
    try:
        return getattr(import_module(module), function)(place, task.argument)
    except (LabError, SandboxError) as problem:
        return Failure(problem)
    except OSError as problem:
        return Failure(SandboxError(f"{task.function}: {problem}"))
    finally:
        place.home.enter()


def _serve(request: Request, place: Sandbox, kept: Stock) -> object:
    try:
        if request.keep:
            return Answer(*run_and_keep(request.experiment, place, kept))
        return Answer(run(request.experiment, place, kept))
    except (LabError, SandboxError) as problem:
        return Failure(problem)
    except OSError as problem:
        return Failure(SandboxError(f"{request.experiment}: {problem}"))


def _told(question: Question, memory: Memory) -> object:
    asked, each = question.experiments, question.each
    try:
        if question.wanted == "verdicts":
            return memory.verdicts(asked, each)
        return memory.runs(asked, each)
    except (LabError, SandboxError) as problem:
        return Failure(problem)
    except OSError as problem:
        return Failure(SandboxError(f"{asked[-1]}: {problem}"))


def _make_ready(question: Question, memory: Memory) -> None:
    """Run what is likely to be asked for next. Who asks for it is told why it cannot be run."""
    with suppress(LabError, SandboxError, OSError):
        memory.runs(question.soon, question.each)


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # whoever asked has gone: nobody is left to tell
        main(int(sys.argv[1]), int(sys.argv[2]))
