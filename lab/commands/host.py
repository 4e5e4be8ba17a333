"""A captured host among what is to be checked: divided, shown, judged, and asked for room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab.commands import given, options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.capture.owners import Divided
    from lab.capture.parse import Given
    from lab.record import Run
    from lab.registry.software import Software
    from lab.report.conflicts import Report
    from lab.scenario import Experiment, Orders, Scenario, Variant
    from lab.traffic.flow import Flow
    from lab.verdict.outcome import Verdict

HELP = """The archive of a captured host (fwmark-lab capture) stands for everything on it: it is
divided among the programs that the rules are of, each is judged against the rest, and what is
named beside it is asked for as if it were installed there last."""


@dataclass(frozen=True, slots=True)
class Question:
    """A divided host, and the candidates that may be installed on it."""

    host: Divided
    candidates: tuple[Software, ...] = ()
    given: tuple[Given, ...] = ()

    @property
    def spare(self) -> dict[str, tuple[Flow, ...]]:
        """Return, by title, the flows for entries whose own do not hold on the host."""
        return {
            owner.software.title: owner.spare
            for owner in self.host.owners
            if owner.party.entry is not None
        }

    @property
    def every(self) -> tuple[Software, ...]:
        """List the software with all flows that may be asked for."""
        return tuple(
            replace(one, flows=(*one.flows, *self.spare.get(one.title, ())))
            for one in self.software
        )

    @property
    def software(self) -> tuple[Software, ...]:
        """List the owners in the order of the capture, then the candidates."""
        return (*self.host.software, *self.candidates)


def question(
    names: Sequence[str], maps: Sequence[str], owns: Sequence[str], places: Sequence[str] = ()
) -> Question | None:
    """Return the question that names with a captured host among them ask, else None.

    Raises LabError for what cannot be read, and for a candidate that is on the host already.
    """
    found = archives(names)
    if not found:
        return None
    if len(found) > 1:
        raise UsageError(f"{found[0]} and {found[1]} are both captured hosts; expected one")
    host = _noted(divide(found[0], maps, owns), given.repeats(maps, owns))
    others = [name for name in names if name != found[0]]
    candidates, read = given.parties(others, maps if given.native(others) else (), ())
    here = {software.name: software for software in host.software}
    for one in candidates:
        if one.name in here:
            raise UsageError(
                f"{one.name} is on {host.source} already, as {here[one.name].title}; check the "
                "archive alone to see how it fares, or rename the file of what is another program"
            )
    return Question(host, options.placed(candidates, places), read)


def _noted(host: Divided, repeated: Sequence[tuple[str, str]]) -> Divided:
    """Note on every owner the options by which the host was understood."""
    owners = (replace(o, software=options.asked(o.software, *repeated)) for o in host.owners)
    return replace(host, owners=tuple(owners))


def archives(names: Sequence[str]) -> list[str]:
    """List the arguments that are captured hosts."""
    from lab.capture.archive import is_archive

    return [name for name in names if ("/" in name or "." in name) and is_archive(Path(name))]


def divide(name: str, maps: Sequence[str], owns: Sequence[str]) -> Divided:
    """Read an archive and divide it among its owners. Raises LabError with file and line."""
    from lab.capture import mapping
    from lab.capture.archive import read
    from lab.capture.known import known
    from lab.capture.owners import divided, gaps
    from lab.registry.loader import load

    captured = read(Path(name))
    found = divided(name, captured.files, known(load()), mapping.parsed(maps), _masks(owns))
    if not found.owners:
        raise UsageError(f"{name}: no rules at all; nothing can be judged")
    found = gaps(found, captured.manifest.gaps)
    unknown = [owner.party.name for owner in found.owners if owner.party.entry is None]
    for owner in _masks(owns):
        if owner not in unknown:
            raise UsageError(
                f"--owns {owner!r}: whose bits? expected one of {', '.join(unknown) or 'none'}, "
                "as --owns NAME=VALUE/MASK"
            )
    return found


def _masks(owns: Sequence[str]) -> dict[str, str]:
    pairs = (option.rpartition("=") for option in owns)
    return {name: mask for name, _, mask in pairs}


def show(host: Divided, verbose: bool) -> None:
    """Say on standard error how the host is understood."""
    from lab.capture import tell

    click.echo("\n".join(tell.lines(host, verbose)), err=True)


def scenario(
    question: Question, order: Orders, family: str, variant: str, flows: Sequence[str]
) -> Scenario:
    """Return the scenario: one order, the host's sysctls, what the archive has. Raises LabError."""
    from lab.scenario import Scenario

    host = question.host
    if order == "reverse":
        raise UsageError("--order reverse: a captured host has one order, the one it was seen in")
    if variant not in ("both", host.variant):
        raise UsageError(
            f"--iptables {variant}: the rules of {host.source} are of iptables-{host.variant}; "
            "leave it out"
        )
    variants: tuple[Variant, ...] = (host.variant,)
    wanted = tuple(one for one in options.families(family) if one in host.families)
    if not wanted:
        raise UsageError(f"--family {family}: {host.source} has rules for the other one only")
    return Scenario(
        question.software,
        families=wanted,
        variants=variants,
        orders="given",
        flows=tuple(flows),
        sysctls=host.sysctls,
    )


