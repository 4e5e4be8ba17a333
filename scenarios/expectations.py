"""What the suites of pairs and stacks share: a scenario's judgement beside what is expected."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lab import pairs
from lab.order.alone import by_itself
from lab.plugin import Lab, entries
from lab.scenario import Scenario
from lab.verdict.expected import Explanation, load

EXPECTED = Path(__file__).parent / "expected"


@cache
def explanations() -> tuple[Explanation, ...]:
    """Return what is known beyond the predictor."""
    return load(EXPECTED, entries())


def unexpected(lab: Lab, scenario: Scenario) -> tuple[str, ...]:
    """List what was not to be expected of a scenario in one order, family and variant.

    That are the verdicts that were neither predicted nor explained, and the explanations that were
    not borne out. Every software alone is run once for all combinations with it.
    """
    (together,) = (e for e in scenario.experiments() if not e.alone)
    experiments = (*(by_itself(together, one) for one in scenario.software), together)
    problems = pairs.unexpected(together, lab.verdicts(experiments), explanations())
    if problems:
        lab.judge(map(lab.run, experiments))  # its evidence is printed
    return problems
