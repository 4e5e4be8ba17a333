"""Saved runs are judged again as they were; what was cut or changed is refused by file and key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import runs

from lab import saved
from lab.errors import RecordError, UsageError
from lab.verdict.compare import compare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Save the small runs."""
    saved.prepare(tmp_path / "runs")
    saved.save(runs(), tmp_path / "runs")
    return tmp_path / "runs"


def test_saved_runs_come_back_in_order(folder: Path) -> None:
    """Reading a folder gives the runs that were saved."""
    assert saved.read(folder) == runs()


def test_files_have_readable_names(folder: Path) -> None:
    """A file says which software, family and variant it holds."""
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "01-alpha-1.10-ipv4-nft.json"
    assert names[2] == "03-alpha-1.10+beta-1.10-ipv4-nft.json"


def test_saved_runs_give_the_same_verdicts(folder: Path) -> None:
    """Judging again needs nothing that is not in the files."""
    assert compare(saved.read(folder)) == compare(runs())


def test_judging_needs_neither_pyroute2_nor_scapy(folder: Path) -> None:
    """Saved runs can be judged where nothing of the kernel shell can be imported."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('pyroute2', 'scapy', 'lab.kernel', 'lab.observe')))\n"
        "from lab.cli import run\n"
        f"sys.exit(run(['judge', {str(folder)!r}]))\n"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_with_runs_is_not_mixed_with_others(folder: Path) -> None:
    """Runs of two questions judged together would mean nothing."""
    with pytest.raises(UsageError, match="already holds saved runs"):
        saved.prepare(folder)


@pytest.mark.parametrize("length", [0, 1, 100, 5000])
def test_a_file_cut_short_is_refused(folder: Path, length: int) -> None:
    """A truncated file is named; nothing is judged."""
    path = folder / "01-alpha-1.10-ipv4-nft.json"
    text = path.read_text()
    path.write_text(text[: min(length, len(text) - 2)])
    with pytest.raises(RecordError, match=r"01-alpha.*: not valid JSON, or cut short"):
        saved.read(folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"format":1', '"format":2', "key 'format': 2 is unknown here; this release reads 1"),
        ('"format":1,', "", "key 'format': missing"),
        ('"mark":262144', '"mark":"x"', "].mark': expected an integer, not 'x'"),
        ('"rule":1', '"rule":99', "].rule': 99 is out of range; there are 3"),
        ('"policy":0', '"policy":-1', "].policy': -1 is out of range; there are 1"),
        ('"seconds":0.25', '"second":0.25', "key 'run.second': unknown key"),
        ('"kernel":"6.1"', '"kernel":6.1', "key 'run.environment.kernel': expected text, not 6.1"),
    ],
)
def test_a_changed_file_is_refused_by_key(folder: Path, old: str, new: str, said: str) -> None:
    """What was edited by hand and does not fit is named with file and key."""
    path = folder / "01-alpha-1.10-ipv4-nft.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RecordError) as caught:
        saved.read(folder)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "content", [[], {}, 3, "run", None, {"format": 1}, {"format": 1, "run": []}]
)
def test_json_that_is_no_run_is_refused(tmp_path: Path, content: object) -> None:
    """Any JSON file may stand in the folder."""
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"a\.json: key"):
        saved.read(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are not a run."""
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="not UTF-8"):
        saved.read(tmp_path)


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    """No run is no verdict."""
    with pytest.raises(UsageError, match="no run in"):
        saved.read(tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        saved.read(tmp_path / "none")
