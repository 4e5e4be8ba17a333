"""What ``reported`` prints: the list, and one thread with what its trials showed [pure]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from lab.record import Run
from lab.report import text
from lab.report.conflicts import Report, report
from lab.report.explain import explain
from lab.report.json_file import content as answer
from lab.report.page import row, wrapped
from lab.reported.catalogue import Case
from lab.verdict.compare import compare


def listing(cases: Sequence[Case], columns: int = 0) -> Iterator[Text]:
    """Yield one block a case: number, parties, summary and the thread's state."""
    width = max((len(case.number) for case in cases), default=0)
    for case in cases:
        line = Text(f"{case.number:<{width}}  ", "bold")
        line.append(" x ".join(case.parties), "" if case.bug else "dim")
        yield line
        yield from _indented(case.summary, width, columns)
        runs = "" if case.bug else "; does not run here"
        yield from _indented(f"{case.seen}, {case.state}{runs}", width, columns, "dim")
    here = sum(case.bug is not None for case in cases)
    yield Text("")
    yield from wrapped(
        f"{here} of {len(cases)} run here; run one with  fwmark-lab reported {cases[0].number}",
        columns,
    )


def _indented(line: str, width: int, columns: int, style: str = "") -> Iterator[Text]:
    for part in wrapped(line, max(columns - width - 2, 0), style):
        yield Text(" " * (width + 2)) + part


def _rows(case: Case) -> Iterator[tuple[str, str]]:
    """Yield label and text of what a thread says."""
    yield "seen", f"{case.seen}; {case.state}"
    yield "parties", " x ".join(case.parties)
    yield "symptom", case.symptom
    yield "cause", case.cause
    if case.related:
        yield "related", ", ".join(case.related)


def thread(case: Case, columns: int = 0) -> Iterator[Text]:
    """Yield what the thread is about."""
    yield from wrapped(f"{case.thread}: {case.summary}", columns, "bold", indent=2)
    for label, told in _rows(case):
        yield from row(label, told, columns)


def bug(case: Case, runs: Sequence[Run], columns: int = 0, verbose: bool = False) -> Iterator[Text]:
    """Yield whether the conflict shows, and the verdict by which it is known."""
    judged = report(runs)
    yield Text("")
    shows = case.shows(judged.verdicts)
    label = "the conflict shows" if shows else "the conflict does not show"
    yield Text(f"before: {label} in {_combinations(judged)}", "bold red" if shows else "yellow")
    if verbose or not shows:
        yield from text.render(judged, columns, verbose)
        return
    for conflict in judged.conflicts:
        if any(case.sign and case.sign.fits(verdict) for verdict in conflict.verdicts):
            edited = bool(case.bug and (case.bug.edits or case.bug.sysctls))
            yield from explain(judged, conflict, columns, commands=not edited)
            script = f"fwmark-lab reported {case.number} --script reproduce.sh"
            yield from row("script", script, columns)
            return


def cures(case: Case, tried: Sequence[Sequence[Run]], columns: int = 0) -> Iterator[Text]:
    """Yield for each cure whether the harmed flow survives."""
    for cure, runs in zip(case.cures, tried, strict=True):
        judged = report(runs)
        cured = case.cured(judged.verdicts)
        yield Text("")
        told = "cured" if cured else "not cured"
        yield from wrapped(f"after: {told} in {_combinations(judged)}", columns, _style(cured))
        yield from row("by", cure.how, columns)
        if not cured:
            yield from text.render(judged, columns)


def _style(good: bool) -> str:
    return "bold green" if good else "bold red"


def _combinations(judged: Report) -> str:
    count = len({(v.order, v.family, v.variant) for v in judged.verdicts})
    return f"{count} combination{'s' * (count != 1)} of order, family and variant"


def row_content(case: Case) -> dict[str, object]:
    """Return what a thread says, for machines."""
    return {
        "thread": case.thread,
        "summary": case.summary,
        "seen": case.seen,
        "state": case.state,
        "parties": list(case.parties),
        "symptom": case.symptom,
        "cause": case.cause,
        "related": list(case.related),
        "missing": case.missing,
    }


def content(case: Case, tried: Sequence[Sequence[Run]]) -> dict[str, object]:
    """Return thread, bug and cures, for machines."""
    return row_content(case) | {
        "shows": case.shows(compare(tried[0])),
        "before": answer(report(tried[0])),
        "after": [
            {"how": cure.how, "cured": case.cured(compare(runs)), "answer": answer(report(runs))}
            for cure, runs in zip(case.cures, tried[1:], strict=True)
        ],
    }
