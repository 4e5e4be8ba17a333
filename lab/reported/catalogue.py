"""Conflicts that were reported upstream: what to run, what shows them, what cures them [pure].

One TOML file a thread. A case runs entries of the registry, or small ones of ``entries/`` where
the registry has none, and says which verdict shows the bug; each cure is what the maintainers did
or advised, as another release, other sysctls, another order or an edit of a rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lab.errors import EntryError, unknown
from lab.marks import Mark
from lab.registry.find import find as find_entry
from lab.registry.find import known
from lab.registry.lines import key_lines
from lab.registry.loader import read as read_entry
from lab.registry.reader import Table
from lab.registry.software import Software
from lab.scenario import VARIANTS, Orders, Scenario, Variant
from lab.traffic.flow import FAMILIES, Family, Flow
from lab.verdict.outcome import Outcome, Verdict

FOLDER = Path(__file__).parent
_ORDERS: tuple[Orders, ...] = ("all", "given", "reverse")


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the rules' text: ``find`` must stand there, and becomes ``put`` everywhere.

    ``relies`` is the mark that the software then relies on, where that changes as well.
    """

    software: str
    find: str
    put: str
    relies: Mark | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What is installed, in which orders; ``how`` says of a cure what was done."""

    how: str
    run: tuple[str, ...]
    orders: Orders
    sysctls: tuple[tuple[str, str], ...] = ()
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """The verdict by which the bug is known; ``rule`` is a part of its culprit's text.

    As written or as listed; without ``rule`` nobody is blamed.
    """

    owner: str
    flow: str
    outcome: Outcome
    blamed: str = ""
    rule: str = ""

    def fits(self, verdict: Verdict) -> bool:
        """Tell whether a verdict is this one, with this culprit where one is named."""
        if (verdict.outcome, _name(verdict.owner), verdict.flow) != (
            self.outcome,
            self.owner,
            self.flow,
        ):
            return False
        if not self.rule:
            return verdict.culprit is None
        culprit = verdict.culprit
        return (
            culprit is not None
            and _name(culprit.rule.software) == self.blamed
            and any(self.rule in text for text in (culprit.rule.written, culprit.rule.listed))
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One upstream thread, in words of our own; ``seen`` is when it was read or written.

    With ``missing`` it does not run here, for that reason.
    """

    thread: str
    summary: str
    seen: str
    state: str
    parties: tuple[str, ...]
    symptom: str
    cause: str
    related: tuple[str, ...] = ()
    missing: str = ""
    families: tuple[Family, ...] = FAMILIES
    variants: tuple[Variant, ...] = VARIANTS
    sign: Sign | None = None
    bug: Trial | None = None
    cures: tuple[Trial, ...] = ()

    @property
    def number(self) -> str:
        """Name the thread by repository and number: ``tailscale#591``."""
        return self.thread.rpartition("/")[2]

    def scenario(self, trial: Trial) -> Scenario:
        """Return the question that a trial asks, about the flow that is harmed."""
        software = tuple(_edited(_entry(name), trial.edits) for name in trial.run)
        flow = "" if self.sign is None else f"{self.sign.owner}/{self.sign.flow}"
        return Scenario(
            software,
            families=self.families,
            variants=self.variants,
            orders=trial.orders,
            flows=(flow,),
            sysctls=trial.sysctls,
        )

    def shows(self, verdicts: Iterable[Verdict]) -> bool:
        """Tell whether every combination that was run shows the bug."""
        combinations, shown = set(), set()
        for verdict in verdicts:
            combination = verdict.order, verdict.family, verdict.variant
            combinations.add(combination)
            if self.sign is not None and self.sign.fits(verdict):
                shown.add(combination)
        return bool(combinations) and shown == combinations

    def cured(self, verdicts: Iterable[Verdict]) -> bool:
        """Tell whether the harmed flow survives wherever it was run."""
        return {verdict.outcome for verdict in verdicts} == {Outcome.SURVIVES}


def _name(title: str) -> str:
    return title.partition("@")[0]


def _entry(name: str) -> Software:
    own = FOLDER / "entries" / f"{name}.toml"
    return read_entry(own) if own.is_file() else find_entry(name, known(name))


def _edited(software: Software, edits: Iterable[Edit]) -> Software:
    for edit in edits:
        if edit.software == software.name:
            software = _edit(software, edit)
    return software


