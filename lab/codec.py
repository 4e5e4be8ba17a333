"""Frozen dataclasses to JSON values and back, by one generic function each way [pure].

A dataclass becomes an object without the fields that have their default; a class that can
``parse`` its own text (Mark, Point) becomes that text; a tuple becomes an array, an Enum its value.
Where a type hint leaves several dataclasses open, ``type`` names the one it is.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from lab.errors import RecordError

T = TypeVar("T")
Code = Callable[[Any], Any]
TAG = "type"


class _Mismatch(Exception):
    """A value that does not fit; ``path`` grows on the way out, innermost key last."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.path: list[str] = []

    def within(self, key: str) -> _Mismatch:
        self.path.insert(0, key)
        return self

    def __str__(self) -> str:
        key = "".join(self.path).lstrip(".")
        return f"key {key!r}: {self.args[0]}" if key else str(self.args[0])


def encode(value: object, hint: Any = None) -> Any:
    """Return the JSON value of a dataclass, or of anything that ``hint`` describes."""
    known: Any = type(value) if hint is None else hint
    return _encoder(known)(value)


def decode(hint: type[T], value: Any, where: str = "", key: str = "") -> T:
    """Read a JSON value as ``hint``.

    Raises RecordError with ``where`` and the key at fault, which is counted from ``key``.
    """
    known: Any = hint
    try:
        return typing.cast("T", _decoder(known)(value))
    except _Mismatch as problem:
        problem.within(key)
        raise RecordError(f"{where}: {problem}" if where else str(problem)) from None


# --- to JSON -------------------------------------------------------------------------------------


