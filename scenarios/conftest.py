"""What the suites share: how they report, and one worker per pytest process for some of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from _pytest.runner import runtestprotocol

from lab.boundary.__main__ import measure
from lab.boundary.row import Measured, Row
from lab.errors import SandboxError, UnsupportedError
from lab.runner.pool import Pool


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Report what a test did; of set-up and tear-down only what did not pass.

    What a worker of xdist tells costs about as much as the judgement of a pair, and there are
    thousands of tests: that a test begins and ends it tells only where that is printed. Who asks
    for times gets everything.
    """
    options = item.config.option
    if options.xmlpath or options.durations is not None:
        return None
    if told := options.verbose > 0 or not hasattr(item.config, "workerinput"):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    if told:
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


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
