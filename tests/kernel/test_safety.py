"""Nothing outside is changed, and nothing stays: not after kill -9, not from parallel runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lab.errors import UnsupportedError
from lab.kernel.keep import MARKER, end, leftovers
from lab.plugin import Lab
from lab.registry.find import find
from lab.registry.loader import load
from lab.runner.pool import Pool
from lab.scenario import Scenario
from lab.verdict.compare import compare

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
COMMAND = Path(__file__).with_name("command.py")
PATIENCE = 20.0
NOBODY = 65534
Inside = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The processes of one command, and the network namespaces they are in or hold."""

    pids: frozenset[int]
    namespaces: frozenset[str]


def belonging(pid: int) -> Found:
    """Find the processes that a command started, by the marker in their environment."""
    wanted = f"{MARKER}={pid}:".encode()
    pids = set()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and any(
                part.startswith(wanted) for part in (folder / "environ").read_bytes().split(b"\0")
            ):
                pids.add(int(folder.name))
    return Found(frozenset(pids), frozenset(n for p in pids for n in namespaces(p)))


def namespaces(pid: int) -> set[str]:
    """List the network namespaces that a process is in or holds open, but not the caller's."""
    found = set()
    own = str(Path("/proc/self/ns/net").readlink())
    with suppress(OSError):
        for link in (Path(f"/proc/{pid}/ns/net"), *Path(f"/proc/{pid}/fd").iterdir()):
            with suppress(OSError):
                found.add(str(link.readlink()))
    return {name for name in found if name.startswith("net:")} - {own}


def held() -> set[str]:
    """List the network namespaces that any process is in or holds."""
    return {n for f in Path("/proc").iterdir() if f.name.isdigit() for n in namespaces(int(f.name))}


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"


@contextmanager
def command(*names: str, user: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a command, as another user on request; it is ended in any case."""
    process = subprocess.Popen(
        (interpreter(user), str(COMMAND), *names),
        cwd="/",
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        **identity(user),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """Return the environment of a command: this project and what it depends on."""
    packages = sysconfig.get_paths()["purelib"]
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    return {key: value for key, value in os.environ.items() if key != MARKER} | own


def identity(user: int | None) -> dict[str, Any]:
    """Return the options of Popen that make a process another user's."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


@cache
def interpreter(user: int | None) -> str:
    """Return a Python that this user can start, and that reaches the project; empty if none."""
    for found in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                ("unshare", "--user", "--net", found, "-c", "import lab, pyroute2, scapy, rich"),
                cwd="/",
                capture_output=True,
                check=False,
                env=environment(),
                **identity(user),
            )
        except OSError:
            continue
        if user is None or done.returncode == 0:
            return found
    return ""


