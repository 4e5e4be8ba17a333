"""What a person waits for: ``check``, and the launcher before it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.samples import Sample, timed

ROOT = Path(__file__).parents[1]
_LAUNCHER = ("./fwmark-lab",)
_CHECK = (*_LAUNCHER, "check", "tailscale", "calico")
_CONFLICT = 1


def check(times: int) -> tuple[Sample, Sample]:
    """Time ``check tailscale calico`` on one iptables variant and on both, in seconds.

    Start-up is included, setting up is not.
    """
    one, both = [], []
    _run(*_CHECK)
    for _ in range(times):
        one.append(timed(lambda: _run(*_CHECK, "--iptables", "nft")))
        both.append(timed(lambda: _run(*_CHECK)))
    return Sample(tuple(one)), Sample(tuple(both))


def launcher(times: int) -> tuple[Sample, Sample]:
    """Time ``--version`` through the launcher, set up before, and without it, in seconds.

    Both start the same Python, so that the difference is the launcher's own.
    """
    _run(*_LAUNCHER, "--version")
    python = _environment_of_the_launcher()
    through, directly = [], []
    for _ in range(times):
        through.append(timed(lambda: _run(*_LAUNCHER, "--version")))
        directly.append(timed(lambda: _run(python, "-P", "-m", "lab", "--version")))
    return Sample(tuple(through)), Sample(tuple(directly))


def _environment_of_the_launcher() -> str:
    """Return the Python that the launcher starts; see ``choose_venv`` there."""
    chosen = os.environ.get("FWMARK_LAB_VENV")
    python = (Path(chosen) if chosen else ROOT / ".venv") / "bin" / "python"
    return str(python) if python.exists() else sys.executable


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, _CONFLICT):
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
