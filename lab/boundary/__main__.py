"""Measure all rows on a kernel, and write the pages that show what was measured.

python -m lab.boundary measure [WORD...] > 6.18.json     on this kernel; rows with these words
fwmark-lab vm run --kernel debian-12 -- python -m lab.boundary measure > 6.1.json
python -m lab.boundary docs 6.18.json 6.1.json           take them up into docs/boundaries.*
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.boundary import page
from lab.boundary.results import AS_EXPECTED, Results, merged, outcome, plain, read
from lab.boundary.row import Measured, Row
from lab.boundary.table import BOUNDARIES, CHEATSHEET
from lab.errors import LabError, SandboxError, UsageError
from lab.runner.pool import Pool
from lab.runner.protocol import Task

MEASURE = "lab.boundary.measure:measure"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def measure(pool: Pool, row: Row) -> Measured:
    """Run one row in a worker of the pool."""
    answer = pool.call(Task(MEASURE, row))
    if not isinstance(answer, Measured):
        raise SandboxError(f"the worker answered {type(answer).__name__} to {row}")
    return answer


def run(rows: Iterable[Row]) -> Iterator[Results]:
    """Run rows on this kernel, one after the other; what fails is a result too.

    Says on standard error why a row was skipped.
    """
    release, pool = plain(os.uname().release), Pool(1)
    for row in rows:
        try:
            measured = measure(pool, row)
            found = outcome(row, measured)
            if measured.skipped:
                sys.stderr.write(f"{row.name}: {measured.skipped}\n")
        except LabError as problem:
            found = f"failed: {problem}"
        except SandboxError as problem:
            found = f"failed: {problem}"
            pool = Pool(1)  # the worker may be gone
        yield Results(release, {row.name: found})
    pool.close()


def main(arguments: list[str]) -> None:
    """Do what the arguments say. Raises UsageError for what is not there."""
    if arguments[:1] == ["measure"]:
        for one in run(_chosen(arguments[1:])):  # a line at a time: a guest may panic
            sys.stdout.write(json.dumps(one.as_json(), ensure_ascii=False) + "\n")
            sys.stdout.flush()
    elif arguments[:1] == ["docs"]:
        kept = read(DOCS / "boundaries.json")
        for path in map(Path, arguments[1:]):
            kept = merged(kept, read(path))
        write(kept)
    else:
        raise UsageError(f"expected 'measure' or 'docs', not {' '.join(arguments)!r}")


def _chosen(words: list[str]) -> list[Row]:
    rows = [*BOUNDARIES, *CHEATSHEET]
    if words[:1] != ["--but"]:
        return [row for row in rows if all(word in row.name for word in words)]
    release = plain(os.uname().release)
    files = [read(Path(path)) for path in words[1:]]
    known = [one.rows for kept in files for one in kept if one.release == release]
    return [row for row in rows if not any(k.get(row.name) == AS_EXPECTED for k in known)]


def write(kept: tuple[Results, ...]) -> None:
    """Write the results and both pages to the folder of the documentation."""
    text = json.dumps([one.as_json() for one in kept], indent=1, ensure_ascii=False)
    (DOCS / "boundaries.json").write_text(f"{text}\n")
    (DOCS / "boundaries.md").write_text(page.boundaries(kept))
    (DOCS / "cheatsheet.md").write_text(page.cheatsheet(kept))


if __name__ == "__main__":
    main(sys.argv[1:])
