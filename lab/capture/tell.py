"""How a captured host was divided, told to a person and to a machine [pure]."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lab.capture.listed import Item, Kind
from lab.capture.owners import Divided, Owner

_SHOWN = 12
"""So many lines of one kind are shown unless all are asked for."""
_KINDS: dict[Kind, tuple[str, str]] = {
    "iptables": ("rule", "rules"),
    "nft": ("nft rule", "nft rules"),
    "policy": ("policy rule", "policy rules"),
    "route": ("route", "routes"),
    "default": ("default policy", "default policies"),
}


def lines(host: Divided, everything: bool = False) -> Iterator[str]:
    """Yield what was found, whose it is, and what stands for what: before anything is run."""
    total = sum(len(owner.party.items) for owner in host.owners)
    yield f"{host.source}: {total} lines of {_count(len(host.owners), 'owner', 'owners')}"
    width = max((len(_name(owner)) for owner in host.owners), default=0)
    for owner in host.owners:
        if owner.party.entry:
            yield f"  {_name(owner):<{width}}  {_counts(owner.party.items)}{_nearness(owner)}"
    yield from _unplaced(host, width, everything)
    yield from _strange(host, everything)
    yield from _mapping(host)
    for note in host.notes:
        yield f"  note        {note}"
    yield from _left_out(host, everything)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _name(owner: Owner) -> str:
    if owner.party.entry is None:
        return owner.party.name
    mode = "" if owner.software.default_mode else f" ({owner.software.mode})"
    return f"{owner.software.name} {owner.software.release}{mode}"


def _counts(items: Sequence[Item]) -> str:
    found = Counter(item.kind for item in items)
    return ", ".join(_count(found[kind], *words) for kind, words in _KINDS.items() if found[kind])


def _nearness(owner: Owner) -> str:
    """Say how near the host is to the release that was taken for it."""
    party = owner.party
    told = []
    if party.rivals:
        told.append(f"as {' and '.join(_release(title) for title in party.rivals)} would")
    if party.strange:
        told.append(f"{_count(len(party.strange), 'line is', 'lines are')} in no release we know")
    if party.missing:
        told.append(f"{party.missing} of its rules are not here")
    return f"; {', '.join(told)}" if told else ""


def _release(title: str) -> str:
    _, _, rest = title.partition("@")
    release, _, mode = rest.partition(":")
    return f"{release} ({mode})"


def _unplaced(host: Divided, width: int, everything: bool) -> Iterator[str]:
    rest = [owner for owner in host.owners if owner.party.entry is None]
    if rest:
        yield "  not of any program we know, and judged as owners of their own:"
    for owner in rest:
        yield f"  {_name(owner):<{width}}  {_counts(owner.party.items)}; owns {owner.owned}"
        yield from _places(host, owner.party.items, everything)


def _strange(host: Divided, everything: bool) -> Iterator[str]:
    for owner in host.owners:
        if owner.party.strange:
            yield f"  in no release of {owner.software.name} that we know:"
            yield from _places(host, owner.party.strange, everything)


def _places(host: Divided, items: Sequence[Item], everything: bool) -> Iterator[str]:
    shown = items if everything else items[:_SHOWN]
    for item in shown:
        chain = "" if item.kind == "iptables" else f"{item.table} {item.chain} ".lstrip()
        where = f"{item.table}: " if item.kind == "iptables" else chain if item.native else ""
        yield f"      {host.source}:{item.file}:{item.line}: {where}{item.text}"
    if len(shown) < len(items):
        yield f"      … and {len(items) - len(shown)} more (-v shows them)"


def _mapping(host: Divided) -> Iterator[str]:
    if host.mapping.devices:
        pairs = "  ".join(f"{name}={role}" for name, role in host.mapping.devices)
        yield f"  interfaces  {pairs}"
    if host.mapping.addresses:
        pairs = "  ".join(f"{name}={role}" for name, role in host.mapping.addresses)
        yield f"  addresses   {pairs}"
    if host.foreign:
        more = ", …" if len(host.foreign) > 8 else ""
        yield (
            f"  kept as is  {', '.join(host.foreign[:8])}{more}  "
            "(nothing here has that name; see --map)"
        )


def _left_out(host: Divided, everything: bool) -> Iterator[str]:
    shown = host.left_out if everything else host.left_out[:_SHOWN]
    for one in shown:
        yield f"  LEFT OUT    {one}"
    if len(shown) < len(host.left_out):
        yield f"  LEFT OUT    … and {len(host.left_out) - len(shown)} more (-v shows them)"


def content(host: Divided) -> dict[str, Any]:
    """Return the same as JSON values."""
    return {
        "source": host.source,
        "owners": [_owner(owner) for owner in host.owners],
        "interfaces": dict(host.mapping.devices),
        "addresses": dict(host.mapping.addresses),
        "kept_as_is": list(host.foreign),
        "notes": list(host.notes),
        "left_out": [
            {"place": one.place, "text": one.text, "reason": one.reason} for one in host.left_out
        ],
    }


def _owner(owner: Owner) -> dict[str, Any]:
    party = owner.party
    return {
        "name": party.name,
        "title": owner.software.title,
        "known": party.entry is not None,
        "as_well": list(party.rivals),
        "lines": len(party.items),
        "places": [f"{item.file}:{item.line}" for item in party.items],
        "strange": [f"{item.file}:{item.line}" for item in party.strange],
        "missing": party.missing,
        "owns": None if owner.owned is None else str(owner.owned),
    }
