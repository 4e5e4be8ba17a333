"""Starting programs: never through a shell, always with a fixed environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.errors import UnsupportedError

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_TIMEOUT = 60.0
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "ipset": "ipset",
             "ping": "iputils-ping"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished program printed, and its exit status."""

    status: int
    output: str
    error: str


def run(arguments: tuple[str, ...], text: str = "") -> Result:
    """Run a program in the current namespaces with ``text`` on its input.

    Raises UnsupportedError where the program is not installed.
    """
    program = find(arguments[0])
    environment = {"PATH": _PATH, "LC_ALL": "C", "XTABLES_LOCKFILE": "/run/xtables.lock"}
    marker = os.environ.get("FWMARK_LAB_RUN")
    if marker:
        environment["FWMARK_LAB_RUN"] = marker
    done = subprocess.run(
        (program, *arguments[1:]),
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        cwd="/",
        timeout=_TIMEOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr.strip())


@contextmanager
def silent() -> Iterator[None]:
    """Discard what a C library writes to standard error within the block."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def find(program: str) -> str:
    """Return the path of a program; raises UnsupportedError with the package that has it."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        package = _PACKAGES.get(program, "iptables" if "tables" in program else program)
        raise UnsupportedError(f"{program!r} is not installed; install the package {package!r}")
    return path
