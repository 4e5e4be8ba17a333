"""Which eBPF program wrote a mark between two namespaces' hooks.

A program at tc ingress runs before every netfilter hook, one at tc egress after them: their writes
show only at the next reading. A packet from another namespace comes in with mark 0 (veth erases
it); one that left through a veth pair inside the same namespace brings its mark along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
    Where no one program explains the change, the write has no rule.
    """
    first = next((e for e in found if isinstance(e, Reading)), None)
    if first is None or not lookups.programs:
        return
    here = [e for e in previous if isinstance(e, Reading)] if left_by is not None else []
    before = here[-1].mark if here else 0
    if before != first.mark:
        passed = {("ingress", _device(entered_by, devices, arriving=True))}
        if left_by is not None:
            passed.add(("egress", _device(left_by, devices, arriving=False)))
        rule = _writer(before, first, passed, lookups)
        yield Write(lookups.node, "ingress", FIRST, "mark", before, first.mark, rule)


def _device(one: Pass, devices: Mapping[int, str], *, arriving: bool) -> str:
    index = next((i for m in one.messages if (i := m.iif if arriving else m.oif)), 0)
    return devices.get(index, "")


def _writer(
    before: int, first: Reading, passed: set[tuple[str, str]], lookups: Lookups
) -> int | None:
    """Return the last program on the way whose write leads from the one mark to the other.

    A program of another device that redirects comes into question where none on the way does.
    """
    able = [
        (rule, program)
        for rule, program in lookups.programs
        if program.write is not None
        and program.may_match(before, first.source, first.destination)
        and program.write.apply(before) == first.mark
    ]
    here = [rule for rule, program in able if (program.hook, program.device) in passed]
    return next(iter((here or [rule for rule, program in able if program.target])[::-1]), None)
