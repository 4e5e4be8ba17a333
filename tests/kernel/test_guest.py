"""A guest under another kernel: what comes back of it, and what is left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.capture import archive
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


_CAPTURE = """
set -e
modules() { cut -d' ' -f1 /proc/modules | sort; }
modules > before
python -m lab capture -o bare.tar.gz
modules > after
modprobe -a esp4 wireguard
ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x100 reqid 1 mode tunnel \\
    mark 0x3 mask 0xff output-mark 0x900 mask 0xff00 \\
    enc 'cbc(aes)' 0x22222222222222222222222222222222 \\
    auth 'hmac(sha1)' 0x1111111111111111111111111111111111111111
ip xfrm state add src 10.0.0.1 dst 10.0.0.3 proto esp spi 0x101 mode transport if_id 0x5 \\
    aead 'rfc4106(gcm(aes))' 0x3333333333333333333333333333333333333333 128
echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaE= > key
ip link add wg0 type wireguard
wg set wg0 fwmark 0x77 private-key key peer bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbE= \\
    preshared-key key allowed-ips 10.9.0.0/24
python -m lab capture -o full.tar.gz
"""


def test_a_capture_loads_no_module_and_takes_no_key(tmp_path: Path) -> None:
    """Of a kernel that has IPsec and WireGuard as modules, which this machine's may not."""
    script = f"cd {tmp_path}; export PYTHONPATH={_ROOT}\n{_CAPTURE}"
    done = subprocess.run(
        _command("--write", str(tmp_path), "--", "sh", "-c", script),
        cwd=_ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()
    bare, full = (archive.read(tmp_path / f"{name}.tar.gz") for name in ("bare", "full"))
    assert bare.manifest.gaps == full.manifest.gaps == ()
    assert bare.files["xfrm.txt"] == ""
    assert "mark 0x3/0xff output-mark 0x900/0xff00" in full.files["xfrm.txt"]
    assert "# wg show wg0 fwmark: 0x77" in full.files["links.txt"]
    text = "\n".join(full.files.values())
    assert [
        key for key in ("1111111", "2222222", "3333333", "aaaaaaa", "bbbbbbb") if key in text
    ] == []
