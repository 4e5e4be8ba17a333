"""A shard is the same part of the tests on every machine, and the parts are the whole."""

from __future__ import annotations

import pytest

from lab.errors import UsageError
from lab.pairs import current, pairs
from lab.plugin import entries
from lab.shard import Shard


@pytest.mark.parametrize("total", [1, 2, 7])
def test_every_name_belongs_to_exactly_one_shard(total: int) -> None:
    """Nothing is run twice, and nothing is left out."""
    shards = [Shard(number, total) for number in range(1, total + 1)]
    for one, other in pairs(current(entries())):
        assert sum(s.holds(f"{one.title}+{other.title}") for s in shards) == 1


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    """With the form that was expected."""
    with pytest.raises(UsageError, match="expected i/n"):
        Shard.parse(text)


def test_a_part_is_read_as_it_is_written() -> None:
    """Counted from 1."""
    assert Shard.parse("2/4") == Shard(2, 4)
