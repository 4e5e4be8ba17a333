"""``docs/lint.md``, made from the checks' own docstrings [pure]."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from lab.lint.checks import CHECKS
from lab.lint.finding import Check
from lab.lint.source import LARGEST

_EXAMPLE = re.compile(r"^(?P<kind>Wrong|Right)::\n\n(?P<text>(?:    .*\n|\n)+)", re.MULTILINE)
_HEAD = f"""# What `fwmark-lab lint` finds

Made from the docstrings in `lab/lint/checks/`; do not edit. A test fails where it is out of date.

`fwmark-lab lint FILE…` reads iptables-save text, nft rulesets, `ip rule` listings, lists of sysctls
and registry entries, also what `iptables -S`, `tc filter show` and `ip xfrm` print, and runs
nothing. All files of one call are taken as one host's, so that a policy rule in one explains a mark
in another. A file may have {LARGEST >> 20} MiB. Whom a rule hurts comes from the registry's
allocations; `--owner NAME` leaves out the software whose rules they are. Exit code: 0 no findings,
1 findings, 4 a file that cannot be read.

| check | name | level | |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a docstring, as text to lint."""

    wrong: str
    right: str


def examples(check: Check) -> Examples:
    """Return the examples of a check."""
    found = {m["kind"]: textwrap.dedent(m["text"]).strip() for m in _matches(check)}
    return Examples(f"{found['Wrong']}\n", f"{found['Right']}\n")


def markdown() -> str:
    """Return the whole page."""
    rows = [
        f"| [{c.id}](#{c.id.lower()}-{c.name}) | {c.name} | {c.severity} | {c.summary} |"
        for c in CHECKS
    ]
    return _HEAD + "\n".join(rows) + "\n" + "".join(_section(check) for check in CHECKS)


def _section(check: Check) -> str:
    shown = _EXAMPLE.sub(_fenced, f"{check.explanation}\n").strip()
    return f"\n## {check.id} {check.name}\n\n{shown}\n"


def _fenced(found: re.Match[str]) -> str:
    text = textwrap.dedent(found["text"]).strip()
    return f"{found['kind']}:\n\n```\n{text}\n```\n\n"


def _matches(check: Check) -> list[re.Match[str]]:
    return list(_EXAMPLE.finditer(f"{check.explanation}\n"))
