"""Attach eBPF programs, written in the lab's own small language, at tc hooks."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache

from lab.errors import EntryError, RuleRefused
from lab.kernel import bpf
from lab.native.bpf_code import assemble
from lab.native.bpf_text import Program, parse
from lab.native.lines import Line, lines
from lab.registry.software import Ruleset
from lab.rules.installed import Installed, of_line


def install(software: str, ruleset: Ruleset, installed: Installed) -> None:
    """Load and attach every line of one ruleset in the current namespace.

    Programs of one hook run in the order of installation. Raises EntryError for a line that is no
    program, RuleRefused with the end of the verifier's log for one the kernel does not take, and
    UnsupportedError where this user may not load any.
    """
    programs = tuple(_programs(ruleset))
    with closing(bpf.Hooks()) as hooks:
        for line, program in programs:
            with _refusals(line, ruleset):
                hooks.make_ready(program.device)
        for line, program in programs:
            table = f"tc {program.hook} {program.device}"
            before = sum(rule.tool == "bpf" and rule.table == table for rule in installed.others)
            with _refusals(line, ruleset):
                _attach(hooks, program, before + 1)
            installed.others.append(of_line(software, ruleset, line, table))


def _programs(ruleset: Ruleset) -> Iterator[tuple[Line, Program]]:
    for line in lines(ruleset.text, ruleset.source):
        try:
            yield line, parse(line.text)
        except ValueError as problem:
            raise EntryError(f"{_place(ruleset, line)}: {problem}") from None


def _attach(hooks: bpf.Hooks, program: Program, priority: int) -> None:
    target = socket.if_nametoindex(program.target) if program.target else 0
    loaded = bpf.kept(_assembled(program, target))
    hooks.attach(loaded.fd, program.device, program.hook, priority)


@contextmanager
def _refusals(line: Line, ruleset: Ruleset) -> Iterator[None]:
    try:
        yield
    except bpf.Refused as problem:
        raise RuleRefused(
            f"{_place(ruleset, line)}: the kernel's verifier refused {line.text!r}: {problem}"
        ) from None
    except OSError as problem:
        raise RuleRefused(
            f"{_place(ruleset, line)}: tc refused {line.text!r}: {problem.strerror}"
        ) from None


@lru_cache(maxsize=256)
def _assembled(program: Program, target: int) -> bytes:
    return assemble(program, {program.target: target} if program.target else {})


def _place(ruleset: Ruleset, line: Line) -> str:
    return f"{ruleset.file}:{ruleset.line + line.number}"
