"""From what a person types to one registry entry: ``name[@release][:mode]`` or a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.errors import UsageError, unknown
from lab.registry.loader import DATA, load, read
from lab.registry.software import Software

_NAME = re.compile(r"(?P<name>[^@:\s]+)(?:@(?P<release>[^@:\s]+))?(?::(?P<mode>[^@:\s]+))?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def find(text: str, entries: Iterable[Software]) -> Software:
    """Return the entry that ``text`` names.

    A bare name is the newest release in its default mode; the release may be an alias or the
    beginning of one (``calico@3.16`` is 3.16.0). Text with a ``/`` or ending in ``.toml`` is the
    path of an entry's file. Raises UsageError with the near and the known names.
    """
    if "/" in text or text.endswith(".toml"):
        return read(Path(text))
    parts = _NAME.fullmatch(text)
    if not parts:
        raise UsageError(
            f"{text!r} names no software; expected name[@release][:mode], "
            "such as tailscale@1.102.3:nft, or the path of a .toml file"
        )
    found = _named(parts["name"], list(entries))
    if parts["mode"]:
        found = _in_mode(parts["mode"], found)
    if parts["release"]:
        found = _released(parts["release"], found, parts["mode"] or "")
    return newest(found)


def known(text: str, folder: Path = DATA) -> tuple[Software, ...]:
    """Load the shipped entries among which ``find`` looks: those of the name, else all."""
    name = re.split("[@:]", text, maxsplit=1)[0]
    if re.fullmatch(r"[a-z0-9][\w-]*", name) and (folder / name).is_dir():
        return load(folder / name)
    return load(folder)


def newest(entries: Sequence[Software]) -> Software:
    """Return the newest release that is in its default mode; of none such, the newest at all."""
    return max(entries, key=lambda s: (s.default_mode, version(s.release)))


def version(release: str) -> tuple[tuple[int, str], ...]:
    """Return a key that orders releases as people do: 1.9 before 1.10, 2.0-rc1 before 2.0.

    A date is what a script without releases has; it comes before every number.
    """
    kind = (0, "") if _DATE.fullmatch(release) else (1, "")
    parts = re.findall(r"\d+|[a-z]+", release.lower())
    return (kind, *((int(p), "") if p.isdigit() else (-2, p) for p in parts), (-1, ""))


def _named(name: str, entries: list[Software]) -> list[Software]:
    found = [s for s in entries if s.name == name]
    if not found:
        raise unknown("software", name, {s.name for s in entries})
    return found


def _in_mode(mode: str, entries: list[Software]) -> list[Software]:
    found = [s for s in entries if s.mode == mode]
    if not found:
        raise unknown(f"mode of {entries[0].name}", mode, {s.mode for s in entries})
    return found


def _released(release: str, entries: list[Software], mode: str) -> list[Software]:
    wanted = re.sub(r"^v(?=\d)", "", release)
    exact = [s for s in entries if s.release == wanted]
    alias = [s for s in entries if wanted in s.aliases]
    begins = [s for s in entries if any(r.startswith(f"{wanted}.") for r in _releases(s))]
    found = exact or alias or begins
    if not found:
        kind = f"release of {entries[0].name}{f' in mode {mode}' if mode else ''}"
        raise unknown(kind, release, {r for s in entries for r in _releases(s)})
    return found


def _releases(entry: Software) -> tuple[str, ...]:
    return entry.release, *entry.aliases
