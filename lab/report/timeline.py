"""What ``trace`` prints: a packet's way through every namespace, rule by rule [pure]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from lab.marks import word
from lab.native.marktest import tests
from lab.points import priority_text
from lab.record import Dropped, Event, FlowRun, Hit, Reading, Routed, Run, Timeline, Write
from lab.report import names as naming
from lab.report.explain import chain
from lab.report.names import Names
from lab.report.page import bar, row, wrapped

_NODE, _POINT, _WORD = 7, 38, 11
_RULE = " " * (_NODE + 2)


@dataclass(frozen=True, slots=True)
class View:
    """How to show a run: the width to wrap at, and whether to show what changed nothing."""

    run: Run
    columns: int = 0
    verbose: bool = False

    @property
    def names(self) -> Names:
        """Name the software."""
        return Names(self.run.experiment.beside)


def render(view: View, flow: FlowRun, lines: Sequence[Timeline]) -> Iterator[Text]:
    """Yield the flow, its fate and the timelines of the packets asked for."""
    yield from _head(view, flow)
    for line in lines:
        yield Text("")
        count = sum(other.direction == line.direction for other in flow.timelines)
        yield bar(f"{line.direction} {line.ordinal + 1} of {count}", view.columns, "bold")
        yield Text(
            f"{'node':<{_NODE}}  {'point':<{_POINT}}  {'mark':<{_WORD}} {'ctmark':<{_WORD}}", "dim"
        )
        yield from packet(view, line)


def _head(view: View, flow: FlowRun) -> Iterator[Text]:
    experiment = view.run.experiment
    order = " then ".join(view.names.full(title) for title in experiment.order)
    yield from wrapped(
        f"{order}; {experiment.family}, iptables-{experiment.variant}",
        view.columns,
        "bold",
        indent=2,
    )
    summary = next(
        (
            f.summary
            for s in experiment.software
            for f in s.flows
            if (s.title, f.name) == (flow.owner, flow.name)
        ),
        "",
    )
    yield from row("flow", view.names.flow(flow.owner, flow.name), view.columns)
    if summary:
        yield from row("", summary, view.columns)
    yield from row("fate", view.names.everywhere(str(flow.fate)), view.columns)
    for problem in view.run.lost:
        yield from row("lost", problem, view.columns, "yellow")


def packet(view: View, line: Timeline) -> Iterator[Text]:
    """Yield one packet's events in order; readings that say the same share a line."""
    last: Reading | None = None
    for same, group in groupby(_visible(view, line.events), key=_sameness):
        events = list(group)
        first = events[0]
        if same is not None and isinstance(first, Reading):
            yield from _readings(view, [e for e in events if isinstance(e, Reading)], last)
            last = first
        else:
            for event in events:
                yield from _event(view, event)
    yield from _ending(line)


def _sameness(event: Event) -> object:
    if not isinstance(event, Reading):
        return None
    return event.point.node, event.mark, event.ctmark, event.outer, *_addresses(event)


def _visible(view: View, events: Sequence[Event]) -> Iterator[Event]:
    """Leave out, if not verbose, rules that neither touch nor test a mark nor end the way."""
    written = {(w.rule, w.hook, w.node) for w in events if isinstance(w, Write)}
    for event in events:
        if isinstance(event, Hit):
            rule = view.run.rules[event.rule]
            if (event.rule, event.hook, event.node) in written and event.before != event.after:
                continue  # the write says it
            plain = event.verdict in ("jump", "goto", "continue", "return", "")
            if plain and not view.verbose and not any(tests(rule.written)):
                continue
        yield event


def _readings(view: View, group: list[Reading], last: Reading | None) -> Iterator[Text]:
    if last is None or _addresses(last) != _addresses(group[0]):
        carrier = "inside the tunnel's packet " if group[0].outer else ""
        yield from _note(view, carrier + " > ".join(_addresses(group[0])), "")
    if view.verbose:
        yield from (_reading(reading, str_point(reading)) for reading in group)
        return
    for _, part in groupby(group, key=lambda r: r.point.hook):
        points = list(part)
        span = str_point(points[0])
        if len(points) > 1:
            span += f" .. {priority_text(points[-1].point.priority)}"
        yield _reading(points[0], span)


