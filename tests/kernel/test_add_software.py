"""The worked example of docs/add-software.md works, word for word; so do new and validate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-software.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.kernel


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder."""
    return subprocess.run(
        (sys.executable, "-m", "lab", *arguments),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def blocks(kind: str) -> list[str]:
    """List the code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def console() -> dict[str, str]:
    """Map each command of the page to what it is said to print."""
    return {
        command.removeprefix("$ fwmark-lab ").strip(): said
        for command, _, said in (block.partition("\n") for block in blocks("console"))
    }


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """Give the entry of the page, put together from its blocks."""
    path = tmp_path / "lan-uplink.toml"
    path.write_text("\n".join(blocks("toml")), encoding="utf-8")
    return path


def spoilt(entry: Path, old: str, new: str) -> subprocess.CompletedProcess[str]:
    """Validate the entry with one change."""
    text = entry.read_text(encoding="utf-8")
    assert old in text
    entry.write_text(text.replace(old, new, 1), encoding="utf-8")
    return run("validate", entry.name, folder=entry.parent)


def test_new_writes_the_template_and_it_holds(tmp_path: Path) -> None:
    """What new writes can be validated as it is."""
    done = run("new", "lan-uplink", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, console()["new lan-uplink"])
    assert run("validate", "lan-uplink.toml", folder=tmp_path).returncode == 0


def test_new_never_overwrites(tmp_path: Path) -> None:
    """A file of that name stays as it is."""
    (tmp_path / "mine.toml").write_text("precious")
    done = run("new", "mine", folder=tmp_path)
    assert done.returncode == 4
    assert "mine.toml exists" in done.stderr
    assert (tmp_path / "mine.toml").read_text() == "precious"


@pytest.mark.parametrize("name", ["Mine", "../mine", "a b", "", "x" * 40])
def test_new_refuses_what_is_no_name(tmp_path: Path, name: str) -> None:
    """Nothing is written."""
    assert run("new", "--", name, folder=tmp_path).returncode == 4
    assert [*tmp_path.iterdir()] == []


def test_the_pages_entry_holds(entry: Path) -> None:
    """Validate prints what the page says."""
    done = run("validate", entry.name, folder=entry.parent)
    assert (done.stderr, done.stdout) == ("", console()["validate lan-uplink.toml"])
    assert done.returncode == 0


def test_the_pages_entry_survives_beside_kubernetes(entry: Path) -> None:
    """As the page says."""
    assert "check ./lan-uplink.toml kubernetes" in console()
    assert run("check", "./lan-uplink.toml", "kubernetes", folder=entry.parent).returncode == 0


def test_the_pages_entry_does_not_survive_beside_wg_quick(entry: Path) -> None:
    """Its own policy rule takes the mark that wg-quick restores to requests; that is to blame."""
    assert "check ./lan-uplink.toml wg-quick" in console()
    done = run("check", "./lan-uplink.toml", "wg-quick", folder=entry.parent)
    assert done.returncode == 1
    assert "MISROUTED  lan-uplink/lan-to-pod" in done.stdout
    assert "meta l4proto udp meta mark set ct mark" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        (
            'mask = "0xf0"',
            'mask = "0xf00000000"',
            'mask = "0xf00000000"',
            "does not fit in 32 bits",
        ),
        ('mask = "0xf0"', 'mask = "0x20"', "lan = ", "has bits outside the mask 0x20"),
        ("-i {{ lan.dev }} -m", "-i {{ lan.dv }} -m", "-A LAN-UPLINK -i", "placeholder 'lan.dv'"),
        ('to = "{{ pod-a.ip }}"', 'to = "{{ pod.ip }}"', "to = ", "placeholder 'pod.ip'"),
        ("-j CONNMARK", "-j CONMARK", "-A LAN-UPLINK -i", "iptables-nft-restore refused"),
        ("rule add", "rule adz", "rule adz", "ip refused"),
        ('from = "lan"', 'from = "wan"', 'from = "wan"', "unknown node 'wan'"),
        ("answered-by", "answred-by", "answred-by = ", "unknown key"),
    ],
)
def test_an_entry_that_cannot_be_used_is_an_error_with_its_line(
    entry: Path, old: str, new: str, line: str, problem: str
) -> None:
    """Exit code 4, one sentence, and the place."""
    done = spoilt(entry, old, new)
    assert done.returncode == 4, done.stderr
    assert problem in done.stderr
    lines = entry.read_text(encoding="utf-8").splitlines()
    numbers = [str(n) for n, text in enumerate(lines, 1) if text.startswith(line)]
    found = re.match(r"lan-uplink\.toml:(\d+): ", done.stderr)
    assert found, done.stderr
    assert found[1] in numbers


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('ctmark = "0x10/0xf0"', 'ctmark = "0x20/0xf0"', "ctmark 0x20/0xf0, read 0x10"),
        (
            'lan = "0x10/0xf0"',
            'lan = "0x30/0xf0"',
            "no packet of any flow carries ctmark 0x30/0xf0",
        ),
        ("--set-xmark 0x10/0xf0", "--set-xmark 0x110/0x1f0", "changed ctmark bits 0x100"),
        ('seen-from = "{{ lan.ip }}"', 'seen-from = "{{ wan.ip }}"', "expected to be seen from"),
    ],
)
def test_an_entry_that_says_what_is_not_so_is_told(
    entry: Path, old: str, new: str, problem: str
) -> None:
    """Exit code 1, with file, line and key."""
    done = spoilt(entry, old, new)
    assert done.returncode == 1
    assert problem in done.stderr
    assert all(re.match(r"lan-uplink\.toml:\d+: key '", x) for x in done.stderr.splitlines())


def test_the_worst_of_several_files_decides(entry: Path, tmp_path: Path) -> None:
    """And each is told of."""
    done = run("validate", "missing.toml", entry.name, folder=tmp_path)
    assert done.returncode == 4
    assert "missing.toml: cannot be read" in done.stderr
    assert "lan-uplink@1.0:iptables holds" in done.stdout
