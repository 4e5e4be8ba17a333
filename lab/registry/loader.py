"""Reading registry entries from TOML; ``docs/add-software.md`` describes the format."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from lab.errors import EntryError
from lab.marks import Mark
from lab.points import Point
from lab.registry.lines import key_lines
from lab.registry.placeholders import names
from lab.registry.reader import Table
from lab.registry.software import (
    TOOLS,
    Allocation,
    Registered,
    Ruleset,
    Software,
    Style,
    Tool,
    Value,
)
from lab.topology.plan import Fact
from lab.traffic.flow import FAMILIES, Direction, Expectation, Family, Field, Flow, Packets

DATA = Path(__file__).parent / "data"
_FIELDS: tuple[Field, ...] = ("mark", "ctmark")
_STYLES: tuple[Style, ...] = ("bitwise", "whole-mark")
_DIRECTIONS: tuple[Direction, ...] = ("request", "reply")
_PACKETS: tuple[Packets, ...] = ("all", "first", "later")
_LAYERS = ("inner", "outer")


def load(folder: Path = DATA) -> tuple[Software, ...]:
    """Read every entry below ``folder``, sorted by name; raises EntryError on the first bad one."""
    entries = [read(path) for path in sorted(folder.rglob("*.toml"))]
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.title in seen:
            raise EntryError(f"{entry.file}: {entry.title} stands in {seen[entry.title]} as well")
        seen[entry.title] = entry.file
    return tuple(entries)


def read(path: Path) -> Software:
    """Read one entry; every problem is an EntryError that names the file and the line or key."""
    try:
        source = path.read_text(encoding="utf-8")
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as problem:
        raise EntryError(f"{path}: not valid TOML: {problem}") from None
    except UnicodeDecodeError:
        raise EntryError(f"{path}: not UTF-8 text; expected a TOML registry entry") from None
    except OSError as problem:
        raise EntryError(f"{path}: cannot be read: {problem.strerror}") from None
    return _software(Table(values, str(path), lines=key_lines(source)), source)


def _software(table: Table, text: str) -> Software:
    facts = _facts(table.table("facts"))
    style = table.choice("style", _STYLES)
    entry = Software(
        name=table.text("name"),
        release=table.text("release"),
        mode=table.text("mode", "default"),
        style=style,
        summary=table.text("summary"),
        source=table.text("source"),
        released=table.text("released", ""),
        aliases=table.texts("aliases"),
        default_mode=table.flag("default-mode", True),
        pod_prefix=table.text("pod-prefix", ""),
        registered=_registered(table.table("registered")),
        deviations=table.texts("deviations"),
        allocations=tuple(_allocation(t) for t in table.tables("allocation")),
        rulesets=tuple(_rulesets(table.tables("ruleset"), text, table.text("source"))),
        flows=tuple(_flow(t) for t in table.tables("flow")),
        facts=facts,
        shares_with=table.texts("shares-with"),
        file=table.file,
    )
    table.done()
    _check_names(table, [flow.name for flow in entry.flows])
    return entry


def _check_names(table: Table, flows: list[str]) -> None:
    for name in flows:
        if flows.count(name) > 1:
            raise table.error("flow", f"two flows are named {name!r}; expected unique names")


def _facts(table: Table | None) -> tuple[Fact, ...]:
    if table is None:
        return ()
    facts = []
    for name, value in table.rest().items():
        both = [value, value] if isinstance(value, str) else value
        if not (
            isinstance(both, list) and len(both) == 2 and all(isinstance(v, str) for v in both)
        ):
            raise table.error(name, 'expected "text" for both families or ["IPv4", "IPv6"]')
        facts.append((name, both[0], both[1]))
    return tuple(facts)


def _registered(table: Table | None) -> Registered | None:
    if table is None:
        return None
    row = Registered(
        table=table.choice("table", ("bitwise", "non-bitwise")),
        mark=table.text("mark"),
        source=table.text("source", ""),
        verdict=table.text("verdict", ""),
    )
    table.done()
    return row


def _allocation(table: Table) -> Allocation:
    values = table.table("values")
    mask = table.parsed("mask", Mark.parse).value
    allocation = Allocation(
        field=table.choice("field", _FIELDS, "mark"),
        mask=mask,
        values=tuple(_value(values, name) for name in values.rest()) if values else (),
        source=table.text("source", ""),
        unseen=table.text("unseen", ""),
    )
    table.done()
    for value in allocation.values:
        if (value.mark.value | value.mark.mask) & ~mask:
            raise table.error(
                f"values.{value.name}", f"{value.mark} has bits outside the mask {mask:#x}"
            )
    return allocation


def _value(table: Table, name: str) -> Value:
    return Value(name, table.parsed(name, Mark.parse))


def _rulesets(tables: Iterable[Table], source: str, origin: str) -> Iterable[Ruleset]:
    position = 0
    for table in tables:
        text = table.text("text")
        # A literal multi-line string stands in the file verbatim, so its line can be looked up.
        found = source.find(text, position) if text.strip() else -1
        position = found + len(text) if found >= 0 else position
        ruleset = Ruleset(
            tool=_tool(table),
            text=text,
            node=table.text("on", "node"),
            families=_families(table),
            source=_source(table.text("source", ""), origin),
            file=table.file,
            line=source.count("\n", 0, found) + 1 if found >= 0 else 1,
        )
        table.done()
        yield ruleset


def _source(text: str, origin: str) -> str:
    if not text:
        return origin
    return text if "@" in text else f"{origin}:{text}"


def _tool(table: Table) -> Tool:
    return table.choice("tool", TOOLS)


def _families(table: Table) -> tuple[Family, ...]:
    listed = table.texts("family", FAMILIES)
    unknown = [name for name in listed if name not in FAMILIES]
    if unknown or not listed:
        raise table.error("family", f"expected some of {', '.join(FAMILIES)}, not {listed!r}")
    return tuple(f for f in FAMILIES if f in listed)


def _flow(table: Table) -> Flow:
    flow = Flow(
        name=table.text("name"),
        sender=table.text("from"),
        to=table.text("to"),
        port=_port(table, "port"),
        protocol=table.choice("protocol", ("udp", "tcp"), "udp"),
        answered_by=table.text("answered-by", ""),
        listens=table.text("listens", ""),
        answer_port=_port(table, "answer-port", 0),
        seen_from=table.text("seen-from", ""),
        source_address=table.text("source-address", ""),
        socket_mark=table.parsed("socket-mark", Mark.parse, "0").value,
        transparent=table.flag("transparent", False),
        uid=table.integer("uid", 0),
        count=table.integer("count", 3),
        families=_families(table),
        summary=table.text("summary", ""),
        source=table.text("source", ""),
        expectations=tuple(_expectation(t) for t in table.tables("relies")),
    )
    table.done()
    if flow.count < 3:
        raise table.error("count", "at least 3: restore-from-conntrack shows from packet 2 on")
    return flow


def _port(table: Table, key: str, default: int | None = None) -> int:
    port = table.integer(key, default)
    if not 0 <= port <= 65535:
        raise table.error(key, f"{port} is not a port; expected 0 to 65535")
    return port


def _expectation(table: Table) -> Expectation:
    field: Field = "ctmark" if table.has("ctmark") else "mark"
    expectation = Expectation(
        point=table.parsed("at", Point.parse),
        field=field,
        mark=table.parsed(field, Mark.parse),
        direction=table.choice("direction", _DIRECTIONS, "request"),
        packets=table.choice("packets", _PACKETS, "all"),
        outer=table.choice("packet", _LAYERS, "inner") == "outer",
    )
    table.done()
    return expectation


def placeholder_names(entry: Software) -> set[str]:
    """List every placeholder an entry refers to."""
    texts = [ruleset.text for ruleset in entry.rulesets]
    for flow in entry.flows:
        texts += [flow.to, flow.seen_from, flow.source_address]
    return set().union(*(names(text) for text in texts))
