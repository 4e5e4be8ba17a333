"""Which packet a tunnel's packet carries.

A trace message shows too little of it to tell. But packets are sent one at a time: where only one
was on its way, it is that one; of several, the one that came before the tunnel's packet where that
sets out, or after it where that ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lab.observe.passes import Pass

Step = dict[str, list[Pass]]


def told(step: Mapping[str, Sequence[Pass]], sent: bytes) -> Step:
    """Give the tunnels' packets of one step the identity of what they carry.

    ``step`` holds the passes of everything that was on its way together, per node; ``sent`` is the
    tag of the datagram that was, empty with TCP: eBPF may put a packet into a tunnel that was read
    nowhere before. A packet of which it cannot be told is left out: the recorder's notes show that
    it is missing.
    """
    alone = {p.headers.packet for passes in step.values() for p in passes if not p.headers.outer}
    alone = alone or {sent} - {b""}
    known = next(iter(alone)) if len(alone) == 1 else None
    return {node: list(_named(passes, known)) for node, passes in step.items()}


def _named(passes: Sequence[Pass], known: bytes | None) -> Iterator[Pass]:
    for number, one in enumerate(passes):
        if one.headers.outer and not one.lines:  # legacy tables log enough of it
            packet = known or _neighbour(passes, number)
            one.headers = one.headers._replace(packet=packet)
        if one.headers.packet:
            yield one


def _neighbour(passes: Sequence[Pass], number: int) -> bytes:
    """Return what was read before a packet that sets out, after one that arrives."""
    if passes[number].hook in ("output", "postrouting"):
        return next((p.headers.packet for p in reversed(passes[:number]) if not p.lines), b"")
    after = (p for p in passes[number:] if not p.headers.outer and not p.lines)
    return next((p.headers.packet for p in after), b"")
