"""What ``bits`` prints: for a person, and as JSON values [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.text import Text

from lab.bits.candidates import Candidate, everywhere
from lab.bits.meets import KINDS, Meeting
from lab.bits.proof import Proof
from lab.codec import encode
from lab.marks import WORD, bit_ranges
from lab.report.names import listed
from lab.report.page import row, wrapped
from lab.verdict.outcome import Outcome

FORMAT = 1
_SHOWN = 8


def render(
    ranked: Sequence[Candidate], names: Sequence[str], columns: int = 0, verbose: bool = False
) -> Iterator[Text]:
    """Yield what every bit meets, the best candidates with what each meets, and one sentence."""
    common = everywhere(ranked)
    if common:
        yield Text("whichever bit you choose", "bold underline")
        yield from _meetings(common, columns, verbose)
        yield Text("")
    for candidate in ranked if verbose else ranked[:_SHOWN]:
        yield Text(f"{candidate}", "bold green" if candidate.free else "bold yellow")
        own = [meeting for meeting in candidate.meetings if meeting.bits != WORD]
        yield from _meetings(own, columns, verbose)
        if past := _others(candidate.releases):
            yield from row("releases", past, columns, "dim")
        far = _others(candidate.elsewhere) or "nobody in the registry"
        yield from row("elsewhere", far, columns, "dim")
    yield Text("")
    yield from wrapped(_summary(ranked, names), columns, "bold")


def _meetings(found: Iterable[Meeting], columns: int, verbose: bool) -> Iterator[Text]:
    for kind, group in groupby(found, key=lambda meeting: meeting.kind):
        once = {(m.who, m.what) if verbose else m.who: m for m in reversed(list(group))}
        told = sorted(f"{m.who} {m.what}" for m in once.values())
        yield from row(kind, "; ".join(told), columns)
        if verbose:
            for rule in sorted({m.rule for m in once.values() if m.rule}):
                yield from row("", rule, columns, "dim")


def _others(met: Sequence[Meeting]) -> str:
    parts = []
    for kind in KINDS[:3]:
        if who := sorted({m.who for m in met if m.kind == kind}):
            parts.append(f"{kind}: {', '.join(who)}")
    return "; ".join(parts)


def _summary(ranked: Sequence[Candidate], names: Sequence[str]) -> str:
    beside = f"beside {listed(list(names))}"
    free = 0
    for candidate in ranked:
        free |= candidate.mask if candidate.free else 0
    if not free:
        return f"{beside} no bit is free; {ranked[0]} meets the fewest"
    return f"{beside} the bits {bit_ranges(free)} are free; best: {ranked[0]}"


def proof_lines(candidate: Candidate, proofs: Sequence[Proof], columns: int) -> Iterator[Text]:
    """Yield one line per partner: survives, or the conflict with its culprit."""
    yield Text("")
    yield Text(f"{candidate} tried in the lab, in both orders", "bold underline")
    for proof in proofs:
        yield from _proof(proof, columns)


def _proof(proof: Proof, columns: int) -> Iterator[Text]:
    good = proof.outcome is Outcome.SURVIVES
    style = "green" if good else "red" if proof.outcome.is_conflict else "yellow"
    yield from row(proof.partner[:12], proof.outcome.value, columns, style)
    decisive = proof.decisive
    if good or decisive is None:
        return
    yield from row("", f"{decisive.owner} {decisive.flow}: {decisive.reason}", columns)
    if decisive.culprit:
        yield from row("", f"by {decisive.culprit.rule}", columns, "cyan")


def content(
    ranked: Sequence[Candidate], names: Sequence[str], proofs: Sequence[Proof] | None
) -> dict[str, Any]:
    """Return everything as JSON values; masks are numbers."""
    values: dict[str, Any] = {
        "format": FORMAT,
        "beside": list(names),
        "candidates": [
            {"mask": c.mask, "free": c.free, "meetings": [encode(m) for m in c.meetings]}
            for c in ranked
        ],
    }
    if proofs is not None:
        values["proof"] = [_proof_values(proof) for proof in proofs]
    return values


def _proof_values(proof: Proof) -> dict[str, Any]:
    decisive = proof.decisive
    return {
        "partner": proof.partner,
        "outcome": proof.outcome.value,
        "judged": len(proof.verdicts),
        "decisive": None if decisive is None else encode(decisive),
    }
