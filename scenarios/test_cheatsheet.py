"""Every way of marking in the ipftrace2 cheat sheet works, from the first place to the last.

A mark is read where it first shows, on its way through the node, at the device that it leaves by,
and in the next namespace, where it is gone: the mark is erased when crossing the veth pair.
``docs/cheatsheet.md`` has the sheet's statements and what of them is so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.boundary import page
from lab.boundary.results import read
from lab.boundary.row import Change, Measured, Row, by_place
from lab.boundary.table import BOUNDARIES, CHEATSHEET

pytestmark = pytest.mark.cheatsheet
_PAGE = Path(__file__).parents[1] / "docs" / "cheatsheet.md"


@pytest.mark.parametrize("row", CHEATSHEET, ids=lambda row: row.name)
def test_way_of_marking(measured: Callable[[Row], Measured], row: Row) -> None:
    """The mark is at every place that the row names, and nowhere else."""
    assert measured(row).by_place() == by_place(row.readings)
    assert row.inconsistency() == ""


def test_erased_at_a_veth_pair_only_between_namespaces() -> None:
    """The sheet's statement on veth pairs holds between namespaces and not inside one."""
    outcomes = {row.name: row.change for row in BOUNDARIES if row.name.startswith("veth, ")}
    assert {name for name, change in outcomes.items() if change is Change.ERASED} == {
        "veth, other namespace, ipv4",
        "veth, other namespace, ipv6",
        "veth, marked at the last moment",
    }
    assert Change.KEPT in outcomes.values()


def test_erased_in_a_tunnel_only_where_its_device_was_moved() -> None:
    """The sheet's statement on tunnels holds for moved devices, not for those that stay."""
    rows = [row for row in BOUNDARIES if "inner to outer" in row.name and ", device " in row.name]
    kinds = {row.name.partition(",")[0] for row in rows} - {"wireguard"}
    assert len(kinds) == 10
    for row in rows:
        if not row.name.startswith("wireguard"):
            moved = "device moved" in row.name
            assert row.change is (Change.ERASED if moved else Change.INHERITED), row.name


def test_page_is_up_to_date() -> None:
    """The page is what the table and the kept results make."""
    assert _PAGE.read_text() == page.cheatsheet(read(_PAGE.with_name("boundaries.json")))
