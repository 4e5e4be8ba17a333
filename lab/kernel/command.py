"""Starting programs: never through a shell, always with a fixed environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from select import select

from lab.errors import UnsupportedError

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_TIMEOUT = 60.0
_SAID = 1 << 16
"""Bytes of error messages that are kept."""
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "ipset": "ipset",
             "ping": "iputils-ping"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished program printed, and its exit status."""

    status: int
    output: str
    error: str


class Unfinished(Exception):
    """Say why a program was ended before it had said everything."""


def run(arguments: tuple[str, ...], text: str = "") -> Result:
    """Run a program in the current namespaces with ``text`` on its input.

    Raises UnsupportedError where the program is not installed.
    """
    program = find(arguments[0])
    done = subprocess.run(
        (program, *arguments[1:]),
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        env=_environment(),
        cwd="/",
        timeout=_TIMEOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr.strip())


def _environment() -> dict[str, str]:
    environment = {"PATH": _PATH, "LC_ALL": "C", "XTABLES_LOCKFILE": "/run/xtables.lock"}
    marker = os.environ.get("FWMARK_LAB_RUN")
    return environment | {"FWMARK_LAB_RUN": marker} if marker else environment


def bounded(arguments: tuple[str, ...], most: int, patience: float = _TIMEOUT) -> Result:
    """Run a program that only lists, and end it after ``most`` bytes or ``patience`` seconds.

    Raises Unfinished with the reason where it had to be ended, and UnsupportedError where it is
    not installed.
    """
    until = time.monotonic() + patience
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            (find(arguments[0]), *arguments[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            cwd="/",
        ) as process,
    ):
        try:
            output = _read(process, most, until)
            status = process.wait(max(0.0, until - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise Unfinished(f"no end within {patience:g} s") from None
        finally:
            process.kill()  # does nothing to one that has ended
        errors.seek(0)
        said = errors.read(_SAID).decode(errors="replace").strip()
    return Result(status, output.decode(errors="replace"), said)


def _read(process: subprocess.Popen[bytes], most: int, until: float) -> bytes:
    assert process.stdout is not None
    content = bytearray()
    while select((process.stdout,), (), (), max(0.0, until - time.monotonic()))[0]:
        part = os.read(process.stdout.fileno(), 1 << 16)
        content += part
        if not part:
            return bytes(content)
        if len(content) > most:
            raise Unfinished(f"more than {most >> 20} MiB")
    raise TimeoutError


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


@lru_cache(maxsize=64)
def find(program: str) -> str:
    """Return the path of a program; raises UnsupportedError with the package that has it."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        package = _PACKAGES.get(program, "iptables" if "tables" in program else program)
        raise UnsupportedError(f"{program!r} is not installed; install the package {package!r}")
    return path
