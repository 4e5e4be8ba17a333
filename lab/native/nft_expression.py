"""nft's bitwise expressions on marks as one formula [pure].

``meta mark & 0xff00ffff ^ 0x40000`` is ``(mark & 0xff00ffff) ^ 0x40000``. As in nft, ``&`` binds
before ``^``, and ``^`` before ``|`` (nftables src/parser_bison.y, and_rhs_expr …).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.marks import WORD

_TOKEN = re.compile(
    r"\s*(?:(?P<source>meta mark|ct mark)\b|(?P<number>0x[0-9a-fA-F]+|\d+)\b"
    r"|(?P<operator>[&^|()]|and\b|or\b|xor\b))"
)
_OPERATORS = {"and": "&", "xor": "^", "or": "|"}
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


def bitwise(text: str) -> Expression | None:
    """Read an expression; None where it holds more than marks, numbers and ``& ^ |``."""
    tokens = _tokens(text)
    if tokens is None:
        return None
    try:
        found = _level(tokens, "|")
    except (IndexError, ValueError):
        return None
    return None if tokens else found


def _tokens(text: str) -> list[str] | None:
    found: list[str] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None or len(found) == _LONGEST:
            return None
        word = token[0].strip()
        found.append(_OPERATORS.get(word, word))
        position = token.end()
    return found or None


def _level(tokens: list[str], operator: str) -> Expression:
    below = {"|": "^", "^": "&"}.get(operator)
    value = _level(tokens, below) if below else _atom(tokens)
    while tokens and tokens[0] == operator:
        tokens.pop(0)
        value = _join(value, operator, _level(tokens, below) if below else _atom(tokens))
    return value


def _atom(tokens: list[str]) -> Expression:
    token = tokens.pop(0)
    if token == "(":
        inner = _level(tokens, "|")
        if tokens.pop(0) != ")":
            raise ValueError("expected ')'")
        return inner
    if token in ("meta mark", "ct mark"):
        return Expression(mark=WORD) if token == "meta mark" else Expression(ctmark=WORD)
    number = int(token, 0 if token.startswith("0x") else 10)
    if number > WORD:
        raise ValueError(f"{token} does not fit in 32 bits")
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