def is_whole(question: Question, run: Run) -> bool:
    """Tell whether a run is of everything together, or of one owner alone."""
    return run.experiment.alone or len(run.experiment.software) == len(question.software)


def before(question: Question, wanted: Scenario) -> Iterator[Experiment]:
    """Yield the host without the candidates, watched as it is with them."""
    from lab.registry.places import arranged

    owners = len(question.host.owners)
    if question.candidates and owners > 1:
        for one in wanted.experiments():
            if not one.alone:
                yield replace(one, software=arranged(wanted.software[:owners]))


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdicts on everything together, and those of them that the candidates bring."""

    verdicts: tuple[Verdict, ...]
    new: tuple[Verdict, ...]


def answer(question: Question, runs: Iterable[Run]) -> Answer:
    """Judge the runs; what is as it was on the host without the candidates is not new."""
    from lab.verdict.compare import compare
    from lab.verdict.outcome import Outcome

    everybody = len(question.software)
    verdicts = compare(runs)
    full = tuple(v for v in verdicts if len(v.order) == everybody)
    known = {_signature(v) for v in verdicts if len(v.order) != everybody}
    survives = Outcome.SURVIVES
    new = (v for v in full if v.outcome is survives or _signature(v) not in known)
    return Answer(full, tuple(new))


def _signature(verdict: Verdict) -> tuple[object, ...]:
    culprit = verdict.culprit
    blamed = None if culprit is None else (culprit.rule.file, culprit.rule.line)
    where = verdict.point, verdict.direction, verdict.field
    kind = verdict.family, verdict.variant, verdict.outcome
    return verdict.owner, verdict.flow, *kind, *where, blamed, verdict.fate_together


def sentence(question: Question, report: Report, found: Answer) -> str:
    """Answer the question whether the candidates may be installed."""
    names = report.names
    who = _listed([names.full(s.title) for s in question.candidates])
    may = "may be installed here"
    bad = [v for v in found.new if v.outcome.is_conflict]
    flows = {(v.owner, v.flow) for v in found.verdicts}
    old = {(v.owner, v.flow) for v in found.verdicts if v.outcome.is_conflict} - {
        (v.owner, v.flow) for v in bad
    }
    already = f" ({_flows(len(old))} of what is here in conflict without it)" if old else ""
    if bad:
        return f"{who}: not without harm: {'; '.join(_harms(question, report, bad))}{already}"
    undecided = {(v.owner, v.flow) for v in found.new if v.outcome.value == "inconclusive"}
    if undecided:
        told = f"{len(undecided)} of {_flows(len(flows))} could not be judged"
        return f"{who}: no harm seen, but {told}{already}"
    if not found.verdicts:
        return f"{who}: nothing was judged"
    return (
        f"{who} {may}: {_flows(len(flows))} of it and of what is here fare as without it{already}"
    )


def _harms(question: Question, report: Report, bad: Sequence[Verdict]) -> Iterator[str]:
    """Say whose flows are harmed, and by whose rules."""
    names = report.names
    harms: dict[tuple[str, str], set[str]] = {}
    for verdict in bad:
        by = "" if verdict.culprit is None else verdict.culprit.rule.software
        harms.setdefault((verdict.owner, by), set()).add(verdict.flow)
    for (owner, by), flows in harms.items():
        asked = {s.title for s in question.candidates}
        shown = ", ".join(sorted(flows)[:4]) + (", …" if len(flows) > 4 else "")
        whom = f" by {names.short(by)}" if by and by != owner else ""
        what = f"harmed{whom}" if {owner, by} & asked else "end otherwise than without it"
        yield f"{_flows(len(flows))} of {names.short(owner)} ({shown}) {what}"


def _flows(number: int) -> str:
    return f"{number} flow{'s' * (number != 1)}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def told(question: Question, report: Report, found: Answer) -> list[str]:
    """Return what there is to say after the report: the answer, and what it is without."""
    answers = [sentence(question, report, found)] if question.candidates else []
    if question.host.left_out:
        count = len(question.host.left_out)
        lines = f"{count} line{'s' * (count != 1)} of {question.host.source}"
        answers.append(f"{lines} could not be installed here: what is said is without them")
    return answers


def exit_code(question: Question, found: Answer) -> int:
    """Return the exit code: of a candidate, what it brings counts."""
    from lab.verdict import outcome

    code = outcome.exit_code(list(found.new if question.candidates else found.verdicts))
    return code or 2 * bool(question.host.left_out)


def content(question: Question) -> dict[str, Any]:
    """Return how the host was divided, as JSON values."""
    from lab.capture import tell

    return tell.content(question.host)
