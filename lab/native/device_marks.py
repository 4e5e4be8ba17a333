"""Marks in tc's filters and actions and in xfrm's policies and states [pure].

Both as commands and as ``tc filter show`` and ``ip xfrm`` print them, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.marks import WORD, Mark
from lab.native import bpf_text
from lab.native.marktest import MarkTest
from lab.native.markwrite import MarkWrite

_NUMBER = r"(?:0x[0-9a-fA-F]+|\d+)"
_FW = re.compile(rf"\bhandle ({_NUMBER}(?:/{_NUMBER})?) (?:.* )?fw\b|\bfw (?:.* )?handle (\S+)")
_U32 = re.compile(rf"\bmatch mark ({_NUMBER}) ({_NUMBER})")
_SKBEDIT = re.compile(rf"\bskbedit\b.*? mark ({_NUMBER}(?:/{_NUMBER})?)")
_CONNMARK = re.compile(r"\baction (?:order \d+: +)?connmark\b")
_CTINFO = re.compile(rf"\bctinfo\b.*? cpmark(?: ({_NUMBER}))?")
_XFRM = re.compile(
    rf"(?:^|(?<= ))(?P<kind>output-mark|set-mark|mark) (?P<value>{_NUMBER})"
    rf"(?:(?:/| mask )(?P<mask>{_NUMBER}))?"
)


def tc_tests(text: str) -> Iterator[MarkTest]:
    """Yield the comparisons of a tc filter: the fw classifier's and u32's ``match mark``."""
    for before, after in _FW.findall(text):
        yield MarkTest("mark", Mark.parse(before or after), True)
    for value, mask in _U32.findall(text):
        yield MarkTest("mark", Mark(int(value, 0), int(mask, 0)), True)


def tc_writes(text: str) -> Iterator[MarkWrite]:
    """Yield what tc's actions write.

    ``connmark`` and ``ctinfo cpmark`` store the whole word: net/sched/act_connmark.c,
    net/sched/act_ctinfo.c.
    """
    for value in _SKBEDIT.findall(text):
        mark = Mark.parse(value)
        yield MarkWrite("mark", WORD & ~mark.mask, xor=mark.value & mark.mask, written=mark)
    for _ in _CONNMARK.findall(text):
        yield MarkWrite("mark", 0, copies=WORD, form="connmark")
    for mask in _CTINFO.findall(text):
        yield MarkWrite("mark", 0, copies=int(mask, 0) if mask else WORD, form="cpmark")


def xfrm_tests(text: str) -> Iterator[MarkTest]:
    """Yield the marks by which a policy or a state is looked up."""
    for kind, mark in _xfrm(text):
        if kind == "mark":
            yield MarkTest("mark", mark, True)


def xfrm_writes(text: str) -> Iterator[MarkWrite]:
    """Yield the marks that a state gives to what it has transformed (xfrm_smark_get)."""
    for kind, mark in _xfrm(text):
        if kind != "mark":
            yield MarkWrite("mark", WORD & ~mark.mask, xor=mark.value & mark.mask, written=mark)


def _xfrm(text: str) -> Iterator[tuple[str, Mark]]:
    for found in _XFRM.finditer(text):
        mask = int(found["mask"], 0) if found["mask"] else WORD
        yield found["kind"], Mark(int(found["value"], 0), mask)


def program_tests(text: str) -> Iterator[MarkTest]:
    """Yield the comparisons of one of the lab's eBPF lines. Raises ValueError."""
    for condition in bpf_text.parse(text).conditions:
        if isinstance(condition, bpf_text.MarkIs):
            yield MarkTest("mark", Mark(condition.value, condition.mask), condition.equal)
