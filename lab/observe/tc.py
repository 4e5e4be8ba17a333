"""Which eBPF program wrote a mark between two namespaces' hooks, or ended a packet's way there.

A program at tc ingress runs before every netfilter hook, one at tc egress after them: their writes
show only at the next reading. A packet from another namespace comes in with mark 0 (veth erases
it); one that left through a veth pair inside the same namespace brings its mark along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.native.bpf_text import Program
from lab.observe.assemble import Lookups
from lab.observe.passes import Pass
from lab.points import FIRST
from lab.record import Event, Reading, Write


def entering(
    found: list[Event],
    previous: list[Event],
    left_by: Pass | None,
    entered_by: Pass,
    lookups: Lookups,
    devices: Mapping[int, str],
) -> Iterator[Write]:
    """Yield the write that programs made on a packet before its first reading in ``found``.

    ``left_by`` is its last pass through the same namespace, None if it comes from another one.
    Where no one program explains the change, the write has no rule: a tunnel's device marks what it
    sends as well.
    """
    first = next((e for e in found if isinstance(e, Reading)), None)
    if first is None or not (lookups.programs or first.outer):
        return
    here = [e for e in previous if isinstance(e, Reading)] if left_by is not None else []
    before = here[-1].mark if here else 0
    if before != first.mark:
        passed = {("ingress", _device(entered_by, devices, arriving=True))}
        if left_by is not None:
            passed.add(("egress", _device(left_by, devices, arriving=False)))
        rule = _writer(before, first, passed, lookups)
        yield Write(lookups.node, "ingress", FIRST, "mark", before, first.mark, rule)


def dropped(
    left_by: Pass, last: Reading, lookups: Lookups, devices: Mapping[int, str]
) -> int | None:
    """Return the program that drops a packet at the egress of the device it left by, if any."""
    device, headers = _device(left_by, devices, arriving=False), left_by.headers
    addresses, ports = (last.source, last.destination), (headers.source_port, headers.port)
    for rule, program in lookups.programs:
        here = (program.hook, program.device) == ("egress", device)
        if here and program.verdict == "drop" and program.may_match(last.mark, *addresses, ports):
            return rule
    return None


def _device(one: Pass, devices: Mapping[int, str], *, arriving: bool) -> str:
    index = next((i for m in one.messages if (i := m.iif if arriving else m.oif)), 0)
    return devices.get(index, "")


def _writer(
    before: int, first: Reading, passed: set[tuple[str, str]], lookups: Lookups
) -> int | None:
    """Return the last program on the way whose write leads from the one mark to the other.

    A program of another device that redirects comes into question where none on the way does, and
    then what a device's egress did to a packet redirected there.
    """
    addresses = ("", "") if first.outer else (first.source, first.destination)
    able = [
        (rule, program)
        for rule, program in lookups.programs
        if program.may_match(before, *addresses) and _after(program, before) == first.mark
    ]
    here = [rule for rule, program in able if (program.hook, program.device) in passed]
    found = here or [rule for rule, program in able if program.target]
    found = found or list(_after_redirect(before, first.mark, addresses, lookups))
    return found[-1] if found else None


def _after(program: Program, mark: int) -> int | None:
    return program.write.apply(mark) if program.write else None


def _after_redirect(
    before: int, after: int, addresses: tuple[str, str], lookups: Lookups
) -> Iterator[int]:
    for _, program in lookups.programs:
        if not program.target or not program.may_match(before, *addresses):
            continue
        between = program.write.apply(before) if program.write else before
        for rule, other in lookups.programs:
            there = (other.hook, other.device) == ("egress", program.target)
            if there and other.may_match(between) and _after(other, between) == after:
                yield rule
