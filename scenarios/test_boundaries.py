"""Every way in which a packet changes namespace or device does to its marks what the table says.

The table is ``lab/boundary/rows``: what is built and sent, the marks at each place, and the line
of the kernel that decides. Each row is built in namespaces of its own. What the kernel lacks is
skipped, and says which option would give it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.boundary import page
from lab.boundary.features import FEATURES
from lab.boundary.results import read
from lab.boundary.row import Measured, Row, by_place
from lab.boundary.table import BOUNDARIES

pytestmark = pytest.mark.boundaries
_PAGE = Path(__file__).parents[1] / "docs" / "boundaries.md"


@pytest.mark.parametrize("row", BOUNDARIES, ids=lambda row: row.name.replace(", ", "-"))
def test_marks_are_what_the_table_says(measured: Callable[[Row], Measured], row: Row) -> None:
    """At each place of the row exactly the expected marks are seen."""
    assert measured(row).by_place() == by_place(row.readings)


@pytest.mark.parametrize("row", BOUNDARIES, ids=lambda row: row.name.replace(", ", "-"))
def test_outcome_follows_from_the_marks(row: Row) -> None:
    """Kept, erased, inherited or rewritten is what the first and the last mark mean."""
    assert row.inconsistency() == ""


def test_rows_have_names_of_their_own_and_known_needs() -> None:
    """No two rows share a name, and every feature that a row needs can be tried."""
    names = [row.name for row in BOUNDARIES]
    assert sorted(set(names)) == sorted(names)
    assert {need for row in BOUNDARIES for need in row.needs} <= {f.name for f in FEATURES}


def test_page_is_up_to_date() -> None:
    """The page is what the table and the kept results make."""
    assert _PAGE.read_text() == page.boundaries(read(_PAGE.with_name("boundaries.json")))
