"""What a check finds, and what a check is [pure]."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that is wrong: where, why, who is hurt, and how to write it right."""

    check: str
    severity: Severity
    file: str
    line: int
    rule: str
    why: str
    fix: str
    hurt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding before it has its check's number: the line, and what to say of it."""

    line: Line
    why: str
    fix: str
    hurt: tuple[str, ...] = ()


Find = Callable[[Subject, Owners], Iterator[Problem]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be told without running anything.

    ``find`` explains itself in its docstring: a summary, the reason with its source, and examples
    after ``Wrong::`` and ``Right::``.
    """

    id: str
    name: str
    severity: Severity
    find: Find

    @property
    def explanation(self) -> str:
        """Return the docstring without indentation."""
        return inspect.getdoc(self.find) or ""

    @property
    def summary(self) -> str:
        """Return the first line of the docstring."""
        return self.explanation.split("\n")[0]

    def run(self, subject: Subject, owners: Owners) -> Iterator[Finding]:
        """Yield the findings of this check."""
        for problem in self.find(subject, owners):
            line = problem.line
            yield Finding(
                self.id,
                self.severity,
                line.file,
                line.number,
                line.text,
                problem.why,
                problem.fix,
                problem.hurt,
            )
