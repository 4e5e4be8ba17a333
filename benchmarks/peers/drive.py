"""What every peer's process does: an experiment for each line it reads, a JSON line for each."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import plan
from benchmarks.peers.plan import Plan

PROBE = Path("/run/probe.nft")
COUNTERS = "nft list counters table inet probe"
Answered = dict[str, int]
Experiment = Callable[[Plan], tuple[Answered, str]]
"""Carry a plan out; return how many packets of each flow were answered, and the counters."""

_PATIENCE = 10.0


def serve(carry_out: Experiment) -> None:
    """Serve until the input ends. The plan's path is the program's argument."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not come between the answers
    todo = plan.read(Path(sys.argv[1]))
    PROBE.write_text(todo.probe)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        forget_readiness(todo)
        print(json.dumps(_attempt(carry_out, todo)), file=answers, flush=True)


def _attempt(carry_out: Experiment, todo: Plan) -> dict[str, object]:
    """Carry out once; what goes wrong is told, for a peer may fail on a busy machine."""
    try:
        answered, counters = carry_out(todo)
    except Exception as problem:
        traceback.print_exc()
        return {"failure": type(problem).__name__}
    return {"answered": answered, "counters": counters}


def forget_readiness(todo: Plan) -> None:
    """Remove what the answerers of the experiment before have left."""
    for path in todo.ready:
        Path(path).unlink(missing_ok=True)


def wait_until_ready(todo: Plan) -> None:
    """Return when every answerer listens; raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE
    while not all(Path(path).exists() for path in todo.ready):
        if time.monotonic() > deadline:
            raise TimeoutError("an answering program did not start")
