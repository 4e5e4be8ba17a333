"""Arguments, exit codes and the one line that an error is; nothing here needs the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from small_runs import runs

import lab
from lab import cli, saved
from lab.commands import check as checking
from lab.errors import SandboxError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Save runs with a conflict."""
    saved.prepare(tmp_path / "runs")
    saved.save(runs(), tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "tailscael"], "unknown software 'tailscael'; did you mean 'tailscale'? known: "),
        (["show", "calico@9"], "unknown release of calico '9'; "),
        (["show", "none.toml"], "none.toml: cannot be read: No such file or directory"),
        (
            ["judge", "/nonexistent"],
            "no folder '/nonexistent'; expected one that check --save wrote",
        ),
        (["check"], "missing argument 'ENTRY...'; see fwmark-lab check --help"),
        (["check", "a", "--order", "up"], "invalid value for '--order': 'up' is not one of"),
        (["check", "a", "--junit", "/nonexistent/x.xml"], "cannot write '/nonexistent/x.xml'"),
        (["frobnicate"], "no such command 'frobnicate'"),
        (["list", "--colour"], "no such option '--colour'"),
        (["capture", "--list", "/nonexistent"], "/nonexistent: cannot be read: No such file"),
        (["capture", "--list", __file__], "test_command_line.py: not a gzip'd archive; expected"),
        (["capture", "--list", "x", "-o", "y"], "--list only shows an archive"),
        (["capture", "--json"], "--json is for --list"),
        (["capture", "--netns", "none-such"], "unknown network namespace 'none-such'"),
        (["capture", "--netns", "/nonexistent"], "cannot open '/nonexistent': No such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_4(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the offender and the remedy; nothing else is printed."""
    assert cli.run(arguments) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fwmark-lab: error: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_bad_mask_names_file_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An entry that cannot be used is an error of usage."""
    entry = tmp_path / "mine.toml"
    shipped = Path(lab.load()[0].file).read_text()
    entry.write_text(shipped.replace('mask = "', 'mask = "0xzz', 1))
    assert cli.run(["show", str(entry)]) == 4
    lines = entry.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "0xzz" in text)
    assert f"{entry}:{line}: key 'allocation[0].mask': " in capsys.readouterr().err


def test_judge_tells_the_conflict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved runs give the report and the exit code of check."""
    assert cli.run(["judge", str(folder)]) == 1
    assert (
        "alpha 1.10 and beta 1.10 do not coexist: 1 of 2 flows breaks\n" in capsys.readouterr().out
    )


def test_judge_exits_0_where_all_survives(tmp_path: Path) -> None:
    """Coexistence is success."""
    saved.save(runs(lambda _: False), tmp_path)
    assert cli.run(["judge", str(tmp_path)]) == 0


def test_judge_exits_2_where_nothing_can_be_said(tmp_path: Path) -> None:
    """A combination without the run alone is inconclusive."""
    saved.save([run for run in runs() if not run.experiment.alone], tmp_path)
    assert cli.run(["judge", str(tmp_path)]) == 2


def test_json_and_junit_can_be_had_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is JSON and nothing else; the file is XML."""
    junit = tmp_path / "result.xml"
    assert cli.run(["judge", str(folder), "--json", "--junit", str(junit)]) == 1
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1
    assert junit.read_text().startswith("<?xml")


def test_list_names_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    """Each release and mode has a line that names it as the command line does."""
    assert cli.run(["list"]) == 0
    shown = capsys.readouterr().out
    for entry in lab.load():
        mode = "" if entry.default_mode else f":{entry.mode}"
        assert f"{entry.name}@{entry.release}{mode} " in shown


def test_entries_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine gets names, releases, allocations and what is listed elsewhere."""
    assert cli.run(["show", "portmap@0.8.6", "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["allocations"][0]["mask"]) == ("portmap", 0x2000)
    assert cli.run(["list", "portmap", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in listed} == {"portmap"}
    assert "flows" not in listed[0]


def test_show_prints_the_rules_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """The rules appear as written, with their sources, only if asked for."""
    assert cli.run(["show", "portmap"]) == 0
    assert "--set-xmark" not in capsys.readouterr().out
    assert cli.run(["show", "portmap", "--rules"]) == 0
    assert "-A CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000" in capsys.readouterr().out


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Help shows commands to copy and the exit codes; it is what a bare call prints as well."""
    assert cli.run(["--help"]) == 0
    helped = capsys.readouterr().out
    assert "fwmark-lab check tailscale calico" in helped
    assert cli.run([]) == 0
    assert capsys.readouterr().out == helped
    for name, command in cli.cli.commands.items():
        assert command.help, name


@pytest.mark.parametrize("name", ["check", "trace"])
def test_the_main_commands_show_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for help gets something to type."""
    assert cli.run([name, "--help"]) == 0
    assert f"  fwmark-lab {name} tailscale calico" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (SandboxError("the worker process ended"), 3),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (click.Abort(), 130),
    ],
)
def test_what_is_not_the_users_doing_has_its_own_exit_code(
    problem: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No failure of the lab looks like a conflict."""
    monkeypatch.setattr(cli.cli, "main", _raiser(problem))
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert cli.run(["list"]) == code


def test_a_defect_exits_3_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unforeseen error is reported as one, not as a conflict."""
    monkeypatch.setattr(cli.cli, "main", _raiser(ZeroDivisionError("oh")))
    assert cli.run(["list"]) == 3
    assert "ZeroDivisionError: oh" in capsys.readouterr().err


def _raiser(problem: BaseException) -> object:
    def fail(*_: object, **__: object) -> None:
        raise problem

    return fail


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    """``fwmark-lab judge runs | head -1`` prints one line and no complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            (sys.executable, "-m", "lab", "judge", str(folder)),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=_environment(),
        )
    assert done.stderr == ""


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(lab.__file__).parents[1])}


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["show", "calico"]])
def test_what_needs_no_kernel_imports_none_of_its_shell(arguments: list[str]) -> None:
    """Help and the registry start quickly: neither scapy, pyroute2 nor pytest is imported."""
    code = (
        "import sys; from lab.cli import run\n"
        f"assert run({arguments!r}) == 0\n"
        "bad = {'scapy', 'pyroute2', 'pytest', 'lab.kernel', 'lab.runner'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code),
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_test_replaces_the_process_by_pytest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Arguments reach pytest untouched, in the clone's root; every processor is used."""
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: called.append(arguments))
    monkeypatch.chdir(tmp_path)
    cli.run(["test", "-q", "--co", "tests/unit", "-k", "x y"])
    cli.run(["test", "-n0"])
    given = ["-q", "--co", "tests/unit", "-k", "x y"]
    assert called == [
        [sys.executable, "-m", "pytest", "-n", "auto", *given],
        [sys.executable, "-m", "pytest", "-n0"],
    ]
    assert Path.cwd() == Path(lab.__file__).parents[1]


def test_progress_is_for_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal sees which experiment is awaited; a pipe sees nothing."""
    everything = runs()
    experiments = [run.experiment for run in everything]
    assert list(checking._with_progress(experiments, iter(everything))) == everything
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(checking._with_progress(experiments, iter(everything))) == everything
    assert "[1/16] alpha@1.10:iptables, ipv4, iptables-nft" in capsys.readouterr().err


def test_the_facade_names_what_it_holds() -> None:
    """Every name of ``lab.__all__`` can be had, and they are sorted."""
    assert list(lab.__all__) == sorted(lab.__all__)
    assert {name for name in lab.__all__ if getattr(lab, name) is None} == set()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lab.nothing  # noqa: B018