@cache
def _encoder(hint: Any) -> Code:
    if is_dataclass(hint) and isinstance(hint, type):
        return lru_cache(maxsize=4096)(str) if hasattr(hint, "parse") else _object_encoder(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value: value.value
    if get_origin(hint) is tuple:
        return _tuple_encoder(get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return _union_encoder(get_args(hint))
    return lambda value: value


def _object_encoder(cls: type) -> Code:
    rows: list[tuple[str, Any, Code]] = []  # a class may contain itself: filled when first used

    def encode_object(value: Any) -> dict[str, Any]:
        if not rows:
            rows.extend((f.name, _default(f), _encoder(hint)) for f, hint in _hints(cls))
        found = {}
        for name, default, code in rows:
            part = getattr(value, name)
            if default is MISSING or part != default or type(part) is not type(default):
                found[name] = code(part)
        return found

    return encode_object


def _tuple_encoder(arguments: tuple[Any, ...]) -> Code:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        code = _encoder(arguments[0])
        return lambda value: [code(item) for item in value]
    codes = [_encoder(argument) for argument in arguments]
    return lambda value: [code(item) for code, item in zip(codes, value, strict=True)]


def _union_encoder(arguments: tuple[Any, ...]) -> Code:
    classes: list[Any] = [a for a in arguments if is_dataclass(a)]
    codes = {a: _encoder(a) for a in classes}
    others = [_encoder(a) for a in arguments if not is_dataclass(a) and a is not type(None)]
    plain = others[0] if others else _encoder(Any)

    def encode_union(value: Any) -> Any:
        code = codes.get(type(value))
        if code is None:
            return None if value is None else plain(value)
        return code(value) if len(classes) == 1 else {TAG: type(value).__name__, **code(value)}

    return encode_union


# --- from JSON -----------------------------------------------------------------------------------


@cache
def _decoder(hint: Any) -> Code:
    if is_dataclass(hint) and isinstance(hint, type):
        return _text_decoder(hint) if hasattr(hint, "parse") else _object_decoder(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum_decoder(hint)
    if get_origin(hint) is Literal:
        return _literal_decoder(get_args(hint))
    if get_origin(hint) is tuple:
        return _tuple_decoder(get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return _union_decoder(get_args(hint))
    return _plain_decoder(hint)


def _object_decoder(cls: type) -> Code:
    codes: dict[str, Code] = {}  # a class may contain itself: filled when first used
    required: list[str] = []

    def decode_object(value: Any) -> Any:
        if not codes:
            codes.update((f.name, _decoder(hint)) for f, hint in _hints(cls))
            required.extend(f.name for f, _ in _hints(cls) if _default(f) is MISSING)
        if type(value) is not dict:
            raise _Mismatch(f"expected an object ({cls.__name__}), not {_shown(value)}")
        found = {}
        name = ""
        try:
            for name, part in value.items():  # the error below names it
                found[name] = codes[name](part)
        except _Mismatch as problem:
            raise problem.within(f".{name}") from None
        except KeyError:
            known = ", ".join(codes)
            raise _Mismatch(f"unknown key; known here: {known}").within(f".{name}") from None
        return _made(cls, found, required)

    return decode_object


def _made(cls: type, found: dict[str, Any], required: list[str]) -> Any:
    for name in required:
        if name not in found:
            raise _Mismatch(f"missing in this {cls.__name__}").within(f".{name}")
    try:
        return cls(**found)
    except ValueError as problem:
        raise _Mismatch(str(problem)) from None


def _text_decoder(cls: Any) -> Code:
    @lru_cache(maxsize=4096)
    def parse(text: str) -> Any:
        try:
            return cls.parse(text)
        except ValueError as problem:
            raise _Mismatch(str(problem)) from None

    def decode_text(value: Any) -> Any:
        if type(value) is not str:
            raise _Mismatch(f"expected text ({cls.__name__}), not {_shown(value)}")
        return parse(value)

    return decode_text


def _enum_decoder(cls: type[Enum]) -> Code:
    def decode_enum(value: Any) -> Enum:
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(str(member.value) for member in cls)
            raise _Mismatch(f"{_shown(value)} is not one of {known}") from None

    return decode_enum


def _literal_decoder(known: tuple[Any, ...]) -> Code:
    kinds = {item: type(item) for item in known}

    def decode_literal(value: Any) -> Any:
        if type(value) in (list, dict) or kinds.get(value) is not type(value):
            listed = ", ".join(repr(item) for item in known)
            raise _Mismatch(f"{_shown(value)} is not one of {listed}")
        return value

    return decode_literal


def _tuple_decoder(arguments: tuple[Any, ...]) -> Code:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _array_decoder(_decoder(arguments[0]))
    codes = [_decoder(argument) for argument in arguments]

    def decode_tuple(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(codes):
            raise _Mismatch(f"expected an array of {len(codes)}, not {_shown(value)}")
        pairs = zip(codes, value, strict=True)
        return tuple(_item(code, item, n) for n, (code, item) in enumerate(pairs))

    return decode_tuple


def _array_decoder(code: Code) -> Code:
    def decode_array(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _Mismatch(f"expected an array, not {_shown(value)}")
        number = -1
        try:
            found = []
            for number, item in enumerate(value):  # noqa: B007 - the error below names it
                found.append(code(item))
        except _Mismatch as problem:
            raise problem.within(f"[{number}]") from None
        return tuple(found)

    return decode_array


def _item(code: Code, item: Any, number: int) -> Any:
    try:
        return code(item)
    except _Mismatch as problem:
        raise problem.within(f"[{number}]") from None


def _union_decoder(arguments: tuple[Any, ...]) -> Code:
    classes: list[Any] = [a for a in arguments if is_dataclass(a)]
    optional = type(None) in arguments
    others = [_decoder(a) for a in arguments if not is_dataclass(a) and a is not type(None)]
    if len(classes) > 1:
        return _tagged_decoder({a.__name__: _decoder(a) for a in classes}, optional)
    code = _decoder(classes[0]) if classes else others[0]
    return lambda value: None if optional and value is None else code(value)


def _tagged_decoder(codes: dict[str, Code], optional: bool) -> Code:
    def decode_tagged(value: Any) -> Any:
        if optional and value is None:
            return None
        if type(value) is not dict:
            raise _Mismatch(f"expected an object, not {_shown(value)}")
        rest = dict(value)
        name = rest.pop(TAG, None)
        if type(name) is not str or name not in codes:
            problem = f"{_shown(name)} is not one of {', '.join(codes)}"
            raise _Mismatch(problem).within(f".{TAG}")
        return codes[name](rest)

    return decode_tagged


def _plain_decoder(kind: Any) -> Code:
    expected = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
    if kind is type(None):
        expected[kind] = "null"
    if kind not in expected:
        raise TypeError(f"no JSON form for {kind!r}")

    def decode_plain(value: Any) -> Any:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        raise _Mismatch(f"expected {expected[kind]}, not {_shown(value)}")

    return decode_plain


# --- both ways -----------------------------------------------------------------------------------


def _hints(cls: type) -> list[tuple[Field[Any], Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in fields(cls)]


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
