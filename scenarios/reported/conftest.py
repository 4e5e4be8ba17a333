"""Fixtures of the reported conflicts: the case of a module, its bug and each of its cures, as run.

A module names its thread in ``THREAD``; all else stands in ``lab/reported/*.toml``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.plugin import Lab, Result
from lab.reported.catalogue import Case, Trial, find, load
from lab.scenario import Scenario


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with ``cured`` once for each cure."""
    if "cured" in metafunc.fixturenames:
        cures = find(metafunc.module.THREAD, load()).cures
        metafunc.parametrize("cured", cures, ids=[_slug(c) for c in cures], indirect=True)


def _slug(trial: Trial) -> str:
    words = "".join(c if c.isalnum() or c == "." else " " for c in trial.how).split()
    return "-".join(words[:6])


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """Return the thread that the module is about."""
    return find(request.module.THREAD, load())


@pytest.fixture
def bug(case: Case, lab: Lab) -> Result:
    """Return what was seen of the combination that is reported."""
    assert case.bug is not None
    return lab.check(_narrowed(case.scenario(case.bug), lab))


@pytest.fixture
def cured(case: Case, lab: Lab, request: pytest.FixtureRequest) -> Result:
    """Return what was seen after one cure."""
    return lab.check(_narrowed(case.scenario(request.param), lab))


def _narrowed(scenario: Scenario, lab: Lab) -> Scenario:
    """Leave out what the options of the command line leave out."""
    families = tuple(f for f in scenario.families if f in lab.families)
    variants = tuple(v for v in scenario.effective_variants() if v in lab.variants)
    if not families:
        pytest.skip("the report is about another address family")
    return replace(scenario, families=families, variants=variants or scenario.variants)
