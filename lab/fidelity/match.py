"""Finding one set of listed rules in another, chain by chain and in order [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.fidelity.shape import shape, without_comment
from lab.native.rule import Rule


@dataclass(frozen=True, slots=True)
class Match:
    """``found`` and ``missing`` are theirs; ``positions`` are those of ours that were found."""

    found: tuple[Rule, ...]
    missing: tuple[Rule, ...]
    positions: frozenset[int]


def match(theirs: Iterable[Rule], ours: Sequence[Rule], exact: bool = False) -> Match:
    """Look for each of their rules in our chain of that name, after the one found before it.

    Unless ``exact``, addresses and devices may differ. A rule that the kernel did not list is
    never found.
    """
    found: list[Rule] = []
    missing: list[Rule] = []
    positions: list[int] = []
    after: dict[tuple[str, str], int] = {}
    for rule in theirs:
        chain = (rule.table, rule.chain)
        position = _position(rule, ours, after.get(chain, 0), exact)
        if position is None:
            missing.append(rule)
        else:
            after[chain] = position + 1
            positions.append(position)
            found.append(rule)
    return Match(tuple(found), tuple(missing), frozenset(positions))


def said(rule: Rule) -> str:
    """Write a rule with its table and chain, without its comment."""
    text = without_comment(rule.listed or rule.written)
    return f"{rule.table}: {text}" if text.startswith("-A ") else f"{rule.where}: {text}"


def _position(rule: Rule, ours: Sequence[Rule], start: int, exact: bool) -> int | None:
    compared = without_comment if exact else shape
    wanted = compared(rule.listed)
    for position, candidate in enumerate(ours[start:], start):
        same_chain = (candidate.table, candidate.chain) == (rule.table, rule.chain)
        if same_chain and rule.listed and compared(candidate.listed) == wanted:
            return position
    return None