def str_point(reading: Reading) -> str:
    """Return the point without its node."""
    return str(reading.point).partition(" ")[2]


def _reading(reading: Reading, span: str) -> Text:
    line = Text(f"{reading.point.node:<{_NODE}}  {span:<{_POINT}}  ")
    line.append(f"{word(reading.mark):<{_WORD}}", "bold yellow" if reading.mark else "dim")
    line.append(f" {word(reading.ctmark):<{_WORD}}", "bold yellow" if reading.ctmark else "dim")
    return line


def _addresses(reading: Reading) -> tuple[str, str]:
    return reading.source, reading.destination


def _event(view: View, event: Event) -> Iterator[Text]:
    if isinstance(event, Write):
        yield from _write(view, event)
    elif isinstance(event, Hit):
        yield from _rule(view, event.rule, event.priority, _verdict(event), "", event.hook)
    elif isinstance(event, Routed):
        yield from _routed(view, event)
    elif isinstance(event, Dropped):
        yield from _note(view, f"{event.node}: ended in {event.hook}, {event.reason}", "bold red")
        if event.rule is not None:
            yield from _rule(view, event.rule, event.priority, "", "red", event.hook)


def _verdict(hit: Hit) -> str:
    verdict = {"": "matched", "continue": "matched"}.get(hit.verdict, hit.verdict)
    changed = "" if hit.before == hit.after else f", {word(hit.before)} -> {word(hit.after)}"
    return f"{verdict}{changed}"


def _write(view: View, write: Write) -> Iterator[Text]:
    what = f"{write.field} {word(write.before)} -> {word(write.after)}"
    if write.rule is None:
        yield from _note(
            view,
            f"{what}, by no rule that can be named ({write.node} {write.hook} "
            f"{priority_text(write.priority)})",
            "bold",
        )
    else:
        yield from _rule(view, write.rule, write.priority, what, "bold", write.hook)


def _rule(
    view: View, index: int, priority: int, what: str, style: str, hook: str
) -> Iterator[Text]:
    rule = view.run.rules[index]
    said = f"{what} by " if what else "by "
    head = f"{said}{view.names.short(rule.software)}, {hook}, {chain(rule, priority)}"
    yield from _note(view, head, style)
    yield from _note(view, f"  {rule.written}", "cyan" if style else "dim")
    if view.verbose:
        where = "  ".join(filter(None, (naming.place(rule.file, rule.line), rule.source)))
        listed = f"listed as {rule.listed}" if rule.listed not in ("", rule.written) else ""
        for text in filter(None, (listed, where)):
            yield from _note(view, f"  {text}", "dim")


def _routed(view: View, routed: Routed) -> Iterator[Text]:
    result = f"refused: {routed.refusal}" if routed.refusal else routed.route
    yield from _note(
        view, f"routed with mark {word(routed.mark)}: {result}", "red" if routed.refusal else ""
    )
    if routed.policy is None:
        return
    policy = view.run.policy[routed.policy]
    rule = view.run.rule(policy.rule)
    owner = f", of {view.names.short(rule.software)}" if rule else ""
    yield from _note(view, f"  ip rule {policy.text}{owner}", "cyan" if rule else "dim")


def _note(view: View, text: str, style: str) -> Iterator[Text]:
    stripped = text.lstrip()
    margin = _RULE + " " * (len(text) - len(stripped))
    room = max(view.columns - len(margin), 30) if view.columns else 0
    for line in wrapped(stripped, room, style, indent=2):
        yield Text(margin).append_text(line)


def _ending(line: Timeline) -> Iterator[Text]:
    read = line.readings()
    if not read:
        yield Text("no reading of this packet", "yellow")
    elif read[-1].point.hook == "input" and not any(isinstance(e, Dropped) for e in line.events):
        yield Text(f"{read[-1].point.node:<{_NODE}}  delivered", "green")
