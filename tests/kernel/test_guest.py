"""A guest under another kernel: what comes back of it, and what is left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.vm import download, guest
from lab.vm.kernels import Kernel, cache_folder, find

pytestmark = [pytest.mark.guest, pytest.mark.kernel]
_ROOT = Path(__file__).parents[2]
_NAME = "debian-12"
_PATIENCE = 600


@pytest.fixture(autouse=True)
def can_run() -> None:
    """Skip where no guest can run."""
    kernel = find(_NAME)
    assert isinstance(kernel, Kernel)
    reason = guest.lacking() or ("" if kernel.image() else download.lacking())
    if reason:
        pytest.skip(reason)


def _command(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "lab", "vm", "run", "--kernel", _NAME, *words)


def test_a_row_runs_under_another_kernel(tmp_path: Path) -> None:
    """The command's output, errors and exit code come back; it writes where it may only."""
    program = (
        "python -m lab.boundary measure wireguard, fwmark || exit 1; "
        f"touch lab/written; id > {tmp_path}/id; exit 7"
    )
    done = subprocess.run(
        _command("--write", str(tmp_path), "--", "sh", "-c", program),
        cwd=_ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    assert all(line["release"].startswith("6.1.") for line in lines)
    assert {outcome for line in lines for outcome in line["rows"].values()} == {"yes"}
    assert "Read-only file system" in done.stderr
    assert (tmp_path / "id").read_text().startswith("uid=0")


def test_nothing_is_left_of_a_guest_whose_command_is_killed() -> None:
    """QEMU ends with its parent, and clean removes the folder that was shared."""
    before = _folders()
    command = subprocess.Popen(_command("--", "sleep", "600"), cwd=_ROOT, process_group=0)
    try:
        qemu = Path(f"/proc/{_wait_for_qemu(command.pid)}")
        shared = _folders() - before
    finally:
        command.kill()
        command.wait()
    deadline = time.monotonic() + 30
    while qemu.exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not qemu.exists()
    assert len(shared) == 1
    guest.sweep()
    assert not shared & _folders()


def _folders() -> set[Path]:
    return set((cache_folder() / "guests").glob("*"))


def _wait_for_qemu(pid: int) -> int:
    """Return the process id of QEMU below a process."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        below = {pid}
        for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                program = (folder / "cmdline").read_bytes().split(b"\0")[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent in below:
                below.add(int(folder.name))
                if program.endswith(b"qemu-system-x86_64"):
                    return int(folder.name)
    raise AssertionError("QEMU was not started")
