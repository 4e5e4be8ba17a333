"""From a captured host to software that can be judged: one for each owner of its rules [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lab.capture import flows as generic
from lab.capture import mapping as maps
from lab.capture import roles, texts
from lab.capture.archive import Gap
from lab.capture.bits import Owned, owned
from lab.capture.known import Known
from lab.capture.listed import RULESET, Item, items
from lab.capture.mapping import Mapping as Roles
from lab.capture.parse import RELEASE, plain
from lab.capture.shapes import key, shape
from lab.capture.split import Party, families, split
from lab.capture.sysctls import settings
from lab.errors import UsageError
from lab.lint.model import Subject
from lab.lint.parse import Collected
from lab.native.normal_policy import command, part, route_command
from lab.registry.placeholders import fill
from lab.registry.software import Allocation, Ruleset, Software
from lab.scenario import Variant
from lab.topology import library
from lab.traffic.flow import FAMILIES, Family, Flow

_SAVED = (
    "iptables-nft.save",
    "ip6tables-nft.save",
    "iptables-legacy.save",
    "ip6tables-legacy.save",
)
_KINDS = {"iptables": "iptables", "nft": "nft", "policy": "policy", "route": "policy"}
_MADE = ("link", "address", "addr", "neigh", "neighbour", "tunnel", "xfrm")
_FILTER = re.compile(r"\s*filter .*\b(?:bpf|flower|u32|fw|basic|matchall)\b")
_TOLD = 100
"""So many foreign addresses are looked for: a person is shown a few."""
_XFRM_MARK = re.compile(r"\bmark 0x(?!0+/)")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A line of a host that is not installed here, and why."""

    place: str
    text: str
    reason: str

    def __str__(self) -> str:
        shown = f"{self.text.strip()!r}: " if self.text else ""
        return f"{self.place}: {shown}{self.reason}"


@dataclass(frozen=True, slots=True)
class Owner:
    """One party as software; ``owned`` tells the bits of one that no entry explains.

    ``spare`` are flows through every hook of an entry's rules, for a host on which its own flows
    do not hold.
    """

    party: Party
    software: Software
    owned: Owned | None = None
    spare: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class Divided:
    """A host, divided: its owners in the order of installation, and all a person should know."""

    source: str
    owners: tuple[Owner, ...]
    mapping: Roles
    foreign: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    sysctls: tuple[tuple[str, str], ...]
    families: tuple[Family, ...]
    variant: Variant

    @property
    def software(self) -> tuple[Software, ...]:
        """List the owners' software."""
        return tuple(owner.software for owner in self.owners)


def divided(
    source: str,
    files: Mapping[str, str],
    registry: Sequence[Known],
    asked: Roles,
    owns: Mapping[str, str],
) -> Divided:
    """Divide a host's files among its owners. Raises LabError with file and line.

    ``registry`` is what may be found there; ``asked`` is what --map, ``owns`` what --owns asked
    for, by owner.
    """
    try:
        found = items(files)
    except UsageError as problem:
        raise UsageError(f"{source}:{problem}") from None
    parties = split(found, registry)
    sysctls = [item for item in found if item.kind == "sysctl"]
    divider = _Divider(source, files, parties, registry, sysctls, asked)
    return divider.divided([item for item in found if item.kind != "sysctl"], owns)