def outside() -> tuple[str, list[str]]:
    """Read what a left-over could be seen by: mounts of this namespace and named namespaces."""
    names = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=False)
    return names.stdout, sorted(
        line.split(" ", 3)[3] for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


USERS = [pytest.param(None, id="as-me"), pytest.param(NOBODY, id="as-nobody")]


@pytest.fixture
def user(request: pytest.FixtureRequest) -> int | None:
    """Return the user to run as; skips where this machine does not let it."""
    wanted: int | None = request.param
    if wanted is not None and (os.geteuid() != 0 or not interpreter(wanted)):
        pytest.skip(
            "needs root to become nobody, a project that nobody can read, and user "
            "namespaces for ordinary users"
        )
    return wanted


def test_experiments_run_in_a_namespace_of_their_own(inside: Inside) -> None:
    """Which is neither the caller's nor left by the worker."""
    outer, inner = inside("inodes")
    assert outer == Path("/proc/self/ns/net").stat().st_ino
    assert inner != outer


def test_the_lab_refuses_to_change_the_namespace_it_is_in(inside: Inside) -> None:
    """Checked by inode before rules are installed."""
    assert inside("refusal").startswith("refusing to change")


def test_an_experiment_changes_nothing_outside(
    lab: Lab, caller: Callable[[], dict[str, str]]
) -> None:
    """Rules, addresses, routes, policy rules and sysctls of the caller's namespace stay."""
    before = caller(), outside()
    assert lab.check("tailscale", "calico", families=("ipv4",)).verdicts
    assert (caller(), outside()) == before


@pytest.mark.parametrize("user", USERS, indirect=True)
def test_a_command_works_and_leaves_nothing(user: int | None) -> None:
    """As root, and as an ordinary user in a user namespace."""
    before = outside()
    with command("kubernetes", "portmap", user=user) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert len(output.splitlines()) == 1 + 8
        until(lambda: not belonging(process.pid).pids, "all processes have ended")
    assert outside() == before


MOMENTS = ["no worker yet", "workers", "namespaces", "first run", "third run"]


@pytest.mark.parametrize("user", USERS, indirect=True)
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_leaves_nothing(user: int | None, moment: str) -> None:
    """Whenever it comes: no process, no namespace, no mount; and clean finds nothing to do."""
    before = outside()
    with command("tailscale", "calico", "forever", user=user) as process:
        _wait_for(process, moment)
        seen = belonging(process.pid)
        for _ in range(random.Random(f"{moment} {user}").randrange(20)):
            seen = belonging(process.pid)
        process.kill()
        process.wait()
        until(lambda: not belonging(process.pid).pids, "all processes have ended")
    assert process.returncode == -signal.SIGKILL
    until(lambda: not seen.namespaces & held(), "no namespace is left")
    assert outside() == before
    assert not [left for left in leftovers() if left.pid in seen.pids]


def _wait_for(process: subprocess.Popen[str], moment: str) -> None:
    assert process.stdout is not None
    process.stdout.readline()
    if moment == "workers":
        until(lambda: bool(belonging(process.pid).pids), "a worker has started")
    elif moment == "namespaces":
        until(lambda: len(belonging(process.pid).namespaces) > 3, "a network is being built")
    elif moment.endswith("run"):
        for _ in range(1 if moment == "first run" else 3):
            assert process.stdout.readline()


def test_two_runs_at_once_do_not_disturb_each_other() -> None:
    """Both give the verdicts that one alone gives."""

    def check() -> list[str]:
        names = ("tailscale", "calico@3.20")
        scenario = Scenario(tuple(find(n, load()) for n in names), families=("ipv4",))
        with Pool(1) as pool:
            return [
                f"{v} {v.point} {v.together}" for v in compare(pool.run(scenario.experiments()))
            ]

    try:
        alone = check()
    except UnsupportedError as problem:
        pytest.skip(str(problem))
    with ThreadPoolExecutor(2) as threads:
        assert [f.result() for f in [threads.submit(check) for _ in range(2)]] == [alone, alone]
    assert len(alone) > 20


def test_cleaning_up_leaves_a_running_command_alone() -> None:
    """Its processes are no left-overs, and it comes to its end."""
    with command("kubernetes", "portmap") as process:
        until(lambda: bool(belonging(process.pid).pids), "a worker has started")
        mine = belonging(process.pid).pids
        found = {left.pid for left in leftovers()}
        assert mine
        assert not mine & found
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_kept_namespaces_can_be_entered_and_are_cleaned_up(lab: Lab) -> None:
    """By the command that is printed; afterwards nothing of them is left."""
    names = ("kubernetes", "portmap")
    scenario = Scenario(
        tuple(find(n, load()) for n in names), families=("ipv4",), variants=("nft",)
    )
    experiment = list(scenario.experiments())[-1]
    lab.run(experiment)  # skips where nothing can be run
    with Pool(1) as pool:
        _, kept = pool.keep(experiment)
    try:
        enter = kept.enter_command("node").split()
        rules = subprocess.run(
            (*enter, "iptables-nft-save"), capture_output=True, text=True, check=True
        ).stdout
        assert "CNI-HOSTPORT-MASQ" in rules
        assert "KUBE-POSTROUTING" in rules
        mine = [left for left in leftovers() if left.pid == kept.pid]
        assert [left.kept for left in mine] == [True]
    finally:
        mine = [left for left in leftovers() if left.pid == kept.pid]
        held_by_it = namespaces(kept.pid)
        for left in mine:
            end(left)
    until(lambda: not belonging_to_kept(kept.pid), "the process has ended")
    until(lambda: not held_by_it & held(), "no namespace is left")


def belonging_to_kept(pid: int) -> bool:
    """Tell whether a kept process still runs; one that has ended may wait to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_dies_with_its_command(lab: Lab) -> None:
    """Even where the command itself had no chance to end it."""
    assert lab.families
    with command("tailscale", "calico", "forever") as process:
        _wait_for(process, "workers")
        workers = belonging(process.pid).pids
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not workers & belonging(process.pid).pids, "the workers have ended")
