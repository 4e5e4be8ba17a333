"""How software is called: for a reader, and for the command line [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lab.registry.loader import DATA
from lab.registry.software import Software


@dataclass(frozen=True, slots=True)
class Names:
    """The software of one report, by title."""

    software: tuple[Software, ...]

    def full(self, title: str) -> str:
        """Return ``tailscale 1.102.3``, with the mode where it is not the default one."""
        found = self._find(title)
        if found is None:
            return title
        if found.captured and found.file == found.captured:  # no entry has its rules
            return "the host itself" if found.name == "host" else f"{found.name} of the host"
        mode = "" if found.default_mode else f" ({found.mode})"
        return f"{found.name} {found.release}{mode}"

    def short(self, title: str) -> str:
        """Return ``tailscale``, or the full name where two releases meet."""
        found = self._find(title)
        if found is None:
            return title
        alone = [s.name for s in self.software].count(found.name) == 1
        return found.name if alone else self.full(title)

    def argument(self, title: str) -> str:
        """Return what names the software on the command line."""
        found = self._find(title)
        if found is None:
            return title
        if found.captured:
            return found.captured
        if found.file and not shipped(found.file):
            return found.file
        return f"{found.name}@{found.release}" + ("" if found.default_mode else f":{found.mode}")

    def options(self, titles: Iterable[str]) -> Iterator[str]:
        """Yield the options of the command line that made these what they are, each once."""
        software = (self._find(title) for title in titles)
        asked = dict.fromkeys(pair for found in software if found for pair in found.asked)
        for option, value in asked:
            yield from (option, value)

    def flow(self, owner: str, flow: str) -> str:
        """Return ``tailscale/bypass``, which names a flow on the command line."""
        found = self._find(owner)
        return flow if found is None else f"{found.name}/{flow}"

    def everywhere(self, text: str) -> str:
        """Replace titles in a sentence by full names."""
        for software in sorted(self.software, key=lambda s: -len(s.title)):
            text = text.replace(software.title, self.full(software.title))
        return text

    def captured(self, title: str) -> bool:
        """Tell whether the software was found on a captured host."""
        found = self._find(title)
        return found is not None and bool(found.captured)

    def all(self) -> str:
        """Join the full names: ``a``, ``a and b``, ``a, b and c``."""
        return listed([self.full(s.title) for s in self.software])

    def _find(self, title: str) -> Software | None:
        return next((s for s in self.software if s.title == title), None)


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def shipped(file: str) -> bool:
    """Tell whether an entry's file is one of those that come with the lab, on any machine."""
    return _inside(file) != file


def place(file: str, line: int) -> str:
    """Return ``file:line``; files that come with the lab are named from the clone's root."""
    return f"{_inside(file)}:{line}" if file else ""


def _inside(file: str) -> str:
    folder = "/".join(DATA.parts[-3:])
    before, found, rest = file.rpartition(f"{folder}/")
    return f"{folder}/{rest}" if found and before else file