class _Divider:
    def __init__(
        self,
        source: str,
        files: Mapping[str, str],
        parties: tuple[Party, ...],
        registry: Sequence[Known],
        sysctls: Sequence[Item],
        asked: Roles,
    ) -> None:
        self._source, self._files, self._parties = source, files, parties
        learned = roles.mapping(parties, registry, files, asked)
        self._mapping = _guessed(learned, [i for p in parties for i in p.items], parties)
        here = [k for k in registry if any(k.entry == p.entry for p in parties)]
        self._settings: dict[str, set[str]] = {}
        for item in sysctls:
            ((name, value),) = shape("sysctl", item.normal)
            self._settings.setdefault(name, set()).add(value)
        self._env = [i for i in sysctls if not any(key(i) in k.rules for k in here)]
        self._notes: list[str] = []
        self._left_out: list[LeftOut] = []

    def divided(self, found: Sequence[Item], owns: Mapping[str, str]) -> Divided:
        owners = tuple(self._owner(party, found, owns) for party in self._parties)
        self._attached(owners)
        variants = {i.variant for i in found if i.kind in ("iptables", "default") and not i.native}
        variant: Variant = "legacy" if variants == {"legacy"} else "nft"
        return Divided(
            self._source,
            owners,
            self._mapping,
            tuple(_foreign(found, self._mapping)),
            tuple(self._left_out),
            tuple(self._notes),
            tuple(settings(self._env, self._mapping, _prefix(owners))),
            tuple(f for f in FAMILIES if any(i.family in (f, None) for i in found if _rule(i))),
            variant,
        )

    def _owner(self, party: Party, everyone: Sequence[Item], owns: Mapping[str, str]) -> Owner:
        rulesets = tuple(self._rulesets(party, everyone))
        subject = self._subject(party)
        if party.entry is not None:
            ruled = families(party.items)
            held = (replace(f, families=_both(f, ruled)) for f in party.entry.flows)
            flows = tuple(flow for flow in held if flow.families)
            software = replace(party.entry, rulesets=rulesets, flows=flows, captured=self._source)
            bits = Owned(software.owned("mark"), software.owned("ctmark"), "as its entry says")
            spare = (
                replace(f, name=f"any-{f.name}") for f in generic.flows(software, subject, bits)
            )
            return Owner(party, software, spare=tuple(spare))
        bits = owned(subject, owns.get(party.name, ""), cleared=False)
        software = Software(
            name=party.name,
            release=RELEASE,
            mode="-".join(dict.fromkeys(r.tool for r in rulesets)) or "nothing",
            style="whole-mark" if bits.whole else "bitwise",
            summary=f"rules of {self._source} that no entry explains",
            source=self._source,
            allocations=tuple(
                Allocation(field, mask, source=self._source) for field, mask in bits.masks() if mask
            ),
            rulesets=rulesets,
            file=self._source,
            captured=self._source,
        )
        software = replace(software, flows=tuple(generic.flows(software, subject, bits)))
        return Owner(party, software, bits)

    def _subject(self, party: Party) -> Subject:
        host = Collected()
        for item in party.items:
            kind = _KINDS.get(item.kind)
            if kind == "iptables":
                text = f"*{item.table}\n{item.text}\nCOMMIT\n"
                host.add("iptables", text, self._place(item.file), item.line - 1)
            elif kind == "nft":
                text = f"add rule {item.table} {item.chain} {item.text}\n"
                host.add("nft", text, self._place(item.file), item.line)
            elif kind:
                host.add("policy", f"{item.text}\n", self._place(item.file), item.line)
        return host.subject()

    def _place(self, name: str) -> str:
        return f"{self._source}:{name}"

    # --- rulesets --------------------------------------------------------------------------------

    def _rulesets(self, party: Party, everyone: Sequence[Item]) -> Iterator[Ruleset]:
        yield from self._made(party)
        for name in _SAVED:
            mine = [i for i in party.items if i.file == name]
            if mine:
                yield from self._sets(party, name, mine)
                yield self._iptables(name, mine)
        native = [i for i in party.items if i.file == RULESET]
        if native:
            all_native = [i for i in everyone if i.file == RULESET]
            text = self._files[RULESET]
            yield from texts.nft(self._place(RULESET), text, native, all_native, self._mapping)
        yield from self._policy(party)
        if party.entry:
            yield from _programs(party.entry)

    def _iptables(self, name: str, mine: Sequence[Item]) -> Ruleset:
        ruleset = texts.iptables(self._place(name), self._files[name], mine, self._mapping)
        return replace(ruleset, variant=mine[0].variant)

    def _made(self, party: Party) -> Iterator[Ruleset]:
        """Take from the entry what the lines do not make: devices, their routes, sysctls."""
        for ruleset in party.entry.rulesets if party.entry else ():
            if ruleset.tool == "sysctl":
                lines = ruleset.text.split("\n")
                yield replace(ruleset, text="\n".join(x if self._holds(x) else "" for x in lines))
            elif ruleset.tool == "ip":
                lines = ruleset.text.split("\n")
                kept = [x if self._makes(x) else "" for x in lines]
                if any(kept):
                    yield replace(ruleset, text="\n".join(kept))

    def _makes(self, line: str) -> bool:
        """Tell whether a line makes a device, a route of the main table, or moves the local one."""
        words = line.split(" ")
        if words[0] == "route":
            return " table " not in line
        if words[:2] == ["rule", "del"]:
            return not re.search(r"^0:", self._files.get("ip-rule.txt", "0:"), re.MULTILINE)
        return words[0] in _MADE

    def _holds(self, line: str) -> bool:
        """Tell whether the host has a sysctl as an entry sets it, or does not say."""
        name, equals, value = (part.strip() for part in line.partition("="))
        ((wanted, _),) = shape("sysctl", ((name, value),))
        return not equals or value in self._settings.get(wanted, (value,))

    def _sets(self, party: Party, name: str, mine: Sequence[Item]) -> Iterator[Ruleset]:
        family = mine[0].family or "ipv4"
        lines, empty = texts.sets(
            mine, self._files.get("sets.txt", ""), _entry_sets(party.entry, family)
        )
        if empty:
            self._notes.append(f"{name}: the sets {', '.join(empty)} are made empty")
        if lines:
            text = "\n".join(lines)
            yield Ruleset("ipset", text, "node", (family,), file=self._place("sets.txt"))

    def _policy(self, party: Party) -> Iterator[Ruleset]:
        for name in dict.fromkeys(i.file for i in party.items if i.kind in ("route", "policy")):
            mine = {i.line: i for i in party.items if i.file == name}
            blank = [""] * len(self._files[name].split("\n"))
            near, far = [*blank], [*blank]  # a gateway is reached by another route
            for number, item in mine.items():
                is_route = item.kind == "route"
                text = route_command(item.text) if is_route else command(item.normal)
                text = self._mapping.applied("ip", plain(text))
                reason = self._unmet(item, party) if is_route else ""
                if reason:
                    place = f"{self._place(name)}:{number}"
                    self._left_out.append(LeftOut(place, item.text, reason))
                else:
                    (far if part(item.normal, "via") else near)[number - 1] = text
            held = (next(iter(mine.values())).family or "ipv4",)
            for lines in filter(any, (near, far)):
                yield Ruleset("ip", "\n".join(lines), "node", held, file=self._place(name))

    def _unmet(self, item: Item, party: Party) -> str:
        """Tell why a route cannot be made here, if it cannot."""
        device, gateway = part(item.normal, "dev"), part(item.normal, "via")
        made = " ".join(r.text for r in (party.entry.rulesets if party.entry else ()))
        mapped = dict(self._mapping.devices)
        if device and device != "lo" and device not in mapped and f" {device} " not in f"{made} ":
            return f"there is no interface {device!r} here; see --map"
        if gateway and gateway not in dict(self._mapping.addresses) and not maps.is_here(gateway):
            return f"nothing here has the address {gateway}; see --map"
        return ""

    # --- what is not made of rules ---------------------------------------------------------------

    def _attached(self, owners: Sequence[Owner]) -> None:
        taken = [owner for owner in owners if list(_programs(owner.software))]
        for number, line in enumerate(self._files.get("tc.txt", "").split("\n"), 1):
            if _FILTER.match(line) and not taken:
                self._leave("tc.txt", number, line, "a listing of tc filters cannot be installed")
        for owner in taken:
            self._notes.append(
                f"tc filters and eBPF programs: those of the entry of {owner.software.name} run, "
                "not the host's, of which there are only names"
            )
        for number, line in enumerate(self._files.get("xfrm.txt", "").split("\n"), 1):
            if _XFRM_MARK.search(line):
                self._leave("xfrm.txt", number, line, "IPsec is not set up here")

    def _leave(self, name: str, number: int, text: str, reason: str) -> None:
        self._left_out.append(LeftOut(f"{self._place(name)}:{number}", text, reason))


