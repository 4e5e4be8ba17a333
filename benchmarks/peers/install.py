"""The peers' own environment, thrown away afterwards; nothing is installed on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = ("munet==0.17.3", "setuptools<81")
"""munet, and ``distutils`` for Mininet, which Python has lost in 3.12."""
DEBS = ("mininet", "net-tools")
"""Mininet is two folders of Python and one program, mnexec; net-tools because it asks for it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the peers are: a Python, what it needs to find, and why something is missing."""

    python: str
    variables: dict[str, str]
    missing: dict[str, str]


@contextmanager
def environment(root: Path) -> Iterator[Environment]:
    """Make a virtual environment with all peers that can be had here; remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="fwmark-lab-peers-") as name:
        folder = Path(name)
        missing = {}
        _run(folder, sys.executable, "-m", "venv", "venv")
        python = str(folder / "venv" / "bin" / "python")
        if why := _reason(folder, python, "-m", "pip", "-q", "install", *REQUIREMENTS):
            missing["munet"] = why
        if why := _unpack_mininet(folder):
            missing["Mininet"] = why
        yield Environment(python, _variables(folder, root), missing)


def _unpack_mininet(folder: Path) -> str:
    """Unpack Debian's package; return why not. PyPI has an old one, without mnexec."""
    if not shutil.which("apt-get"):
        return "it is had from Debian's or Ubuntu's archive only, and apt-get is not here"
    downloaded = folder / "debs"
    downloaded.mkdir()
    if why := _reason(downloaded, "apt-get", "-q", "download", *DEBS):
        return why
    for deb in sorted(downloaded.glob("*.deb")):
        if why := _reason(folder, "dpkg-deb", "-x", str(deb), "mininet"):
            return why
    return ""


def _variables(folder: Path, root: Path) -> dict[str, str]:
    unpacked = folder / "mininet"
    programs = [
        folder / "venv" / "bin",
        *(unpacked / name for name in ("usr/bin", "usr/sbin", "bin", "sbin")),
        *(Path(name) for name in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")),
    ]
    packages = (root, unpacked / "usr/lib/python3/dist-packages")
    temporary = folder / "tmp"
    temporary.mkdir()
    return {
        "PATH": os.pathsep.join(map(str, programs)),
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(temporary),
        "HOME": str(temporary),
        "LC_ALL": "C",
        "TERM": "dumb",
    }


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


def _reason(folder: Path, *command: str) -> str:
    """Run a command; return the last thing it said if it failed."""
    try:
        _run(folder, *command)
    except subprocess.CalledProcessError as problem:
        said = str(problem.stderr or problem.stdout).strip().splitlines()
        return said[-1] if said else f"{command[0]} ended with {problem.returncode}"
    except OSError as problem:
        return f"{command[0]}: {problem.strerror}"
    return ""
