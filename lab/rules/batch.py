"""Give lines to ``ip``, ``ipset`` and ``tc``: all that one software has for one of them at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lab.errors import EntryError, RuleRefused
from lab.kernel import command
from lab.native.lines import Line, lines
from lab.native.rule import Rule
from lab.registry.software import Ruleset
from lab.rules import requests
from lab.rules.installed import Installed, of_line
from lab.traffic.flow import Family

_FORBIDDEN = {"netns", "exec", "obj", "object", "object-file", "pinned", "-file", "-f"}
"""'netns exec', 'vrf exec' and 'tc exec' start programs, the others read files."""


@dataclass(frozen=True, slots=True)
class _Program:
    """How lines are given to a program, what they may begin with, and how it names a bad one."""

    arguments: tuple[str, ...]
    begin: tuple[str, ...]
    failed: re.Pattern[str]


_PROGRAMS = {
    "ip": _Program(
        ("-batch", "-"),
        ("rule", "route", "link", "address", "addr", "neighbour", "neigh", "xfrm", "tunnel"),
        re.compile(r"\n?Command failed -:(\d+)"),
    ),
    "tc": _Program(
        ("-batch", "-"),
        ("qdisc", "class", "filter", "chain"),
        re.compile(r"\n?Command failed -:(\d+)"),
    ),
    "ipset": _Program(
        ("restore",),
        ("create", "add", "del", "flush", "swap", "rename", "destroy"),
        re.compile(r"ipset v[^:]*: Error in line (\d+): "),
    ),
}

TOOLS = frozenset(_PROGRAMS)


def install(software: str, rulesets: Sequence[Ruleset], installed: Installed) -> None:
    """Run the lines of rulesets of one tool in the current namespace, in one process.

    Raises EntryError for a line that is not allowed and RuleRefused with file and line.
    """
    tool = rulesets[0].tool
    rules = [rule for ruleset in rulesets for rule in _rules(software, ruleset)]
    texts = [rule.written for rule in rules]
    if waiting := rules[requests.send(tool, texts, installed.family) :]:
        _run(tool, waiting, installed.family)
        requests.learn(tool, texts)
    note(software, rulesets, installed)


def note(software: str, rulesets: Sequence[Ruleset], installed: Installed) -> None:
    """Note whose rules the lines of rulesets of one tool are: they have been installed."""
    for rule in (rule for ruleset in rulesets for rule in _rules(software, ruleset)):
        is_policy = rule.tool == "ip" and rule.written.startswith("rule add")
        (installed.policy if is_policy else installed.others).append(rule)


def _run(tool: str, rules: Sequence[Rule], family: Family) -> None:
    option = (("-4" if family == "ipv4" else "-6"),) if tool == "ip" else ()
    arguments = (tool, *option, *_PROGRAMS[tool].arguments)
    result = command.run(arguments, "".join(f"{rule.written}\n" for rule in rules))
    if result.status:
        raise RuleRefused(_refusal(arguments, result, rules))


@lru_cache(maxsize=512)
def _rules(software: str, ruleset: Ruleset) -> tuple[Rule, ...]:
    return tuple(_rule(software, ruleset, line) for line in lines(ruleset.text, ruleset.source))


def _rule(software: str, ruleset: Ruleset, line: Line) -> Rule:
    tool, words = ruleset.tool, line.text.split()
    begin = _PROGRAMS[tool].begin
    if words[0] not in begin or not _FORBIDDEN.isdisjoint(words):
        raise EntryError(
            f"{ruleset.file}:{ruleset.line + line.number}: {line.text!r} is not allowed; "
            f"expected a line that begins with one of {', '.join(begin)}"
        )
    return of_line(software, ruleset, line, words[0] if tool == "ip" else "")


def _refusal(arguments: tuple[str, ...], result: command.Result, rules: Sequence[Rule]) -> str:
    failed = _PROGRAMS[arguments[0]].failed
    found = failed.search(result.error)
    rule = rules[int(found[1]) - 1] if found else _misspelt(arguments, rules)
    said = failed.sub("", result.error).strip().splitlines()
    reason = said[0] if said else f"status {result.status}"
    return f"{rule.file}:{rule.line}: {arguments[0]} refused {rule.written!r}: {reason}"


def _misspelt(arguments: tuple[str, ...], rules: Sequence[Rule]) -> Rule:
    """Find the line that says what no number was told of, by giving one after another.

    ip and tc end at once at a wrong word, and number only what the kernel refuses. The experiment
    has failed already, so what this leaves in the namespace does not matter.
    """
    failed = _PROGRAMS[arguments[0]].failed
    for rule in rules:
        result = command.run(arguments, f"{rule.written}\n")
        if result.status and not failed.search(result.error):
            return rule
    return rules[0]
