"""Upstream's own expected rules, and which of them an entry has [pure].

A golden file holds what upstream's tests expect, in native syntax as upstream writes it. Comment
lines at its top say what it is compared with::

    # entry: tailscale@1.102.3:iptables
    # family: ipv4
    # source: tailscale/tailscale@v1.102.3:util/linuxfw/iptables_runner_test.go#L116-L175
    # let: cali1234 = {{ pod-a.dev }}

``let`` says what a name of upstream's test is called in the lab. ``*.rules`` is iptables-restore
text, ``*.nft`` is nft text. Every rule in it that concerns marks must be found in the same chain of
the entry, in the same order, as the kernel lists both; ``shape`` says what may differ. Any other
difference must be explained in ``explained.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.errors import EntryError
from lab.fidelity.restore import completed
from lab.fidelity.shape import concerns_marks, shape, without_comment
from lab.native.rule import Rule
from lab.registry.software import Ruleset, Software, Tool
from lab.traffic.flow import FAMILIES, Family

_HEADER = re.compile(r"# (?P<key>entry|family|source|let): *(?P<value>.+)")
_TOOLS: dict[str, Tool] = {".rules": "iptables", ".nft": "nft"}


@dataclass(frozen=True, slots=True)
class Golden:
    """One file of upstream's expectations; ``lets`` maps names of upstream's test to the lab's."""

    name: str
    entry: str
    family: Family
    tool: Tool
    text: str
    source: str = ""
    lets: tuple[tuple[str, str], ...] = ()

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
    """Read every golden file below a folder. Raises EntryError with file and remedy."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _TOOLS)
    return tuple(_golden(path, path.relative_to(folder).as_posix()) for path in paths)


def _golden(path: Path, name: str) -> Golden:
    text = path.read_text(encoding="utf-8")
    lets: list[tuple[str, str]] = []
    header: dict[str, str] = {}
    for found in _HEADER.finditer(text):
        if found["key"] == "let":
            theirs, _, ours = found["value"].partition(" = ")
            lets.append((theirs.strip(), ours.strip()))
        else:
            header[found["key"]] = found["value"].strip()
    family = next((f for f in FAMILIES if f == header.get("family", "ipv4")), None)
    if "entry" not in header or family is None:
        raise EntryError(
            f"{path}: expected a line '# entry: name@release:mode' and, unless it is ipv4, "
            "'# family: ipv6'"
        )
    source = header.get("source", "")
    return Golden(name, header["entry"], family, _TOOLS[path.suffix], text, source, tuple(lets))


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
    found: list[Rule] = []
    missing: list[str] = []
    confirmed: set[int] = set()
    after: dict[tuple[str, str], int] = {}
    for rule in theirs:
        if rule.tool != golden.tool or not concerns_marks(rule.listed or rule.written):
            continue
        chain = (rule.table, rule.chain)
        position = _position(rule, ours, after.get(chain, 0))
        if position is None:
            missing.append(said(rule))
            continue
        after[chain] = position + 1
        confirmed.add(position)
        found.append(rule)
    return Comparison(golden, tuple(found), tuple(missing), frozenset(confirmed))


def said(rule: Rule) -> str:
    """Write a rule with its table, as explanations name it."""
    text = without_comment(rule.listed or rule.written)
    return f"{rule.table}: {text}" if text.startswith("-A ") else f"{rule.where}: {text}"


def _position(rule: Rule, ours: Sequence[Rule], start: int) -> int | None:
    wanted = shape(rule.listed)
    for position, candidate in enumerate(ours[start:], start):
        same_chain = (candidate.table, candidate.chain) == (rule.table, rule.chain)
        if same_chain and rule.listed and shape(candidate.listed) == wanted:
            return position
    return None
