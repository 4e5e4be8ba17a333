"""Whose bits a rule meets, from the registry's allocations and rules [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from lab.marks import WORD, bit_ranges
from lab.native.lines import lines
from lab.native.marktest import MarkTest, tests
from lab.registry.find import newest
from lab.registry.software import Software
from lab.traffic.flow import Field


@dataclass(frozen=True)
class Owners:
    """Every entry of the registry, asked for the bits it calls its own and the bits it tests."""

    entries: tuple[Software, ...]

    @cached_property
    def ranked(self) -> tuple[tuple[Software, ...], ...]:
        """Group the entries by software; the one that a bare name means comes first."""
        names = sorted({entry.name for entry in self.entries})
        return tuple(self._of(name) for name in names)

    def _of(self, name: str) -> tuple[Software, ...]:
        same = [entry for entry in self.entries if entry.name == name]
        first = newest(same)
        return (first, *(entry for entry in same if entry is not first))

    def of(self, field: Field, bits: int, besides: str = "") -> tuple[str, ...]:
        """Name who owns some of the bits, one release of each software; whole words come last."""
        asked = (field, bits, besides)
        if asked not in self._told:
            self._told[asked] = tuple(sorted(self._owning(*asked), key=_is_whole))
        return self._told[asked]

    @cached_property
    def _told(self) -> dict[tuple[Field, int, str], tuple[str, ...]]:
        return {}

    def _owning(self, field: Field, bits: int, besides: str) -> Iterator[str]:
        for releases in self.ranked:
            for entry in releases:
                owned = entry.owned(field)
                if owned & bits and entry.name != besides:
                    yield f"{label(entry, releases)} ({described(owned)})"
                    break

    @cached_property
    def testers(self) -> dict[int, tuple[tuple[str, str], ...]]:
        """Map single bits of the packet mark to who tests them alone, as (name, label)."""
        found: dict[int, dict[str, str]] = {}
        for releases in self.ranked:
            for entry in releases:
                for bit in _single_bits(entry):
                    found.setdefault(bit, {}).setdefault(entry.name, label(entry, releases))
        return {bit: tuple(names.items()) for bit, names in found.items()}

    def testing(self, word: int, besides: str = "") -> tuple[str, ...]:
        """Name who tests a single bit that is set in a word, with the bit."""
        return tuple(
            f"{shown} (tests {1 << position:#x})"
            for position in range(32)
            for name, shown in self.testers.get(1 << position & word, ())
            if name != besides
        )

    def local_tables(self, besides: str = "") -> tuple[str, ...]:
        """Name who reaches a table with a local route by a mark, as transparent proxies do."""
        return tuple(self._local(besides))

    def _local(self, besides: str) -> Iterator[str]:
        for releases in self.ranked:
            for entry in releases:
                if entry.name != besides and _reaches_local(entry):
                    yield label(entry, releases)
                    break


def _is_whole(shown: str) -> bool:
    return shown.endswith("(the whole word)")


def label(entry: Software, releases: Sequence[Software]) -> str:
    """Return the name, with release and mode where it is not the one that a bare name means."""
    if entry is releases[0]:
        return entry.name
    return f"{entry.name}@{entry.release}" + ("" if entry.default_mode else f":{entry.mode}")


def described(mask: int) -> str:
    """Write bits for a reader."""
    if mask == WORD:
        return "the whole word"
    return f"bit{'s' if mask.bit_count() > 1 else ''} {bit_ranges(mask)}"


def _single_bits(entry: Software) -> set[int]:
    return {
        test.mark.mask
        for text in rules(entry)
        for test in readable_tests(text)
        if test.field == "mark" and test.mark.mask == test.mark.value
        if test.mark.mask.bit_count() == 1
    }


def rules(entry: Software) -> Iterable[str]:
    """Yield the lines of an entry that speak of marks."""
    for ruleset in entry.rulesets:
        if ruleset.tool in ("iptables", "nft", "ip"):
            yield from (line.text for line in lines(ruleset.text) if "mark" in line.text)


def readable_tests(text: str) -> list[MarkTest]:
    """Return the tests of a rule; none where a placeholder stands for the number."""
    try:
        return list(tests(text))
    except ValueError:
        return []


def _reaches_local(entry: Software) -> bool:
    text = [line.text for r in entry.rulesets if r.tool == "ip" for line in lines(r.text)]
    return any("fwmark" in t for t in text) and any("route add local" in t for t in text)