def _both(flow: Flow, ruled: frozenset[Family]) -> tuple[Family, ...]:
    return tuple(family for family in flow.families if family in ruled)


def _programs(software: Software) -> Iterator[Ruleset]:
    """Yield what an entry attaches to devices."""
    yield from (r for r in software.rulesets if r.tool in ("tc", "bpf"))


def _rule(item: Item) -> bool:
    return item.kind in ("iptables", "nft", "policy", "default")


def _prefix(owners: Sequence[Owner]) -> str:
    return next((o.software.pod_prefix for o in owners if o.software.pod_prefix), "veth")


def _entry_sets(entry: Software | None, family: Family) -> list[str]:
    """List the lines of ipset of an entry, its own facts filled in, the topology's left."""
    if entry is None:
        return []
    topology = library.find("kubernetes-node").facts_for(family)
    own = {name: v4 if family == "ipv4" else v6 for name, v4, v6 in entry.facts}
    facts = {name: f"{{{{ {name} }}}}" for name in topology} | own
    return [
        line
        for ruleset in entry.rulesets
        if ruleset.tool == "ipset" and family in ruleset.families
        for line in fill(ruleset.text, facts, ruleset.file).split("\n")
        if line and not line.startswith("#")
    ]


def _named(entry: Software) -> Iterator[str]:
    """Yield the interfaces that an entry calls by their names, wherever it is installed."""
    for ruleset in entry.rulesets:
        if ruleset.tool in ("iptables", "nft", "ip"):
            for line in ruleset.text.split("\n"):
                if not line.startswith("#"):
                    yield from maps.devices(ruleset.tool, line)


