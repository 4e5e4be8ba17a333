"""What lint prints: text, JSON and SARIF, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import cli
from lab.lint.checks import CHECKS

BAD = "*mangle\n-A PREROUTING -j MARK --set-mark 0x1\nCOMMIT\n"
GOOD = "*mangle\n-A PREROUTING -j MARK --set-mark 0x1/0x1\nCOMMIT\n"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Write rules with one finding."""
    path = tmp_path / "my rules.txt"
    path.write_text(BAD)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Write rules without findings."""
    path = tmp_path / "good.txt"
    path.write_text(GOOD)
    return path


def test_findings_are_exit_code_1_and_none_0(
    bad: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with any linter."""
    assert cli.run(["lint", str(bad)]) == 1
    assert cli.run(["lint", str(good)]) == 0
    assert capsys.readouterr().out.endswith("no findings; 1 file read\n")


def test_a_finding_tells_rule_place_why_whom_and_how(
    bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without colour, since this is no terminal."""
    cli.run(["lint", str(bad)])
    out = capsys.readouterr().out
    assert out.startswith(f"{bad}:2\n  -A PREROUTING -j MARK --set-mark 0x1\n  error FWM001")
    assert "why        0x1 replaces all 32 bits of the packet mark" in out
    assert "tailscale (bits 16-23)" in out
    assert "instead    -j MARK --set-xmark 0x1/0x1" in out
    assert "\x1b" not in out


def test_json_has_the_same_findings(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object per finding."""
    assert cli.run(["lint", str(bad), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(bad)]
    (finding,) = told["findings"]
    assert (finding["check"], finding["line"]) == ("FWM001", 2)


def test_sarif_is_what_the_standard_asks_for(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SARIF 2.1.0 sections 3.13 (log), 3.14 (run), 3.27 (result), 3.49 (rule)."""
    assert cli.run(["lint", str(bad), "--sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [check.id for check in CHECKS]
    assert {rule["defaultConfiguration"]["level"] for rule in rules} <= {"error", "warning", "note"}
    (result,) = run["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "FWM001"
    assert result["message"]["text"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"].endswith("/my%20rules.txt")
    assert location["physicalLocation"]["region"]["startLine"] == 2


def test_sarif_without_findings_has_an_empty_list(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``results`` absent would mean that nothing was looked at (3.14.23)."""
    assert cli.run(["lint", str(good), "--sarif"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["results"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "--sarif"], "exclude each other"),
        (["--owner", "tailscael"], "unknown software 'tailscael'; did you mean 'tailscale'?"),
    ],
)
def test_wrong_options_are_exit_code_4(
    arguments: list[str], said: str, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was expected."""
    assert cli.run(["lint", str(good), *arguments]) == 4
    assert said in capsys.readouterr().err


def test_a_bad_file_is_exit_code_4_and_prints_nothing_else(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an answer would look like a whole one."""
    broken = tmp_path / "broken"
    broken.write_text("*mangle\n-A\nCOMMIT\n")
    assert cli.run(["lint", str(good), str(broken)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{broken}:2: " in captured.err
    assert captured.err.count("\n") == 1
