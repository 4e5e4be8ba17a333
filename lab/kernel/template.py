"""The recorder's table: read by nft once, put in anywhere afterwards.

libnftables takes milliseconds to read a ruleset, and the recorder's is installed in every namespace
of every experiment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

from lab.kernel import tables
from lab.kernel.netlink import Netfilter
from lab.kernel.netns import Netns, assert_not
from lab.kernel.nftables import Nft
from lab.kernel.tables import Part

_INET = 1
# With the attribute that holds the name, of a rule its chain's.
_PARTS = (Part.TABLE, 1), (Part.SET, 2), (Part.CHAIN, 3), (Part.RULE, 2)
_CHAINS = re.compile(r"\bchain (\S+) \{")


@dataclass(frozen=True, slots=True)
class Parts:
    """The messages that make a ruleset, in this order."""

    tables: tuple[bytes, ...]
    sets: tuple[bytes, ...]
    chains: tuple[bytes, ...]
    rules: tuple[bytes, ...]


def transaction(frame: str, chains: Sequence[str], home: Netns) -> bytes:
    """Return what installs one table of the family ``inet`` in one transaction.

    ``frame`` is the table with its sets; each of ``chains`` has one chain, in a table with the same
    sets but for their size. Those that were read before, in whatever company, are not read again.
    The calling thread is in ``home`` again afterwards. Raises OSError where nft does not take them.
    """
    known = _known()
    if frame not in known:
        known |= _read([frame], home)
    if unread := [chain for chain in chains if chain not in known]:
        known |= _read(unread, home)
    parts = [known[chain] for chain in chains]
    messages = (
        *known[frame].tables,
        *known[frame].sets,
        *(message for part in parts for message in part.chains),
        *(message for part in parts for message in part.rules),
    )
    return tables.transaction(messages)


@lru_cache(maxsize=1)
def _known() -> dict[str, Parts]:
    return {}


def _read(rulesets: Sequence[str], home: Netns) -> dict[str, Parts]:
    """Install rulesets in a namespace that is thrown away, and read back what each has become."""
    scratch = Netns.create("template")
    try:
        assert_not(home.inode)
        _install("".join(rulesets))
        with closing(Netfilter()) as socket:
            every, sets, chains, rules = (_dumped(socket, *part) for part in _PARTS)
    finally:
        home.enter()
        scratch.close()
    shared = tuple(message for _, message in every), tuple(message for _, message in sets)
    return {
        ruleset: Parts(*shared, _of(names, chains), _of(names, rules))
        for ruleset in rulesets
        for names in [{f"{name}\0".encode() for name in _CHAINS.findall(ruleset)}]
    }


def _install(rulesets: str) -> None:
    with closing(Nft()) as nft:
        _, error = nft.run(rulesets)
    if error:
        raise OSError(0, error)


def _of(names: set[bytes], dumped: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    return tuple(message for name, message in dumped if name in names)


def _dumped(socket: Netfilter, part: Part, name: int) -> list[tuple[bytes, bytes]]:
    """List what there is of one kind: the chain's name, and the message that makes it."""
    found = tables.dump(socket, part, _INET)
    return [(one[name], tables.made(part, _INET, one)) for one in found]
