"""What the lab saw when a candidate was tried beside each partner [pure]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.verdict.outcome import Outcome, Verdict, exit_code, worst


@dataclass(frozen=True, slots=True)
class Proof:
    """One partner, and every verdict of both orders of installation."""

    partner: str
    verdicts: tuple[Verdict, ...]

    @property
    def outcome(self) -> Outcome:
        """Return the worst verdict; nothing judged is inconclusive."""
        return worst(list(self.verdicts)) or Outcome.INCONCLUSIVE

    @property
    def decisive(self) -> Verdict | None:
        """Return the verdict that decided, one with a culprit if there is one."""
        found = [v for v in self.verdicts if v.outcome is self.outcome]
        return min(found, key=lambda v: v.culprit is None, default=None)


def code(proofs: Sequence[Proof]) -> int:
    """Return the exit code: 0 all survive, 1 a conflict, 2 inconclusive."""
    return exit_code([verdict for proof in proofs for verdict in proof.verdicts])
