"""What can be said of one owner's flow beside other software."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lab.native.rule import Rule
from lab.points import Point
from lab.scenario import Variant
from lab.traffic.flow import Direction, Family, Field


class Outcome(Enum):
    """The verdicts, worst first among conflicts; see ``docs/architecture.md``."""

    CLOBBERED = "clobbered"
    ERASED = "erased"
    FALSE_MATCH = "false match"
    MISROUTED = "misrouted"
    DROPPED = "dropped"
    REWRITTEN = "rewritten"
    INCONCLUSIVE = "inconclusive"
    SURVIVES = "survives"

    @property
    def is_conflict(self) -> bool:
        """Tell whether it shows that the software does not coexist."""
        return self not in (Outcome.SURVIVES, Outcome.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Culprit:
    """The rule that did it, where it ran, and the whole word before and after.

    For a false match ``rule`` is the rule that matched, ``writer`` says who wrote the bits that it
    tested, and ``tested`` is their mask.
    """

    rule: Rule
    node: str
    hook: str
    priority: int
    before: int
    after: int
    writer: str = ""
    tested: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement with its evidence; ``bits`` is the mask that was compared.

    ``alone`` and ``together`` are the masked words at ``point``, None where nothing was read.
    """

    outcome: Outcome
    owner: str
    order: tuple[str, ...]
    family: Family
    variant: Variant
    flow: str
    reason: str
    field: Field = "mark"
    direction: Direction = "request"
    point: Point | None = None
    bits: int = 0
    alone: int | None = None
    together: int | None = None
    culprit: Culprit | None = None
    fate_alone: str = ""
    fate_together: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def beside(self) -> tuple[str, ...]:
        """Name the other software."""
        return tuple(title for title in self.order if title != self.owner)

    def __str__(self) -> str:
        return f"{self.outcome.name} {self.owner} {self.flow}: {self.reason}"


def worst(verdicts: list[Verdict]) -> Outcome | None:
    """Return the worst outcome: a conflict before inconclusive before survives."""
    ranking = list(Outcome)
    return min((v.outcome for v in verdicts), key=ranking.index, default=None)


def exit_code(verdicts: list[Verdict]) -> int:
    """Return the command line's exit code: 0 all survive, 1 a conflict, 2 inconclusive or empty."""
    if any(v.outcome.is_conflict for v in verdicts):
        return 1
    if not verdicts or any(v.outcome is Outcome.INCONCLUSIVE for v in verdicts):
        return 2
    return 0
