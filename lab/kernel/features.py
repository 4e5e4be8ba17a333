"""Ask the kernel and the system what they offer, without changing either.

What has to be tried is tried by ``throwaway.py``, a process that first leaves the caller's
namespaces. Where trying would make the kernel load a module from disk, the module's presence is
the answer instead: modules belong to the whole machine.
"""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.errors import SandboxError

_CHILD = Path(__file__).with_name("throwaway.py")
_PATIENCE = 120  # seconds for all trials; one program gets ten
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*\S*")
_BY_PROGRAM = frozenset({"ip_tables", "ip6_tables"})
"""What the kernel does not load by itself: iptables-legacy runs modprobe, which needs root."""
_SYS_MODULE = 16
GUEST = "fwmark_lab.guest=1"
"""On the command line of the kernel where ``lab.vm`` started it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something to try: steps that must all succeed, in native text split at blanks."""

    name: str
    steps: tuple[str, ...]
    modules: tuple[str, ...] = ()
    needed: bool = False
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {'; '.join(self.steps)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a trial, and why."""

    ok: bool
    reason: str

    def __str__(self) -> str:
        return f"{'yes' if self.ok else 'no'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Entry:
    """How new namespaces were entered: as root, through a user namespace, or not at all."""

    way: str
    refused: str = ""

    def __bool__(self) -> bool:
        return bool(self.way)

    def __str__(self) -> str:
        return self.way or self.refused


def attempt(
    trials: Sequence[Trial], *, as_nobody: bool = False
) -> tuple[Entry, tuple[Answer, ...]]:
    """Try everything in one throw-away namespace; answers come in the order of the trials.

    ``as_nobody`` gives up root first. Where the namespace is refused, every answer is that refusal.
    """
    live = [trial for trial in trials if not dormant(trial.modules)]
    entry, found = _run_child(live, as_nobody)
    tried = dict(zip((trial.name for trial in live), found, strict=False))
    refusal = Answer(False, f"no namespace to try it in: {entry.refused}")
    return entry, tuple(
        tried.get(trial.name, _asleep(trial) if trial not in live else refusal) for trial in trials
    )


def _asleep(trial: Trial) -> Answer:
    asleep = dormant(trial.modules)
    if (ours := sorted(_BY_PROGRAM.intersection(asleep))) and not has_capability(_SYS_MODULE):
        return Answer(False, f"{ours[0]} is not loaded, and only root's iptables loads it")
    names = ", ".join(asleep)
    return Answer(True, f"not tried: the kernel loads module {names} on first use")


def _run_child(trials: Iterable[Trial], as_nobody: bool) -> tuple[Entry, list[Answer]]:
    steps = [[step.split() for step in trial.steps] for trial in trials]
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_CHILD)],
        input=json.dumps({"drop": as_nobody, "trials": steps}),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode != 0:
        raise SandboxError(f"the process that tries kernel features failed: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    answers = [Answer(ok, reason or "works") for ok, reason in said["answers"]]
    return Entry(said["entered"], said["refused"]), answers


def in_guest() -> bool:
    """Tell whether this is a guest of the lab's own, whose modules are nobody else's."""
    return GUEST in read("/proc/cmdline").split()


def dormant(modules: Iterable[str]) -> tuple[str, ...]:
    """Return those modules that lie on disk and are not loaded; trying them would load them."""
    loaded = _words(Path("/proc/modules"))
    return tuple(m for m in modules if m in _on_disk() and m not in loaded)


@cache
def _on_disk() -> frozenset[str]:
    release = read("/proc/sys/kernel/osrelease")
    paths = _words(Path("/lib/modules") / release / "modules.dep")
    return frozenset(Path(path).name.partition(".ko")[0].replace("-", "_") for path in paths)


def _words(file: Path) -> frozenset[str]:
    """Return the first word of every line, without a colon at its end."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split()[0].rstrip(":") for line in lines if line.strip())


def read(path: str) -> str:
    """Return the stripped content of a /proc file, or nothing where this kernel has none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def has_capability(number: int) -> bool:
    """Tell whether this process has a capability; the numbers are in linux/capability.h."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", read("/proc/thread-self/status"), re.MULTILINE)
    return bool(found and int(found[1], 16) >> number & 1)


def program_version(name: str, option: str = "--version") -> str | None:
    """Return the version a program prints, ``unknown version``, or None where it is missing."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, option], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown version ({error})"
    found = _VERSION.search(done.stdout)
    return done.stdout[found.start() :].splitlines()[0].strip() if found else "unknown version"


def library_error(name: str) -> str:
    """Load a shared library; return why it could not be loaded, or nothing."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return ""
