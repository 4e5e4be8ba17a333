"""Strict reading of TOML tables: every key is known, typed and named in errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from lab.errors import EntryError
from lab.registry.lines import line_of

T = TypeVar("T")


class Table:
    """One TOML table that is read key by key; ``done`` refuses what nobody asked for.

    ``lines`` says on which line of the file each key stands.
    """

    def __init__(
        self,
        values: dict[str, Any],
        file: str,
        path: str = "",
        lines: Mapping[str, int] | None = None,
    ) -> None:
        self._values = dict(values)
        self._lines = lines or {}
        self._asked: set[str] = set()
        self.file = file
        self.path = path

    def error(self, key: str, problem: str) -> EntryError:
        """Return an EntryError that names the file, the line where it is known, and the key."""
        line = f":{line_of(self._at(key), self._lines)}" if self._lines else ""
        return EntryError(f"{self.file}{line}: key {self._at(key)!r}: {problem}")

    def text(self, key: str, default: str | None = None) -> str:
        """Read a string; without a default it is required."""
        return str(self._typed(key, str, "a string", default))

    def integer(self, key: str, default: int | None = None) -> int:
        """Read an integer."""
        return int(self._typed(key, int, "an integer", default))

    def flag(self, key: str, default: bool) -> bool:
        """Read true or false."""
        return bool(self._typed(key, bool, "true or false", default))

    def choice(self, key: str, known: tuple[T, ...], default: T | None = None) -> T:
        """Read a string that must be one of ``known``."""
        value = self._typed(key, str, "a string", default)
        for one in known:
            if one == value:
                return one
        raise self.error(key, f"{value!r} is not one of {', '.join(map(str, known))}")

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Read a list of strings."""
        value = self._typed(key, list, "a list of strings", list(default))
        if not all(isinstance(item, str) for item in value):
            raise self.error(key, f"expected a list of strings, not {value!r}")
        return tuple(value)

    def parsed(self, key: str, parse: Callable[[str], T], default: str | None = None) -> T:
        """Read a string through ``parse``; its ValueError becomes an EntryError on this key."""
        text = self.text(key, default)
        try:
            return parse(text)
        except ValueError as problem:
            raise self.error(key, str(problem)) from None

    def table(self, key: str) -> Table | None:
        """Read a sub-table, or None where it is absent."""
        value = self._typed(key, dict, "a table", {})
        return Table(value, self.file, self._at(key), self._lines) if value else None

    def tables(self, key: str) -> Iterator[Table]:
        """Read an array of tables (``[[key]]``)."""
        value = self._typed(key, list, "an array of tables", [])
        for number, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.error(key, f"expected [[{key}]] tables, not {item!r}")
            yield Table(item, self.file, f"{self._at(key)}[{number}]", self._lines)

    def rest(self) -> dict[str, Any]:
        """Take every key that was not asked for yet, for tables whose keys are free names."""
        left = {k: v for k, v in self._values.items() if k not in self._asked}
        self._asked.update(left)
        return left

    def has(self, key: str) -> bool:
        """Tell whether a key is present."""
        return key in self._values

    def done(self) -> None:
        """Refuse keys that were never asked for."""
        unknown = sorted(set(self._values) - self._asked)
        if unknown:
            known = ", ".join(sorted(self._asked))
            raise self.error(unknown[0], f"unknown key; known here: {known}")

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _typed(self, key: str, kind: type, expected: str, default: Any) -> Any:
        self._asked.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise self.error(key, f"missing; expected {expected}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"expected {expected}, not {value!r}")
        return value