def _edit(software: Software, edit: Edit) -> Software:
    texts = [ruleset.text for ruleset in software.rulesets]
    if not any(edit.find in text for text in texts):
        raise EntryError(f"{software.file}: no rule contains {edit.find!r}")
    rulesets = tuple(
        replace(ruleset, text=ruleset.text.replace(edit.find, edit.put))
        for ruleset in software.rulesets
    )
    return replace(software, rulesets=rulesets, flows=tuple(_relying(software, edit.relies)))


def _relying(software: Software, mark: Mark | None) -> Iterator[Flow]:
    for flow in software.flows:
        relied = tuple(replace(e, mark=mark or e.mark) for e in flow.expectations)
        yield replace(flow, expectations=relied)


def load(folder: Path = FOLDER) -> tuple[Case, ...]:
    """Read every case, by repository and number. Raises EntryError with file and line."""
    return tuple(sorted((read(path) for path in folder.glob("*.toml")), key=_order))


def _order(case: Case) -> tuple[str, int]:
    repository, _, number = case.number.partition("#")
    return repository, int(number)


def find(number: str, cases: Iterable[Case]) -> Case:
    """Return the case of a thread (``tailscale#591``, or with its owner), or one related to it."""
    everything = list(cases)
    own = [case for case in everything if _is(case.thread, number)]
    near = [case for case in everything if any(_is(name, number) for name in case.related)]
    if not own + near:
        raise unknown("report", number, [case.number for case in everything])
    return (own + near)[0]


def _is(thread: str, number: str) -> bool:
    return number in (thread, thread.rpartition("/")[2])


def read(path: Path) -> Case:
    """Read one case; every problem is an EntryError that names the file and the line."""
    source = path.read_text(encoding="utf-8")
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as problem:
        raise EntryError(f"{path}: not valid TOML: {problem}") from None
    return _case(Table(values, str(path), lines=key_lines(source)))


def _case(table: Table) -> Case:
    bug = table.table("bug")
    case = Case(
        thread=table.text("thread"),
        summary=table.text("summary"),
        seen=table.text("seen"),
        state=table.text("state"),
        parties=table.texts("parties"),
        symptom=table.text("symptom"),
        cause=table.text("cause"),
        related=table.texts("related"),
        missing=table.text("missing", ""),
        families=_some(table, "families", FAMILIES),
        variants=_some(table, "iptables", VARIANTS),
        sign=_sign(bug) if bug else None,
        bug=_trial(bug, ()) if bug else None,
    )
    run = case.bug.run if case.bug else ()
    case = replace(case, cures=tuple(_trial(t, run) for t in table.tables("cure")))
    table.done()
    if bool(case.missing) == bool(case.cures):
        raise table.error("missing", "expected either a [bug] with a [[cure]], or the reason")
    return case


def _some(table: Table, key: str, known_: tuple[Family, ...] | tuple[Variant, ...]) -> tuple:  # type: ignore[type-arg]
    wanted = table.texts(key, known_)
    for name in wanted:
        if name not in known_:
            raise table.error(key, f"{name!r} is not one of {', '.join(known_)}")
    return tuple(name for name in known_ if name in wanted)


def _sign(table: Table) -> Sign:
    names = {outcome.value: outcome for outcome in Outcome if outcome.is_conflict}
    return Sign(
        owner=table.text("harmed"),
        flow=table.text("flow"),
        outcome=names[table.choice("verdict", tuple(names))],
        blamed=table.text("blamed", ""),
        rule=table.text("rule", ""),
    )


def _trial(table: Table, run: tuple[str, ...]) -> Trial:
    sysctls = table.table("sysctls")
    trial = Trial(
        how=table.text("how", "" if not run else None),
        run=table.texts("run", run),
        orders=table.choice("order", _ORDERS, "all"),
        sysctls=tuple((key, sysctls.text(key)) for key in sysctls.rest()) if sysctls else (),
        edits=tuple(_edits(table.tables("edit"))),
    )
    table.done()
    if len(trial.run) < 2:
        raise table.error("run", "a conflict takes at least two entries")
    return trial


def _edits(tables: Iterable[Table]) -> Iterator[Edit]:
    for table in tables:
        edit = Edit(
            table.text("software"),
            table.text("find"),
            table.text("put"),
            table.parsed("relies", Mark.parse) if table.has("relies") else None,
        )
        table.done()
        yield edit
