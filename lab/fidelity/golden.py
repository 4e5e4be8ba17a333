"""Upstream's own expected rules, and which of them an entry has [pure].

A golden file holds what upstream's tests expect, in native syntax as upstream writes it:
iptables-restore or nft text. ``tests/golden/tailscale/1.102.3-router.rules`` is about tailscale
1.102.3; its first comment names the source. Comment lines may say more::

    # entry: tailscale@1.102.3:iptables     where the file's name leaves a choice
    # family: ipv6                          or ``ipv6`` in the file's name
    # let: cali1234 = {{ pod-a.dev }}       what a name of upstream's test is called in the lab

Every rule in it that concerns marks must be found in the same chain of the entry, in the same
order, as the kernel lists both; ``shape`` says what may differ. Any other difference must be
explained in ``explained.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.errors import UsageError
from lab.fidelity.match import match, said
from lab.fidelity.restore import completed, undeclared_sets
from lab.fidelity.shape import concerns_marks
from lab.native.rule import Rule
from lab.registry.find import find
from lab.registry.software import Ruleset, Software, Tool
from lab.traffic.flow import Family

_HEADER = re.compile(r"# (?P<key>entry|family|source|let): *(?P<value>.+)")
_SOURCE = re.compile(r"# (\S+/\S+@\S+.*)")


@dataclass(frozen=True, slots=True)
class Golden:
    """One file of upstream's expectations; ``lets`` maps names of upstream's test to the lab's."""

    name: str
    family: Family
    tool: Tool
    text: str
    source: str = ""
    lets: tuple[tuple[str, str], ...] = ()
    entry: str = ""

    def in_the_lab(self) -> str:
        """Return the text with upstream's names replaced."""
        text = self.text
        for theirs, ours in self.lets:
            # A placeholder without blanks is one word, as the names that it stands for are.
            word = re.sub(r"\{\{ *(.*?) *\}\}", r"{{\1}}", ours)
            text = word.join(re.split(rf"(?<![\w.-]){re.escape(theirs)}(?![\w-])", text))
        return text

    def as_software(self, entry: Software) -> Software:
        """Return an entry that installs the golden rules alone, to have the kernel list them."""
        text = self.in_the_lab()
        ruleset = Ruleset(
            tool=self.tool,
            text=completed(text) if self.tool == "iptables" else text,
            families=(self.family,),
            source=self.source or "golden",
            file=self.name,
        )
        sets = tuple(r for r in entry.rulesets if r.tool == "ipset")
        if self.tool == "iptables":
            declared = "".join(r.text for r in sets)
            more = undeclared_sets(text, declared, self.family)
            sets += (Ruleset("ipset", more, families=(self.family,)),) if more else ()
        return replace(entry, mode="golden", rulesets=(*sets, ruleset), flows=())


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of a golden file's rules on marks an entry has; each as the kernel lists it."""

    golden: Golden
    found: tuple[Rule, ...]
    missing: tuple[str, ...]
    confirmed: frozenset[int]

    def unexplained(self, explained: Mapping[str, str]) -> tuple[str, ...]:
        """List the missing rules without an explanation."""
        return tuple(rule for rule in self.missing if rule not in explained)


def read(folder: Path) -> tuple[Golden, ...]:
    """Read every golden file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".rules", ".nft"))
    return tuple(_golden(path, path.relative_to(folder).as_posix()) for path in paths)


def _golden(path: Path, name: str) -> Golden:
    text = path.read_text(encoding="utf-8")
    said_first = _SOURCE.search(text)
    header = {"source": said_first[1] if said_first else ""}
    lets: list[tuple[str, str]] = []
    for found in _HEADER.finditer(text):
        if found["key"] == "let":
            theirs, _, ours = found["value"].partition(" = ")
            lets.append((theirs.strip(), ours.strip()))
        else:
            header[found["key"]] = found["value"].strip()
    six = "ipv6" in (header.get("family", ""), *path.stem.split("-"))
    return Golden(
        name=name,
        family="ipv6" if six else "ipv4",
        tool="iptables" if re.search(r"^COMMIT$", text, re.MULTILINE) else "nft",
        text=text,
        source=header["source"],
        lets=tuple(lets),
        entry=header.get("entry", ""),
    )


def entry_of(golden: Golden, entries: Iterable[Software]) -> Software:
    """Find the entry that a golden file is about. Raises UsageError with the remedy."""
    known = tuple(entries)
    if golden.entry:
        return find(golden.entry, known)
    software, _, file = golden.name.partition("/")
    stem = file.rpartition(".")[0]
    fitting = [
        s
        for s in known
        if s.name == software
        and f"{stem}-".startswith(f"{s.release}-")
        and any(r.tool == golden.tool for r in s.rulesets)
    ]
    if not fitting:
        raise UsageError(
            f"golden file {golden.name!r} fits no entry with {golden.tool} rules; "
            "name it <software>/<release>….rules, or add a line '# entry: name@release:mode'"
        )
    return max(
        fitting, key=lambda s: (len(s.release), f"-{s.mode}-" in f"-{stem}-", s.default_mode)
    )


def explanations(folder: Path) -> dict[str, dict[str, str]]:
    """Read ``explained.toml``: for each golden file, rules that an entry lacks, and why."""
    path = folder / "explained.toml"
    if not path.exists():
        return {}
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: {item["rule"]: item["why"] for item in items} for name, items in content.items()}


def compare(golden: Golden, theirs: Iterable[Rule], ours: Sequence[Rule]) -> Comparison:
    """Look for each of their rules that concerns marks in our chain of that name, in order.

    ``confirmed`` holds the positions, within ``ours``, of the rules that were found.
    """
    telling = [
        rule
        for rule in theirs
        if rule.tool == golden.tool and concerns_marks(rule.listed or rule.written)
    ]
    result = match(telling, ours)
    return Comparison(golden, result.found, tuple(map(said, result.missing)), result.positions)
