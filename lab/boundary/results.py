"""What became of the rows on each kernel, as it is kept in ``docs/boundaries.json`` [pure]."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.boundary.row import Measured, Row
from lab.errors import RecordError

_VERSION = re.compile(r"\d+(?:[.-]\d+)*")
AS_EXPECTED = "yes"


@dataclass(frozen=True, slots=True)
class Results:
    """The outcome of each row, by its name, on the kernel of one ``release`` such as 6.1.0-50."""

    release: str
    rows: Mapping[str, str]

    @property
    def series(self) -> tuple[int, ...]:
        """Return the numbers of the release that make a series: (6, 1)."""
        return tuple(int(number) for number in re.findall(r"\d+", self.release)[:2])

    def as_json(self) -> dict[str, Any]:
        """Return what ``json`` can write."""
        return {"release": self.release, "rows": dict(self.rows)}

    def __str__(self) -> str:
        return f"Linux {self.release}: {len(self.rows)} rows"


def plain(release: str) -> str:
    """Leave out what a builder adds to a release: ``6.1.0-56-amd64`` is ``6.1.0-56``."""
    found = _VERSION.match(release)
    return found[0] if found else release


def outcome(row: Row, measured: Measured) -> str:
    """Say in few words whether the marks were those of the row, and what was lacking if skipped."""
    if measured.skipped:
        return f"lacks {measured.skipped.partition(':')[0]}"
    if measured.seen == row.readings:
        return AS_EXPECTED
    pairs = zip(row.readings, measured.seen, strict=True)
    return f"differs: {'; '.join(str(seen) for wanted, seen in pairs if seen != wanted)}"


def read(path: Path) -> tuple[Results, ...]:
    """Read what ``measure`` printed, one line a row, or the list that is kept of it.

    Raises RecordError with the file that is not that.
    """
    kept: tuple[Results, ...] = ()
    try:
        text = path.read_text().strip()
        values = json.loads(text) if text[:1] == "[" else map(json.loads, text.splitlines())
        for one in values:
            rows = {str(k): str(v) for k, v in one["rows"].items()}
            kept = merged(kept, (Results(plain(str(one["release"])), rows),))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise RecordError(
            f"{path}: expected what 'python -m lab.boundary measure' prints: {problem}"
        ) from None
    return kept


def merged(kept: tuple[Results, ...], new: tuple[Results, ...]) -> tuple[Results, ...]:
    """Take up new results, oldest kernel first; those of the same series replace the older ones.

    Where only some rows were measured again, under the same release, the others stay.
    """
    found = {one.series: one for one in kept}
    for one in new:
        before = found.get(one.series)
        same = before is not None and before.release == one.release
        rows = {**before.rows, **one.rows} if before is not None and same else one.rows
        found[one.series] = Results(one.release, rows)
    return tuple(found[series] for series in sorted(found))
