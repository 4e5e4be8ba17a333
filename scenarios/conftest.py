"""What the suites of boundaries and of the cheat sheet share: one worker per pytest process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from lab.boundary.__main__ import measure
from lab.boundary.row import Measured, Row
from lab.errors import SandboxError, UnsupportedError
from lab.runner.pool import Pool


@pytest.fixture(scope="session")
def measured() -> Iterator[Callable[[Row], Measured]]:
    """Return a function that runs a row in namespaces of its own; it skips what cannot run."""
    pools = [_pool()]

    def run(row: Row) -> Measured:
        try:
            found = measure(pools[0], row)
        except UnsupportedError as problem:
            pytest.skip(str(problem))
        except SandboxError:
            pools[0] = _pool()  # the worker may be gone: the next row gets a new one
            raise
        if found.skipped:
            pytest.skip(found.skipped)
        return found

    yield run
    pools[0].close()


def _pool() -> Pool:
    """Start a worker on the CPU that belongs to this process of ``pytest -n``."""
    allowed = os.sched_getaffinity(0)
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {sorted(allowed)[number % len(allowed)]})
    try:
        return Pool(1)
    finally:
        os.sched_setaffinity(0, allowed)
