"""nft's bitwise expressions on marks as one formula [pure].

``meta mark & 0xff00ffff ^ 0x40000`` is ``(mark & 0xff00ffff) ^ 0x40000``. As in nft, ``&`` binds
before ``^``, and ``^`` before ``|`` (nftables src/parser_bison.y, and_rhs_expr …).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.marks import WORD

_TOKEN = re.compile(
    r"\s*(?:(?P<mark>(?:meta )?mark\b)|(?P<ctmark>ct mark\b)"
    r"|(?P<number>(?:0x[0-9a-fA-F]+|\d+)(?![\w.:/]))|(?P<operator>[&|^()]|(?:and|or|xor)\b))"
)
_OPERATORS = {"and": "&", "xor": "^", "or": "|"}
_BELOW = {"|": "^", "^": "&"}
_LONGEST = 64
"""Tokens that an expression on marks may have; nobody writes more."""


@dataclass(frozen=True, slots=True)
class Expression:
    """``(mark & self.mark) ^ (ctmark & self.ctmark) ^ self.constant``."""

    mark: int = 0
    ctmark: int = 0
    constant: int = 0

    @property
    def is_constant(self) -> bool:
        """Tell whether no mark is read."""
        return not self.mark and not self.ctmark


def read(text: str, start: int = 0) -> tuple[Expression | None, int]:
    """Read the expression that begins at ``start``, and tell where it ends.

    None where it holds more than marks, numbers and ``& ^ |``; what follows its end is for the
    caller to judge.
    """
    reading = _Reading(text, start)
    try:
        return _level(reading, "|"), reading.position
    except ValueError:
        return None, reading.position


def bitwise(text: str) -> Expression | None:
    """Read an expression and nothing else; None where there is more."""
    found, end = read(text)
    return None if text[end:].strip() else found


class _Reading:
    """A text, how far it has been read, and the token that comes next."""

    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position
        self.left = _LONGEST
        self.kind, self.word = "", ""
        self._look()

    def _look(self) -> None:
        found = _TOKEN.match(self.text, self.position)
        self.kind = (found.lastgroup or "") if found else ""
        self.word = found[0].strip() if found else ""
        self.word = _OPERATORS.get(self.word, self.word)
        self._end = found.end() if found else self.position

    def take(self) -> tuple[str, str]:
        """Return the next token's kind and text, and step over it."""
        self.left -= 1
        if self.left < 0:
            raise ValueError("an expression of too many parts")
        taken = self.kind, self.word
        self.position = self._end
        self._look()
        return taken


def _level(reading: _Reading, operator: str) -> Expression:
    value = _operand(reading, operator)
    while reading.kind == "operator" and reading.word == operator:
        reading.take()
        value = _join(value, operator, _operand(reading, operator))
    return value


def _operand(reading: _Reading, operator: str) -> Expression:
    below = _BELOW.get(operator)
    return _level(reading, below) if below else _atom(reading)


def _atom(reading: _Reading) -> Expression:
    kind, word = reading.take()
    if word == "(":
        inner = _level(reading, "|")
        if reading.take()[1] != ")":
            raise ValueError("expected ')'")
        return inner
    if kind == "mark":
        return Expression(mark=WORD)
    if kind == "ctmark":
        return Expression(ctmark=WORD)
    if kind != "number":
        raise ValueError(f"expected a mark or a number, not {word!r}")
    number = int(word, 0 if word.startswith("0x") else 10)
    if number > WORD:
        raise ValueError(f"{word} does not fit in 32 bits")
    return Expression(constant=number)


def _join(left: Expression, operator: str, right: Expression) -> Expression:
    if operator == "^":
        return Expression(
            left.mark ^ right.mark, left.ctmark ^ right.ctmark, left.constant ^ right.constant
        )
    if not right.is_constant:
        left, right = right, left
    if not right.is_constant:
        raise ValueError("two marks joined bit by bit")
    return _with_constant(left, operator, right.constant)


def _with_constant(left: Expression, operator: str, bits: int) -> Expression:
    kept = bits if operator == "&" else WORD & ~bits
    xor = 0 if operator == "&" else bits
    return Expression(left.mark & kept, left.ctmark & kept, (left.constant & kept) ^ xor)
