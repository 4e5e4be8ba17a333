"""What is known to happen where software meets, each with its reason: ``expected/*.toml`` [pure].

An explanation says which verdicts it explains and in which cases. It must be true of every case
that it names: one that no verdict bears out any more is an error, as is a verdict that nobody
predicted or explained.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.errors import EntryError, unknown
from lab.registry.lines import key_lines
from lab.registry.reader import Table
from lab.registry.software import Software
from lab.scenario import VARIANTS, Experiment, Variant
from lab.traffic.flow import FAMILIES, Family
from lab.verdict.outcome import Outcome, Verdict

Place = Literal["any", "first", "last"]
_PLACES: tuple[Place, ...] = ("any", "first", "last")
_OUTCOMES = {o.value: o for o in Outcome if o is not Outcome.SURVIVES}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why flows of ``owners`` come to these outcomes beside any of ``beside``, in one sentence.

    ``rule`` is part of the culprit as written or as listed; where no rule is to blame, ``because``
    is part of the verdict's reason. ``installed`` is the owner's place in the order of
    installation. ``among`` names what else must be there, for stacks. Without ``always`` it need
    not be borne out: what depends on timing.
    """

    owners: tuple[str, ...]
    beside: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    reason: str
    rule: str = ""
    because: str = ""
    flows: tuple[str, ...] = ()
    installed: Place = "any"
    families: tuple[Family, ...] = FAMILIES
    variants: tuple[Variant, ...] = VARIANTS
    among: tuple[str, ...] = ()
    always: bool = True
    upstream: tuple[str, ...] = ()
    file: str = ""

    def explains(self, verdict: Verdict) -> bool:
        """Tell whether a verdict is of the kind that is explained here."""
        others = {_name(title) for title in verdict.beside}
        return (
            _name(verdict.owner) in self.owners
            and bool(others & set(self.beside))
            and others >= set(self.among)
            and verdict.outcome in self.outcomes
            and (not self.flows or verdict.flow in self.flows)
            and self._in_case(verdict.order, verdict.family, verdict.variant, verdict.owner)
            and self._named(verdict)
        )

    def due(self, experiment: Experiment) -> Iterator[tuple[str, str]]:
        """Yield the owner and flow (empty: any flow) of every verdict that must be there."""
        names = {s.name for s in experiment.software}
        if not self.always:
            return
        if not names >= set(self.among) or (len(names) > 2) != bool(self.among):
            return
        for owner in experiment.software:
            others = names - {owner.name}
            case = (experiment.order, experiment.family, experiment.variant, owner.title)
            if owner.name in self.owners and others & set(self.beside) and self._in_case(*case):
                yield from ((owner.title, flow) for flow in _due_flows(self, owner, experiment))

    def _named(self, verdict: Verdict) -> bool:
        if not self.rule:
            return verdict.culprit is None and self.because in verdict.reason
        rule = verdict.culprit.rule if verdict.culprit else None
        return rule is not None and (self.rule in rule.written or self.rule in rule.listed)

    def _in_case(self, order: Sequence[str], family: str, variant: str, owner: str) -> bool:
        if family not in self.families or variant not in self.variants:
            return False
        if self.installed == "any":
            return True
        names = [_name(title) for title in order]
        others = [names.index(name) for name in names if name in self.beside]
        mine = order.index(owner)
        return mine < min(others) if self.installed == "first" else mine > max(others)

    def __str__(self) -> str:
        whose = ", ".join(self.owners)
        what = " or ".join(o.value for o in self.outcomes)
        return f"{self.file}: {whose} {what} beside {', '.join(self.beside)}: {self.reason}"


def _due_flows(one: Explanation, owner: Software, experiment: Experiment) -> tuple[str, ...]:
    if not one.flows:
        return ("",)
    run = {f.name for f in owner.flows if experiment.family in f.families}
    return tuple(flow for flow in one.flows if flow in run)


def _name(title: str) -> str:
    return title.partition("@")[0]


def overdue(
    explanations: Iterable[Explanation], experiment: Experiment, verdicts: Collection[Verdict]
) -> list[str]:
    """List the explanations that the verdicts of an experiment should bear out and do not."""
    return [
        f"{one} (no such verdict on {owner} {flow})".replace(" )", ")")
        for one in explanations
        for owner, flow in one.due(experiment)
        if not any(one.explains(v) and v.owner == owner and flow in ("", v.flow) for v in verdicts)
    ]


def load(folder: Path, known: Iterable[Software]) -> tuple[Explanation, ...]:
    """Read every file of a folder; raises EntryError on the first one that is not right."""
    entries = tuple(known)
    return tuple(
        explanation
        for path in sorted(folder.glob("*.toml"))
        for explanation in _read(path, entries)
    )


def _read(path: Path, entries: tuple[Software, ...]) -> Iterator[Explanation]:
    source = path.read_text(encoding="utf-8")
    try:
        table = Table(tomllib.loads(source), path.name, lines=key_lines(source))
    except tomllib.TOMLDecodeError as problem:
        raise EntryError(f"{path}: not valid TOML: {problem}") from None
    for one in table.tables("conflict"):
        yield _explanation(one, entries)
    table.done()


def _explanation(table: Table, entries: tuple[Software, ...]) -> Explanation:
    explanation = Explanation(
        owners=_some(table, "owner"),
        beside=_some(table, "beside"),
        outcomes=tuple(_outcome(table, name) for name in _some(table, "outcome")),
        reason=table.text("reason"),
        rule=table.text("rule", ""),
        because=table.text("because", ""),
        flows=table.texts("flows"),
        installed=table.choice("installed", _PLACES, "any"),
        families=_of(table, "family", FAMILIES),
        variants=_of(table, "iptables", VARIANTS),
        among=table.texts("among"),
        always=table.flag("always", True),
        upstream=table.texts("upstream"),
        file=table.file,
    )
    table.done()
    _check(table, explanation, entries)
    return explanation


def _some(table: Table, key: str) -> tuple[str, ...]:
    found = table.texts(key)
    if not found:
        raise table.error(key, "missing or empty; expected a list of names")
    return found


def _outcome(table: Table, name: str) -> Outcome:
    if name not in _OUTCOMES:
        raise table.error("outcome", f"{name!r} is not one of {', '.join(_OUTCOMES)}")
    return _OUTCOMES[name]


def _of(table: Table, key: str, known: tuple[str, ...]) -> tuple:  # type: ignore[type-arg]
    found = table.texts(key, known)
    if not found or set(found) - set(known):
        raise table.error(key, f"expected some of {', '.join(known)}, not {list(found)!r}")
    return tuple(one for one in known if one in found)


def _check(table: Table, one: Explanation, entries: tuple[Software, ...]) -> None:
    if bool(one.rule) == bool(one.because):
        raise table.error("rule", "expected either rule (the culprit) or because (where none is)")
    if not one.reason.strip() or one.reason.strip().endswith(":"):
        raise table.error("reason", "expected one sentence")
    names = {entry.name for entry in entries}
    for name in (*one.owners, *one.beside, *one.among):
        if name not in names:
            raise unknown("software", name, names)
    flows = {f.name for entry in entries if entry.name in one.owners for f in entry.flows}
    for flow in one.flows:
        if flow not in flows:
            raise unknown("flow", flow, flows)
