"""Programs that are started: what they read and say, and that none is waited for forever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lab.errors import UnsupportedError
from lab.kernel import command

_MUCH = "0123456789abcde\n" * 100_000


def test_a_program_reads_all_that_it_is_given_and_all_that_it_says_is_kept() -> None:
    """More than a pipe holds goes in and comes out again."""
    assert command.run(("cat",), _MUCH) == command.Result(0, _MUCH, "")


def test_status_and_errors_of_a_program_are_told() -> None:
    """What is said on standard error is kept apart, without the line's end."""
    script = "echo said; echo wrong >&2; exit 7"
    assert command.run(("sh", "-c", script)) == command.Result(7, "said\n", "wrong")
    assert command.run(("sh", "-c", "kill -9 $$")).status == -9


def test_a_program_knows_neither_the_folder_nor_the_environment_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts in the root directory, in the plain locale, and finds system programs only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "1")
    said = command.run(("sh", "-c", "pwd; echo $LC_ALL; echo $SECRET")).output
    assert said == "/\nC\n\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    """A program may print what it likes."""
    assert command.run(("printf", r"a\377b")).output == "a\N{REPLACEMENT CHARACTER}b"


def test_a_program_is_ended_at_its_deadline_and_named(tmp_path: Path) -> None:
    """Whatever it was doing; nothing of it is left."""
    number = tmp_path / "number"
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"sh: no end within 1 s"):
        command.run(("sh", "-c", f"echo $$ > {number}; exec sleep 50"), patience=1)
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)


def test_what_a_program_leaves_running_is_not_waited_for() -> None:
    """A process in the background keeps the output open, and that does not matter."""
    started = time.monotonic()
    done = command.run(("sh", "-c", "sleep 50 & echo $!"))
    os.kill(int(done.output), 9)
    assert time.monotonic() - started < 20


def test_running_a_program_leaves_no_file_open() -> None:
    """Neither after its end nor after its deadline."""
    command.run(("true",))
    before = _open_files()
    command.run(("true",), "text")
    with pytest.raises(TimeoutError):
        command.run(("sleep", "50"), patience=0.05)
    assert _open_files() == before


def test_a_program_that_is_missing_is_told_with_its_package() -> None:
    """The remedy stands beside the name."""
    with pytest.raises(UnsupportedError, match=r"'none-such' is not installed; install"):
        command.run(("none-such",))


def _open_files() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}
