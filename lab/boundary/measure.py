"""Run one row in namespaces of its own and say which marks were seen.

``measure`` is called in a worker's sandbox (``lab.runner.protocol.Task``).
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from functools import lru_cache

from lab.boundary import features, perform, stage, steps, watch
from lab.boundary.row import Measured, Reading, Row
from lab.errors import LabError, RuleRefused, SandboxError, UnsupportedError
from lab.kernel import command
from lab.kernel.features import dormant, in_guest
from lab.kernel.netns import Netns
from lab.kernel.sandbox import Sandbox

_PATIENCE = 2.0 * stage.SLOWNESS


def measure(sandbox: Sandbox, row: object) -> Measured:
    """Build, watch, send and read. Skips, with the reason, what this machine cannot do.

    Raises RuleRefused where a command of the row fails although all that it needs is there.
    """
    if not isinstance(row, Row):
        raise SandboxError(f"{row!r} is not a row")
    kernel = os.uname().release
    for name in row.needs:
        reason = _missing(sandbox, name)
        if reason:
            return Measured(row.name, kernel, (), reason)
    with ExitStack() as stack:
        standing = stage.set_up(row, sandbox, stack)
        stage.start_watching(standing)
        for act in row.sent:
            perform.perform(standing, act)
            standing.settle()
        return Measured(row.name, kernel, _read(standing))


def _read(standing: stage.Stage) -> tuple[Reading, ...]:
    """Read until all expected marks are there, or the time is up."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        standing.settle()
        seen = watch.read(standing.watched, standing.row.readings)
        if seen == standing.row.readings or time.monotonic() > deadline:
            return seen


@lru_cache(maxsize=256)
def _missing(sandbox: Sandbox, name: str) -> str:
    """Say why a feature is not there; empty if it is."""
    feature = features.find(name)
    asleep = dormant(feature.modules)
    if asleep and in_guest():
        command.run(("modprobe", "-a", *asleep))
    elif asleep:
        return f"{name}: module {asleep[0]} is not loaded; modprobe {asleep[0]} to run it"
    netns = Netns.create("trial")
    try:
        for line in feature.tried.splitlines():
            steps.run_here(line.split()[0], [line])
    except UnsupportedError as problem:
        return f"{name}: {problem}"
    except (RuleRefused, LabError) as problem:
        return f"{name}: not in this kernel ({feature.option}), or not allowed: {problem}"
    finally:
        sandbox.home.enter()
        netns.close()
    return ""
