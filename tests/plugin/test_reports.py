"""The scenario suites say less of what went well, and as much of what did not."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "scenarios" / "conftest.py"
COUNTING = """
def pytest_runtest_logreport(report):
    print("REPORTED", report.nodeid.partition("::")[2], report.when, report.outcome)
"""
SUITE = """
import pytest

@pytest.fixture
def broken():
    raise OSError("no set-up")

@pytest.fixture
def unclosed():
    yield
    raise OSError("no tear-down")

def test_good(): pass
def test_bad(): assert False
def test_skipped(): pytest.skip("for a reason")
def test_without_set_up(broken): pass
def test_without_tear_down(unclosed): pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder with tests of all kinds and what the suites share."""
    monkeypatch.setenv("PYTHONPATH", str(SHARED.parents[1]))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeconftest(SHARED.read_text() + COUNTING)
    pytester.makepyfile(SUITE)
    return pytester


def reported(suite: pytest.Pytester, *arguments: str) -> list[str]:
    """Run the suite; list the reports, whose outcomes are always the same."""
    result = suite.runpytest_subprocess("-s", *arguments)
    result.assert_outcomes(passed=2, failed=1, skipped=1, errors=2)
    lines = (line.partition("REPORTED ")[2] for line in result.outlines)
    return [line for line in lines if line]


def test_a_passed_set_up_and_tear_down_is_not_reported(suite: pytest.Pytester) -> None:
    """One that failed is, and what the test itself did."""
    assert reported(suite) == [
        "test_good call passed",
        "test_bad call failed",
        "test_skipped call skipped",
        "test_without_set_up setup failed",
        "test_without_tear_down call passed",
        "test_without_tear_down teardown failed",
    ]


@pytest.mark.parametrize("asked", ["--durations=3", "--junit-xml=report.xml"])
def test_who_asks_for_times_gets_every_report(suite: pytest.Pytester, asked: str) -> None:
    """Set-up and tear-down take time as well."""
    assert reported(suite, asked)[:3] == [
        "test_good setup passed",
        "test_good call passed",
        "test_good teardown passed",
    ]
