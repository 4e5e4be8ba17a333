"""Everything the lab can raise on purpose.

    LabError                 one clear sentence for a person; the command line exits 4
    ├── UsageError           a wrong name, option or combination
    ├── EntryError           a registry entry that cannot be used; names file and line or key
    ├── RuleRefused          a kernel or tool refused a rule; names file and line
    ├── UnsupportedError     this machine lacks something; says what and the remedy
    ├── RecordError          a saved run that cannot be read back
    └── ArchiveError         a captured host that cannot be read; names archive and member
    SandboxError             the lab's own process or namespace failed; the command line exits 3

A conflict between two programs is a verdict, never an exception.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class LabError(Exception):
    """Say one thing that the person at the keyboard can mend."""


class UsageError(LabError):
    """Report a name, option or combination that does not exist."""


class EntryError(LabError):
    """Report a registry entry that cannot be used."""


class RuleRefused(LabError):
    """Report a rule that the kernel or its tool did not take."""


class UnsupportedError(LabError):
    """Report what this machine lacks, and the remedy."""


class RecordError(LabError):
    """Report a saved run that cannot be read back."""


class ArchiveError(LabError):
    """Report an archive of a captured host that cannot be read."""


class SandboxError(Exception):
    """Report a failure of the lab's own process; never the user's doing."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name: the near ones first, then all known ones."""
    names = sorted(known, key=_natural)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return UsageError(f"unknown {kind} {name!r};{hint} known: {', '.join(names) or 'none'}")


def _natural(name: str) -> list[tuple[int, str]]:
    """Order numbers in names by value: 3.9 before 3.10."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.findall(r"\d+|\D+", name)]
