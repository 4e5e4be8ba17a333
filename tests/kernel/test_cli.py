"""The command line on real namespaces, as a person uses it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lab

pytestmark = pytest.mark.kernel

ONE = ("--family", "ipv4", "--iptables", "nft")
CLEARS = "-A cali-POSTROUTING --jump MARK --set-mark 0/0xf0000"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        _command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=_environment(),
    )


def _command(*arguments: str) -> tuple[str, ...]:
    return sys.executable, "-m", "lab", *arguments


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(lab.__file__).parents[1])}


def test_kubernetes_and_portmap_coexist() -> None:
    """Both mark other bits: every expectation survives, and the exit code says so."""
    done = run("check", "kubernetes", "portmap")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"coexist: all \d+ expectations of \d+ flows survive", done.stdout)
    assert "verdict:" not in done.stdout


def test_tailscale_and_calico_320_do_not_coexist() -> None:
    """Calico clears bits 16-19 in mangle POSTROUTING: the masquerade is lost (tailscale#4917)."""
    done = run("check", "tailscale", "calico@3.20", "--json")
    assert done.returncode == 1
    lost = [
        v
        for v in json.loads(done.stdout)["verdicts"]
        if (v["outcome"], v["flow"]) == ("clobbered", "tailnet-to-lan")
    ]
    assert {v["culprit"]["rule"]["written"] for v in lost} == {CLEARS}
    assert {(v["order"][0], v["family"], v["variant"]) for v in lost} == {
        (first, family, variant)
        for first in ("tailscale@1.102.3:iptables", "calico@3.20:iptables")
        for family in ("ipv4", "ipv6")
        for variant in ("nft", "legacy")
    }


def test_the_report_of_a_conflict_stands_for_itself() -> None:
    """The reader is told the rule, where it is written, the fate, and a command that shows it."""
    shown = run("check", "tailscale", "calico@3.20", "--flow", "tailnet-to-lan").stdout
    for part in (
        CLEARS,
        "table mangle, chain cali-POSTROUTING",
        "lab/registry/data/calico/",
        "0x00040000 -> 0x00000000",
        "tailscale/tailnet-to-lan: lost",
        "fwmark-lab trace tailscale@1.102.3 calico@3.20 --flow tailscale/tailnet-to-lan",
        "tailscale 1.102.3 and calico 3.20 do not coexist: 1 of 1 flow breaks",
    ):
        assert part in shown


def test_saved_runs_give_the_same_report(tmp_path: Path) -> None:
    """What judge prints of saved runs is what check printed."""
    folder = tmp_path / "runs"
    checked = run("check", "tailscale", "calico@3.20", *ONE, "--save", str(folder))
    assert run("judge", str(folder)).stdout == checked.stdout
    assert len(list(folder.iterdir())) == 4


def test_trace_shows_the_rule_that_cleared_the_bits() -> None:
    """The timeline holds the writes of both, the route and the end."""
    done = run("trace", "tailscale", "calico@3.20", "--flow", "tailnet-to-lan")
    assert (done.returncode, done.stderr) == (0, "")
    order = [
        done.stdout.index(part)
        for part in (
            "request 1 of 3",
            "routed with mark",
            "mark 0x00000000 -> 0x00040000 by tailscale",
            "mark 0x00040000 -> 0x00000000 by calico",
            CLEARS,
            "ended in prerouting",
        )
    ]
    assert order == sorted(order)


def test_trace_as_json_holds_the_packet() -> None:
    """A machine gets the same timeline, of the packet asked for."""
    done = run("trace", "portmap", "--flow", "host-port", "--packet", "2", "--json")
    (flow,) = json.loads(done.stdout)["flows"]
    assert {line["ordinal"] for line in flow["timelines"]} == {1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("check", "tailscael", "calico"),
            "unknown software 'tailscael'; did you mean 'tailscale'?",
        ),
        (("check", "portmap", "--flow", "nope"), "unknown flow 'nope'; known: portmap/host-port,"),
        (("check", "portmap", "portmap"), "'portmap' is named twice"),
        (("trace", "portmap"), "which flow? add --flow NAME; known: portmap/host-port,"),
        (
            ("trace", "portmap", "--flow", "host-port", "--packet", "9"),
            "no packet '9' of host-port",
        ),
        (("trace", "portmap", "--flow", "host-port", "--packet", "x"), "--packet 'x': expected a"),
        (
            ("trace", "portmap", "--flow", "host-port-localhost", "--family", "ipv6"),
            "flow 'host-port-localhost' does not exist over ipv6",
        ),
    ],
)
def test_wrong_names_exit_4(arguments: tuple[str, ...], said: str) -> None:
    """One line on standard error, also when workers had been started."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (4, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def entry(folder: Path, old: str, new: str) -> Path:
    """Write portmap's entry with one change."""
    shipped = lab.find("portmap@0.8.6", lab.load())
    text = Path(shipped.file).read_text()
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_an_entry_of_ones_own_is_checked(tmp_path: Path) -> None:
    """A file stands wherever a name does."""
    path = entry(tmp_path, 'name = "portmap"', 'name = "mine"')
    done = run("check", str(path), "kubernetes", *ONE)
    assert "mine 0.8.6 and kubernetes" in done.stdout
    assert done.returncode == 0


def test_a_bad_mask_names_file_and_key(tmp_path: Path) -> None:
    """An entry that cannot be read is an error of usage."""
    path = entry(tmp_path, 'mask = "0x2000"', 'mask = "0x2000000000"')
    done = run("check", str(path))
    assert done.returncode == 4
    line = path.read_text().splitlines().index('mask = "0x2000000000"') + 1
    said = f"{path}:{line}: key 'allocation[0].mask': 0x2000000000 does not fit"
    assert said in done.stderr


def test_a_refused_rule_names_file_and_line(tmp_path: Path) -> None:
    """A rule that iptables does not take is an error of usage, and names where it stands."""
    path = entry(tmp_path, "-j MASQUERADE", "-j MARK --set-mark 1 --no-such-option")
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "no-such" in text)
    done = run("check", str(path), *ONE)
    assert done.returncode == 4
    assert f"{path}:{line}: " in done.stderr


def test_kept_namespaces_can_be_entered_and_ended() -> None:
    """--keep prints a command per node; clean leaves them, clean --kept ends them."""
    done = run("check", "portmap", *ONE, "--keep")
    pid = int(re.findall(r"nsenter --target (\d+)", done.stdout)[0])
    try:
        command = re.findall(r"^  node +(nsenter .*)$", done.stdout, re.MULTILINE)[0].split()
        inside = subprocess.run(
            (*command, "iptables-legacy-save"), capture_output=True, text=True, check=False
        )
        assert inside.returncode == 0
        run("clean")
        os.kill(pid, 0)
    finally:
        cleaned = run("clean", "--kept")
    assert f"ended process {pid}: kept namespaces" in cleaned.stdout


def children(process: int) -> list[str]:
    """List the processes that a process has started and that have not ended."""
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


@pytest.mark.usefixtures("interruptible")
def test_interrupting_is_quiet(tmp_path: Path) -> None:
    """Ctrl-C ends the command and its workers without a word."""
    with (
        (tmp_path / "err").open("w+") as errors,
        subprocess.Popen(
            _command("check", "tailscale", "calico"),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
        ) as process,
    ):
        while not children(process.pid):
            assert process.poll() is None  # it starts workers first of all
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        errors.seek(0)
        assert errors.read().strip() == ""  # a line feed behind the ^C of a terminal
