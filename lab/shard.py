"""``--lab-shard i/n``: one of n parts of the tests, the same on every machine [pure]."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

from lab.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``number`` (from 1) of ``total``."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/4``. Raises UsageError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.total:
            raise UsageError(f"{text!r} is no part of the tests; expected i/n, such as 1/4 … 4/4")
        return shard

    def holds(self, name: str) -> bool:
        """Tell whether what is called ``name`` belongs to this part; exactly one part has it."""
        return crc32(name.encode()) % self.total == self.number - 1
