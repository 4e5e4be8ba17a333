"""The script of every reported conflict shows it on a machine without the lab."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from started import run as fwmark_lab

from lab.plugin import Lab
from lab.reported.catalogue import Case, load
from lab.shrink.evidence import SIGN
from lab.shrink.script import script
from lab.shrink.search import Shrunk, shrink
from lab.verdict.compare import compare

pytestmark = pytest.mark.kernel

CASES = {case.number: case for case in load() if case.bug}
PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""No virtual environment: nothing of the lab's is found."""
Shrunken = Callable[[Case], Shrunk]
Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def shrunken(lab: Lab) -> Shrunken:
    """Return what reduces a case, once a session."""

    @cache
    def reduced(case: Case) -> Shrunk:
        assert case.bug is not None
        assert case.sign is not None
        narrowed = replace(case.scenario(case.bug), families=("ipv4",), variants=("nft",))
        verdicts = compare(map(lab.run, narrowed.experiments()))
        found = next(verdict for verdict in verdicts if case.sign.fits(verdict))
        return shrink(narrowed, found, lambda many: map(lab.run, many), lambda _: None)

    return reduced


@pytest.fixture
def path(tmp_path: Path, shrunken: Shrunken) -> Path:
    """Return the script of the best-known conflict."""
    found = tmp_path / "reproduce.sh"
    found.write_text(script(shrunken(CASES["tailscale#591"]), "a test"))
    return found


def run(path: Path, *before: str, **environment: str) -> Run:
    """Run a script with the system's shell and nothing else of note."""
    return subprocess.run(
        [*before, "sh", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=path.parent,
        env=PLAIN | environment,
    )


def words(line: str, bits: int) -> set[int]:
    """Read the marks of a line that a script printed, under a mask."""
    shown = line.split(": ")[2].split(";")[0]
    return {int(word, 16) & bits for word in re.findall(r"0x[0-9a-f]+", shown)}


@pytest.mark.parametrize("number", CASES)
def test_the_script_of_a_case_shows_the_conflict(
    number: str, shrunken: Shrunken, tmp_path: Path
) -> None:
    """Exit 1, with the words and the culprit that the lab reports; a POSIX script."""
    shrunk = shrunken(CASES[number])
    verdict, path = shrunk.verdict, tmp_path / "reproduce.sh"
    path.write_text(script(shrunk, "a test"))
    check_shell(path)
    done = run(path)
    assert done.returncode == 1, done.stdout + done.stderr
    alone, together = done.stdout.splitlines()[:2]
    assert (alone.split(": ")[0], together.split(": ")[0]) == ("alone", "together")
    if verdict.point is not None:
        assert verdict.alone in words(alone, verdict.bits)
        seen = words(together, verdict.bits)
        assert (verdict.together in seen) if verdict.together is not None else not seen
    if verdict.culprit is not None:
        text = path.read_text().replace("counter ", "")  # nft's rules are given one
        assert verdict.culprit.rule.written.replace("counter ", "") in text
    if SIGN in path.read_text():
        assert re.search(r"the rule to blame matched [1-9]", together)
    assert ("ends differently" in done.stdout) == (verdict.fate_alone != verdict.fate_together)


def check_shell(path: Path) -> None:
    """Have shellcheck read a script, where it is installed (Debian: shellcheck)."""
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-s", "sh", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_lab_is_not_there(tmp_path: Path) -> None:
    """What these tests run cannot import it."""
    done = subprocess.run(
        ["python3", "-c", "import lab"], env=PLAIN, cwd=tmp_path, capture_output=True, text=True
    )
    assert "No module named 'lab'" in done.stderr


def test_without_the_rule_to_blame_there_is_no_conflict(path: Path) -> None:
    """Exit 0: the script measures, it does not merely claim."""
    lines = path.read_text().splitlines()
    blamed = [line for line in lines if SIGN in line and line.startswith("-A")]
    assert len(blamed) == 1
    path.write_text("\n".join(line for line in lines if line not in blamed) + "\n")
    done = run(path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no conflict here")


def test_a_rule_that_is_refused_is_no_conflict(path: Path) -> None:
    """Exit 2, with what the tool said."""
    path.write_text(path.read_text().replace("--set-mark 0/0xf0000", "--set-mark banana"))
    done = run(path)
    assert done.returncode == 2
    assert "bad integer value" in done.stderr
    assert done.stderr.endswith(": nothing was judged\n")


def test_a_flow_that_is_lost_alone_is_no_conflict(path: Path) -> None:
    """Then the comparison would mean nothing."""
    path.write_text(path.read_text().replace("port = 5001\nsource", "port = 5002\nsource"))
    done = run(path)
    assert (done.returncode, "alone nothing arrives" in done.stderr) == (2, True)


def test_a_missing_program_is_named(path: Path, tmp_path: Path) -> None:
    """Before anything is done."""
    path.write_text(path.read_text().replace("PATH=$PATH:/usr/sbin:/sbin\n", ""))
    (tmp_path / "bin").mkdir()
    for name in ("sh", "unshare", "mount"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    done = run(path, PATH=str(tmp_path / "bin"))
    assert (done.returncode, done.stderr) == (2, f"{path}: ip is missing\n")


def test_an_ordinary_user_runs_it(path: Path) -> None:
    """In a user namespace."""
    if os.getuid() == 0:
        as_user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        allowed = subprocess.run([*as_user, "unshare", "--map-root-user", "true"], check=False)
        if allowed.returncode:
            pytest.skip("this kernel gives ordinary users no namespaces")
        for folder in (path.parent, *path.parent.parents):
            if folder != Path("/tmp") and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
    else:
        as_user = ()
    assert run(path, *as_user).returncode == 1


def test_scripts_run_side_by_side(path: Path) -> None:
    """None sees another's namespaces."""
    started = [
        subprocess.Popen(["sh", str(path)], env=PLAIN, stdout=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.wait(120) for process in started if process.communicate()] == [1, 1, 1]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_script_leaves_nothing(path: Path, sent: int, status: int) -> None:
    """Neither processes nor namespaces, as after Ctrl-C."""
    before = set(Path("/run").glob("netns/*"))
    with subprocess.Popen(
        ["sh", str(path)], env=PLAIN, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 30
        while not any(m.endswith("(ip") for m in members(process.pid)):
            assert time.monotonic() < deadline  # it works in namespaces of its own soon
        os.killpg(process.pid, sent)
        assert process.wait(30) == status
    while members(process.pid) and time.monotonic() < deadline:
        pass
    assert members(process.pid) == []
    assert set(Path("/run").glob("netns/*")) == before


def members(session: int) -> list[str]:
    """List the living processes of a session; the dead that nobody has waited for do not count."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(") ")
        except OSError:
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state not in "ZX":
            found.append(name)
    return found


def test_the_command_writes_the_script(tmp_path: Path) -> None:
    """``reported THREAD --script FILE``."""
    path = tmp_path / "reproduce.sh"
    done = fwmark_lab("reported", "cilium#21330", "--script", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(f"written: sh {path}\n")
    assert run(path).returncode == 1


def test_a_script_is_of_one_thread() -> None:
    """Without one there is nothing to write."""
    done = fwmark_lab("reported", "--script", "x.sh")
    assert (done.returncode, "expected THREAD" in done.stderr) == (4, True)
