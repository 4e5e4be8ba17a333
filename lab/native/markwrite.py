"""Which bits a rule writes, read from its text [pure].

Understands iptables (MARK, CONNMARK, TPROXY), nft ``meta mark set`` and ``ct mark set``, and
``mark = …`` of the lab's eBPF lines. The counterpart of :mod:`lab.native.marktest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from lab.marks import WORD, Mark
from lab.traffic.flow import Field

_TARGET = re.compile(r"(?:-j|--jump) (MARK|CONNMARK)\b(?P<rest>.*)")
_SETS = re.compile(r"--(set-mark|set-xmark|or-mark|and-mark|xor-mark) (\S+)")
_COPIES = re.compile(r"--(save|restore)-mark")
_MASK = re.compile(r"--(nfmask|ctmask|mask) (\S+)")
_TPROXY = re.compile(r"(?:-j|--jump) TPROXY\b.*--tproxy-mark (\S+)")
_TERM = r"(?:(?:meta |ct )?mark|0x[0-9a-fA-F]+|\d+|\{\{[^}]*\}\}|\S+)"
_EXPRESSION = rf"{_TERM}(?: (?:[&|^]|and|or|xor) {_TERM})*"
_NFT = re.compile(rf"(?:\b(meta|ct) )?\bmark set ({_EXPRESSION})")
_BPF = re.compile(r"^tc (?:ingress|egress) .*?: .*?\bmark = (?P<expression>[^,]+?)(?: if |,|$)")
_NUMBER = re.compile(r"~?\s*(?:0x[0-9a-fA-F]+|\d+)")
_WORDS = {" and ": " & ", " or ": " | ", " xor ": " ^ "}


@dataclass(frozen=True, slots=True)
class MarkWrite:
    """A write to the packet mark or ctmark.

    ``changes`` are the bits that may come out otherwise, whatever stood there; ``sets`` are the
    bits that the rule itself can set. ``copies`` are those that it takes from the other field.
    """

    field: Field
    changes: int
    sets: int
    copies: int = 0


def writes(text: str) -> Iterator[MarkWrite]:
    """Yield the writes of a rule's text; nothing if it writes no mark."""
    if found := _TARGET.search(text):
        yield from _target("mark" if found[1] == "MARK" else "ctmark", found["rest"])
    for mark in _TPROXY.findall(text):
        yield _masked("mark", Mark.parse(mark))
    if text.startswith("tc "):
        if program := _BPF.match(text):
            yield _expression("mark", program["expression"])
        return
    for kind, expression in _NFT.findall(text):
        yield _expression("ctmark" if kind == "ct" else "mark", expression)


def _target(field: Field, options: str) -> Iterator[MarkWrite]:
    for verb, value in _SETS.findall(options):
        yield _set(field, verb, value)
    for verb in _COPIES.findall(options):
        masks = {name: int(value, 0) for name, value in _MASK.findall(options)}
        both = masks.get("mask", WORD)
        packet, connection = masks.get("nfmask", both), masks.get("ctmask", both)
        target, source = (connection, packet) if verb == "save" else (packet, connection)
        yield MarkWrite("ctmark" if verb == "save" else "mark", target | source, 0, source)


def _set(field: Field, verb: str, value: str) -> MarkWrite:
    if verb == "and-mark":
        return MarkWrite(field, ~int(value, 0) & WORD, 0)
    if verb in ("or-mark", "xor-mark"):
        return MarkWrite(field, int(value, 0), int(value, 0))
    return _masked(field, Mark.parse(value))


def _masked(field: Field, mark: Mark) -> MarkWrite:
    return MarkWrite(field, mark.mask | mark.value, mark.value)


def _expression(field: Field, text: str) -> MarkWrite:
    """Try an expression on all-clear and all-set words: every bit goes its own way."""
    plain = re.sub(r"(?<!ct )(?<!meta )\bmark\b", "meta mark", text)
    own, other = ("meta mark", "ct mark") if field == "mark" else ("ct mark", "meta mark")
    results = {
        (mine, theirs): _value(plain, {own: mine, other: theirs})
        for mine in (0, WORD)
        for theirs in (0, WORD)
    }
    if None in results.values():
        return MarkWrite(field, WORD, WORD)  # from a map or a number generator: any word
    known = {key: value or 0 for key, value in results.items()}
    changes = known[0, 0] | known[0, WORD] | ~known[WORD, 0] | ~known[WORD, WORD]
    return MarkWrite(field, changes & WORD, known[0, 0], known[0, 0] ^ known[0, WORD])


def _value(text: str, words: dict[str, int]) -> int | None:
    """Evaluate ``|``, ``^`` and ``&``, which binds closest, from left to right."""
    for word, sign in _WORDS.items():
        text = text.replace(word, sign)
    return _either([_both(part, words) for part in text.split("|")])


def _either(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return reduce(lambda a, b: a | b, known) if len(known) == len(values) else None


def _both(text: str, words: dict[str, int]) -> int | None:
    result = 0
    for part in text.split("^"):
        factors = [_factor(factor.strip(), words) for factor in part.split("&")]
        known = [factor for factor in factors if factor is not None]
        if len(known) < len(factors):
            return None
        result ^= reduce(lambda a, b: a & b, known)
    return result


def _factor(text: str, words: dict[str, int]) -> int | None:
    if text in words:
        return words[text]
    if not _NUMBER.fullmatch(text):
        return None
    number = int(text.removeprefix("~"), 0)
    return ~number & WORD if text.startswith("~") else number
