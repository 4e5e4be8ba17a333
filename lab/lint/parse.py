"""From native text to lines that say what they do with marks [pure]."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lab.errors import UsageError
from lab.lint import source
from lab.lint.model import Base, ChainName, Kind, Line, Subject
from lab.marks import WORD, Mark
from lab.native import nft_blocks
from lab.native.device_marks import (
    program_tests,
    tc_tests,
    tc_writes,
    xfrm_tests,
    xfrm_writes,
)
from lab.native.iptables_text import BUILTIN, Change, changes, listed
from lab.native.lines import lines, placed
from lab.native.marktest import MarkTest, tests
from lab.native.markwrite import MarkWrite, writes

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|--comment \S+')
_BARE_MARK = re.compile(r"(?<![\w.-])(?<!meta )(?<!ct )(?<!socket )mark(?![\w.-])")
_BASE = re.compile(r"type (?P<type>\w+) hook (?P<hook>\w+)")
_JUMP = re.compile(r"\b(?:jump|goto) ([^\s,;}]+)|(@[\w.-]+)")
_XT_JUMP = re.compile(r"(?:^| )(?:-j|-g|--jump|--goto) (\S+)")
_STRICT_SET = re.compile(r"(?P<kind>meta|ct) mark (?:!= )?(?:vmap )?\{(?P<values>[^}]*)\}")
_TESTS: dict[str, Callable[[str], Iterator[MarkTest]]] = {
    "tc": tc_tests,
    "xfrm": xfrm_tests,
    "bpf": program_tests,
}
_NUMBER = re.compile(r"(?<![\w.-])(?:0x[0-9a-fA-F]+|\d+)(?![\w.:-])")
_MANAGED = re.compile(r"# Warning: table (\w+) (\S+) is managed by iptables-nft")


@dataclass(slots=True)
class Collected:
    """What has been read so far, file by file."""

    lines: list[Line] = field(default_factory=list)
    bases: dict[ChainName, Base] = field(default_factory=dict)
    jumps: defaultdict[ChainName, set[ChainName]] = field(default_factory=lambda: defaultdict(set))
    xtables: set[ChainName] = field(default_factory=set)

    def subject(self, owner: str = "") -> Subject:
        """Return all of it as one thing to check."""
        jumps = {chain: frozenset(to) for chain, to in self.jumps.items()}
        return Subject(tuple(self.lines), self.bases, jumps, frozenset(self.xtables), owner)

    def add(self, kind: source.Format, text: str, file: str, first: int = 1) -> None:
        """Read a text that begins on line ``first`` of ``file``. Raises UsageError."""
        reader = {
            "iptables": self._iptables,
            "nft": self._nft,
            "policy": self._policy,
            "sysctl": self._sysctl,
            "tc": self._tc,
            "xfrm": self._xfrm,
            "bpf": self._programs,
            "listing": self._listing,
        }[kind]
        try:
            reader(text, file, first)
        except ValueError as problem:
            raise UsageError(placed(str(problem), file, first)) from None

    def _iptables(self, text: str, file: str, first: int) -> None:
        self._changes(changes(text), file, first)

    def _listing(self, text: str, file: str, first: int) -> None:
        self._changes(listed(text), file, first)

    def _changes(self, found: Iterable[Change], file: str, first: int) -> None:
        for table, names in BUILTIN.items():
            for name in names:
                self.bases.setdefault((file, table, name), Base(table, name.lower()))
        for change in found:
            if change.verb not in ("append", "insert", "replace"):
                continue
            chain = (file, change.table, change.chain)
            bare = _QUOTED.sub("", change.text)
            for target in _XT_JUMP.findall(bare):
                self.jumps[chain].add((file, change.table, target))
            self._line("iptables", file, first + change.number, change.text, bare, chain)

    def _nft(self, text: str, file: str, first: int) -> None:
        for family, table in _MANAGED.findall(text):
            self.xtables.add((f"{file} {family}", table, ""))
        for found in nft_blocks.statements(text):
            place = found.place
            name = f"@{place.name}" if place.kind in ("set", "map") else place.name
            chain = (f"{file} {place.family}", place.table, name)
            bare = _BARE_MARK.sub("meta mark", _QUOTED.sub("", found.text))
            if base := _BASE.match(bare):
                self.bases[chain] = Base(base["type"], base["hook"])
            for direct, through in _JUMP.findall(bare):
                self.jumps[chain].add((*chain[:2], direct or through))
            if place.kind == "chain":
                self._line("nft", file, first + found.line - 1, found.text, bare, chain)

    def _policy(self, text: str, file: str, first: int) -> None:
        for line in lines(text):
            number = first + line.number
            if source.RULE.fullmatch(line.text):
                self._line("policy", file, number, line.text, line.text)
            elif source.XFRM.match(line.text):
                self._line("xfrm", file, number, line.text, line.text)
            elif source.ROUTE.fullmatch(line.text):
                self.lines.append(Line("route", file, number, line.text, bare=line.text))
            elif not source.COMMAND.fullmatch(line.text):
                raise ValueError(
                    f"line {line.number + 1}: {line.text[:60]!r} is no policy rule; expected "
                    "e.g. '100: from all fwmark 0x1/0xff lookup 100'"
                )

    def _tc(self, text: str, file: str, first: int) -> None:
        for line in lines(text):
            self._line("tc", file, first + line.number, line.text, _QUOTED.sub("", line.text))

    def _xfrm(self, text: str, file: str, first: int) -> None:
        for line in lines(text):
            self._line("xfrm", file, first + line.number, line.text, line.text)

    def _programs(self, text: str, file: str, first: int) -> None:
        for line in lines(text):
            self._line("bpf", file, first + line.number, line.text, line.text)

    def _sysctl(self, text: str, file: str, first: int) -> None:
        for line in lines(text):
            if line.text.startswith(";"):
                continue
            if not source.SYSCTL.fullmatch(line.text):
                raise ValueError(
                    f"line {line.number + 1}: {line.text[:60]!r} is no sysctl; "
                    "expected name = value"
                )
            self.lines.append(Line("sysctl", file, first + line.number, line.text, bare=line.text))

    def _line(
        self,
        kind: Kind,
        file: str,
        number: int,
        text: str,
        bare: str,
        chain: ChainName = ("", "", ""),
    ) -> None:
        if "mark" not in bare and kind != "tc":
            return
        try:
            found = tuple(_tests(bare, kind)), tuple(_writes(bare, kind))
        except ValueError as problem:
            raise UsageError(f"{file}:{number}: {text[:80]!r}: {problem}") from None
        self.lines.append(Line(kind, file, number, text, chain, *found, bare=bare))


def _writes(bare: str, kind: Kind) -> Iterator[MarkWrite]:
    if kind != "policy":
        yield from {"tc": tc_writes, "xfrm": xfrm_writes}.get(kind, writes)(bare)


def _tests(bare: str, kind: Kind) -> Iterator[MarkTest]:
    if kind == "policy":
        inverted = bool(re.search(r"\bnot\b", bare))
        yield from (MarkTest(t.field, t.mark, t.equal and not inverted) for t in tests(bare))
        return
    yield from _TESTS.get(kind, tests)(bare)
    if kind == "nft":
        condition = bare.split(" mark set ")[0]
        for which, values in _STRICT_SET.findall(condition):
            for value in _NUMBER.findall(values):
                mark = Mark(int(value, 0), WORD)
                yield MarkTest("mark" if which == "meta" else "ctmark", mark, True)
