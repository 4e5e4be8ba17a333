"""What is kept of the rows' results, by kernel."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab.boundary import page
from lab.boundary.__main__ import _chosen
from lab.boundary.results import Results, merged, outcome, read
from lab.boundary.row import Change, Measured, Row, see
from lab.boundary.table import BOUNDARIES, CHEATSHEET
from lab.errors import RecordError

ROW = Row("veth", Change.ERASED, (see("a output", 0x11), see("b input", 0)), "why", "where")
OLD, NEW = Results("5.10.0-1", {"veth": "yes"}), Results("6.1.0-50", {"veth": "yes"})


def test_an_outcome_tells_only_what_differs() -> None:
    """As expected, lacking, or the marks of the places that differ."""
    assert outcome(ROW, Measured("veth", "6.1", ROW.readings)) == "yes"
    assert outcome(ROW, Measured("veth", "6.1", (), "geneve: not in this kernel")) == "lacks geneve"
    seen = (ROW.readings[0], see("b input", 0x11))
    assert outcome(ROW, Measured("veth", "6.1", seen)) == "differs: b input: packet mark 0x11"


def test_a_newer_release_replaces_its_series_and_leaves_the_others() -> None:
    """Kernels stand in order of age; another release of 6.1 is measured anew, not added to."""
    newer = Results("6.1.0-51", {"tun": "yes"})
    assert merged((NEW,), (OLD,)) == (OLD, NEW)
    assert merged((OLD, NEW), (newer,)) == (OLD, newer)


def test_some_rows_measured_again_leave_the_others() -> None:
    """Under the same release a result takes the place of the row's old one."""
    again = Results(NEW.release, {"tun": "lacks tun"})
    (one,) = merged((NEW,), (again,))
    assert one.rows == {"veth": "yes", "tun": "lacks tun"}


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """What is no result is an error that names the file."""
    path = tmp_path / "boundaries.json"
    path.write_text(json.dumps([NEW.as_json()]))
    assert read(path) == (NEW,)
    lines = [OLD.as_json(), Results(OLD.release, {"tun": "lacks tun"}).as_json(), NEW.as_json()]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read(path) == (Results(OLD.release, {"veth": "yes", "tun": "lacks tun"}), NEW)
    path.write_text(json.dumps({"release": "6.1.0-50-amd64", "rows": {"veth": "yes"}}))
    assert read(path) == (NEW,)
    path.write_text("")
    assert read(path) == ()
    path.write_text('{"release": 1}')
    with pytest.raises(RecordError, match=r"boundaries\.json: expected what .* prints"):
        read(path)


def test_rows_that_were_as_expected_need_not_run_again(tmp_path: Path) -> None:
    """Those of this very kernel; of another one nothing is known here."""
    rows = {row.name: "yes" for row in BOUNDARIES[1:]} | {row.name: "yes" for row in CHEATSHEET}
    path = tmp_path / "boundaries.json"
    path.write_text(json.dumps([Results(os.uname().release, rows).as_json()]))
    assert _chosen(["--but", str(path)]) == [BOUNDARIES[0]]
    path.write_text(json.dumps([Results("0.1.0", rows).as_json()]))
    assert len(_chosen(["--but", str(path)])) == len(BOUNDARIES) + len(CHEATSHEET)


def test_a_page_has_a_column_for_each_kernel() -> None:
    """A row that was never run on a kernel has nothing there."""
    lines = page.cheatsheet((OLD, Results("6.12.107+deb13-amd64", {}))).splitlines()
    head = next(line for line in lines if line.startswith("| way of marking"))
    assert head.endswith("| why | 5.10 | 6.12 |")
    assert all(line.count(" | ") == 5 for line in lines if line.startswith("| SO_MARK"))
