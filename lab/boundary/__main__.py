"""Run all rows and print a page: ``python -m lab.boundary boundaries > docs/boundaries.md``."""

from __future__ import annotations

import sys

from lab.boundary import page
from lab.boundary.row import Measured, Row
from lab.boundary.table import BOUNDARIES, CHEATSHEET
from lab.errors import SandboxError, UsageError
from lab.runner.pool import Pool
from lab.runner.protocol import Task

MEASURE = "lab.boundary.measure:measure"
_PAGES = {"boundaries": (page.boundaries, BOUNDARIES), "cheatsheet": (page.cheatsheet, CHEATSHEET)}


def measure(pool: Pool, row: Row) -> Measured:
    """Run one row in a worker of the pool."""
    answer = pool.call(Task(MEASURE, row))
    if not isinstance(answer, Measured):
        raise SandboxError(f"the worker answered {type(answer).__name__} to {row}")
    return answer


def main(name: str) -> None:
    """Print one page. Raises UsageError for a page that does not exist."""
    if name not in _PAGES:
        raise UsageError(f"unknown page {name!r}; known: {', '.join(_PAGES)}")
    write, rows = _PAGES[name]
    with Pool(1) as pool:
        sys.stdout.write(write({row.name: measure(pool, row) for row in rows}))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
