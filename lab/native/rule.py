"""One rule of one software: as written, as the kernel lists it, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in a chain, a policy rule or a sysctl; ``line`` is the line of ``file``."""

    software: str
    tool: str
    table: str
    chain: str
    written: str
    listed: str = ""
    source: str = ""
    file: str = ""
    line: int = 0

    @property
    def where(self) -> str:
        """Name table and chain, as ``mangle cali-POSTROUTING``."""
        return f"{self.table} {self.chain}".strip()

    def __str__(self) -> str:
        return f"{self.software}, {self.where}: {self.listed or self.written}"