def _guessed(mapping: Roles, items: Sequence[Item], parties: Sequence[Party]) -> Roles:
    """Add guesses for the interfaces that nothing told, and that no entry means literally."""
    known = {name for p in parties if p.entry for name in _named(p.entry)} - maps.SAME.keys()
    told = dict(mapping.devices)
    names = [name for item in items for name in _devices(item) if name not in known]
    guessed = maps.guess((*told, *names), told)
    return replace(mapping, devices=(*mapping.devices, *guessed))


def _devices(item: Item) -> Iterator[str]:
    tool = {"iptables": "iptables", "nft": "nft", "policy": "ip", "route": "ip"}.get(item.kind)
    if tool:
        yield from maps.devices(tool, item.text)


def _foreign(items: Sequence[Item], mapping: Roles) -> Iterator[str]:
    """List the interfaces and addresses that nothing of the topology stands for."""
    devices, addresses = dict(mapping.devices), dict(mapping.addresses)
    yield from dict.fromkeys(n for i in items for n in _devices(i) if n not in devices)
    found = (a for i in items if i.kind != "sysctl" for a in maps.addresses(i.text))
    bare = re.compile(r"/(?:32|128)$")
    unknown = (a for a in found if a not in addresses and bare.sub("", a) not in addresses)
    yield from dict.fromkeys(islice(unknown, _TOLD))


def gaps(host: Divided, told: Iterable[Gap]) -> Divided:
    """Add what an archive says of itself: rules that are not in it are left out as well."""
    notes, left_out = list(host.notes), list(host.left_out)
    for gap in told:
        if gap.lost and not (
            gap.file == "tc.txt" and any(r for s in host.software for r in _programs(s))
        ):
            where = f"{host.source}:{gap.file}"
            left_out.append(LeftOut(where, "", f"not captured: {gap.reason}"))
        else:
            notes.append(str(gap))
    return replace(host, notes=tuple(notes), left_out=tuple(left_out))
