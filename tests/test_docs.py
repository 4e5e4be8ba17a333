"""The generated pages are those of today's registry; ``fwmark-lab docs`` renews them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lab.fidelity.count import Fidelity, written
from lab.fidelity.page import page
from lab.registry.loader import load
from lab.report import registry_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ENTRIES = load()
REMEDY = "run fwmark-lab docs"


def rows() -> list[dict[str, Any]]:
    """Read the numbers that the page of fidelity was made from."""
    found: list[dict[str, Any]] = json.loads((DOCS / "fidelity.json").read_text(encoding="utf-8"))
    return found


def test_the_registrys_page_is_current() -> None:
    """It is made from the entries alone."""
    assert (DOCS / "registry.md").read_text(encoding="utf-8") == registry_page.page(ENTRIES), REMEDY


def test_the_registrys_json_is_current() -> None:
    """It says what the page says."""
    found = json.loads((DOCS / "registry.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(registry_page.values(ENTRIES))), REMEDY


def test_the_page_of_fidelity_has_every_entry_and_what_its_file_says() -> None:
    """These parts need no kernel."""
    expected = {entry.title: written(entry) for entry in ENTRIES}
    assert [row["title"] for row in rows()] == list(expected), REMEDY
    for row in rows():
        said = expected[row["title"]]
        numbers = (len(said.rules), said.sourced, said.flows, said.claimed, said.excused)
        keys = ("rules", "sourced", "flows", "claimed", "excused")
        assert tuple(row[key] for key in keys) == numbers, f"{row['title']}: {REMEDY}"
        assert tuple(row["deviations"]) == said.deviations, f"{row['title']}: {REMEDY}"


def test_the_page_of_fidelity_says_what_was_measured() -> None:
    """The page and its numbers belong together."""
    found = [Fidelity(**row | {"deviations": tuple(row["deviations"])}) for row in rows()]
    assert (DOCS / "fidelity.md").read_text(encoding="utf-8") == page(found), REMEDY


def test_whatever_no_flow_shows_has_a_reason() -> None:
    """Marks seen and marks excused make up what is claimed, at least."""
    assert [r["title"] for r in rows() if r["seen"] + r["excused"] < r["claimed"]] == []


def measured(folder: Path) -> subprocess.CompletedProcess[str]:
    """Make all pages again."""
    return subprocess.run(
        (sys.executable, "-m", "lab", "docs", "--in", str(folder)),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.kernel
def test_what_was_measured_is_what_is_measured(tmp_path: Path) -> None:
    """Every entry, golden rule and real program is run again and gives the same numbers."""
    done = measured(tmp_path)
    if done.returncode == 4:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "fidelity.json").read_text(encoding="utf-8"))
    before = rows()
    if "not compared with" in done.stderr:  # a program is missing here
        for row in (*found, *before):
            row["program"], row["by_program"] = "", 0
    assert found == before, REMEDY


def test_the_registrys_page_says_where_the_public_registry_is_wrong() -> None:
    """Tailscale has eight bits, Istio's mark is decimal, Antrea's is gone."""
    text = (DOCS / "registry.md").read_text(encoding="utf-8")
    for told in ("(0xff0000) since 1.32.0", "decimal 1337 is 0x539", "0x800 is gone since 0.9.0"):
        assert told in text


def test_fidelity_can_be_written_as_json() -> None:
    """Every field is a plain value."""
    row = Fidelity("x@1:m", 1, 1, 0, "", 0, 1, 1, 1, 0, ("one",))
    assert json.loads(json.dumps(asdict(row)))["deviations"] == ["one"]
