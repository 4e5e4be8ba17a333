"""Runs and what they mean, as a test claims something of them [pure]."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lab.record import Run
from lab.verdict.outcome import Outcome, Verdict


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What was run and what it means; empty verdicts never count as surviving."""

    runs: tuple[Run, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def conflicts(self) -> tuple[Verdict, ...]:
        """List the verdicts that show that the software does not coexist."""
        return tuple(v for v in self.verdicts if v.outcome.is_conflict)

    @property
    def survives(self) -> bool:
        """Tell whether there are verdicts and all of them are SURVIVES."""
        return self.outcomes() == {Outcome.SURVIVES}

    def of(self, owner: str = "", flow: str = "") -> tuple[Verdict, ...]:
        """List the verdicts on an owner's flow; an owner is a name, or the start of a title."""
        return tuple(v for v in self.verdicts if _is(v.owner, owner) and flow in ("", v.flow))

    def outcomes(self, owner: str = "", flow: str = "") -> set[Outcome]:
        """Collect the outcomes of an owner's flow."""
        return {v.outcome for v in self.of(owner, flow)}

    def __repr__(self) -> str:
        counted = Counter(v.outcome.value for v in self.verdicts)
        return f"<{', '.join(f'{n} {name}' for name, n in counted.items()) or 'no verdict'}>"


def _is(title: str, name: str) -> bool:
    return not name or title == name or title.startswith((f"{name}@", f"{name}:"))
