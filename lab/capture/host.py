"""A real host, read by programs that only list; nothing of it is changed.

No program is run that would load a kernel module or make a table: where a part of the kernel is
not loaded there is nothing to read from it.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path

from lab.capture import listings, netfilter
from lab.capture.archive import FORMAT, Manifest, Tool
from lab.capture.ask import Notes, Part, Unread, ask, part, remedy, version
from lab.errors import UnsupportedError, UsageError, unknown
from lab.kernel import tcx
from lab.kernel.features import dormant, has_capability
from lab.kernel.netns import Netns

_NET_ADMIN = 12  # linux/capability.h
_NAMED = Path("/run/netns")
_SYSCTLS = Path("/proc/sys/net")
_MEANING = (
    "ipv4/fwmark_reflect",
    "ipv4/tcp_fwmark_accept",
    "ipv4/ip_forward",
    "ipv4/conf/*/rp_filter",
    "ipv4/conf/*/src_valid_mark",
    "ipv4/conf/*/accept_local",
    "ipv4/conf/*/forwarding",
    "ipv4/conf/*/route_localnet",
    "ipv6/fwmark_reflect",
    "ipv6/conf/*/forwarding",
    "bridge/bridge-nf-call-*",
)
"""The sysctls that give marks, or the rules that set them, a meaning."""
_PROGRAMS = (
    ("iptables-nft", "--version", "nfnetlink"),
    ("iptables-legacy", "--version", ""),
    ("iptables", "--version", "nfnetlink"),
    ("nft", "--version", "nfnetlink"),
    ("ip", "-V", ""),
    ("tc", "-V", ""),
    ("ipset", "--version", "ip_set"),
)
"""Each with the option that prints its version, and the module that it would load to do so."""
_PATIENCE = 60.0
"""Seconds for the filters of all devices; each list takes a process of some milliseconds."""


def capture() -> tuple[Manifest, dict[str, str]]:
    """Read the network namespace that the calling thread is in.

    Raises UnsupportedError where this process may not read it.
    """
    if not has_capability(_NET_ADMIN):
        raise UnsupportedError(remedy("this process lacks CAP_NET_ADMIN"))
    found = list(chain(netfilter.parts(), _routing(), _devices()))
    manifest = Manifest(
        format=FORMAT,
        host=socket.gethostname(),
        kernel=platform.release(),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        pseudonymised=False,
        tools=tuple(_tools()),
        gaps=tuple(gap for one in found for gap in one.gaps),
    )
    return manifest, {one.name: one.text for one in found if one.text is not None}


def _tools() -> Iterator[Tool]:
    for name, option, module in _PROGRAMS:
        if not (module and dormant((module,))) and (said := version(name, option)):
            yield Tool(name, said)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Enter the network namespace that ``ip netns`` names so, or that a path leads to.

    Raises UsageError for an unknown one, UnsupportedError where it may not be entered.
    """
    path = Path(name) if "/" in name else _NAMED / name
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as problem:
        if "/" in name:
            raise UsageError(f"cannot open {name!r}: {problem.strerror}") from None
        raise unknown("network namespace", name, _names()) from None
    home = Netns.current("the caller's")
    there = Netns(name, fd, os.fstat(fd).st_ino)
    try:
        there.enter()
    except OSError as problem:
        raise UnsupportedError(
            f"cannot enter the network namespace {name!r} ({problem.strerror}); expected what "
            "'ip netns' lists, or /proc/PID/ns/net, and root (CAP_SYS_ADMIN)"
        ) from None
    else:
        try:
            yield
        finally:
            home.enter()
    finally:
        there.close()
        home.close()


def _names() -> list[str]:
    return [path.name for path in _NAMED.iterdir()] if _NAMED.is_dir() else []


# --- policy rules, routes, sysctls, xfrm ---------------------------------------------------------


def _routing() -> Iterator[Part]:
    for option, prefix in (("-4", "ip"), ("-6", "ip6")):
        yield part(f"{prefix}-rule.txt", partial(_rules, option))
        yield part(f"{prefix}-route.txt", partial(_routes, option))
    yield part("sysctl.txt", lambda _: "\n".join(_sysctls()))
    yield part("xfrm.txt", _xfrm)


def _rules(family: str, _: Notes) -> str:
    if not _is_on(family):
        return ""
    return listings.rules(ask("ip", "-N", family, "rule", "show"))


def _is_on(family: str) -> bool:
    """Tell whether the kernel speaks a family: IPv6 can be switched off at boot."""
    return family == "-4" or Path("/proc/thread-self/net/if_inet6").exists()


def _routes(family: str, _: Notes) -> str:
    if not _is_on(family):
        return ""
    return listings.routes(ask("ip", "-N", "-o", family, "route", "show", "table", "all"))


def _sysctls() -> Iterator[str]:
    for pattern in _MEANING:
        for path in sorted(_SYSCTLS.glob(pattern)):
            words = ("net", *path.relative_to(_SYSCTLS).parts)
            try:
                yield f"{'.'.join(w.replace('.', '/') for w in words)} = {path.read_text().strip()}"
            except OSError:  # the interface has just gone
                continue


def _xfrm(notes: Notes) -> str:
    """List policies and states without keys: these do not even reach this process."""
    if dormant(("xfrm_user",)):
        return ""
    lines = []
    for what, *options in (("policy",), ("state", "nokeys")):
        try:
            text = listings.xfrm(ask("ip", "xfrm", what, "list", *options))
        except Unread as problem:
            notes.lost.append(str(problem))
            continue
        lines += [f"# ip xfrm {what}", text] if text else []
    return "\n".join(lines)


# --- devices -------------------------------------------------------------------------------------


def _devices() -> Iterator[Part]:
    yield part("links.txt", _links)
    yield part("addresses.txt", lambda _: listings.joined(ask("ip", "-o", "address")))
    yield part("tc.txt", _filters)


def _links(notes: Notes) -> str:
    text = ask("ip", "-o", "-d", "link")
    lines = [listings.joined(text)]
    for name in listings.wireguards(text):
        try:
            lines.append(f"# wg show {name} fwmark: {ask('wg', 'show', name, 'fwmark').strip()}")
        except Unread as problem:
            notes.lost.append(f"the mark of {name}: {problem}")
    return "\n".join(lines)


def _filters(notes: Notes) -> str:
    qdiscs = ask("tc", "qdisc", "show")
    lines = [qdiscs]
    places = list(dict.fromkeys(listings.filtered(qdiscs)))
    until = time.monotonic() + _PATIENCE
    for number, place in enumerate(places):
        if time.monotonic() > until:
            notes.lost.append(
                f"filters of {len(places) - number} places: no end within {_PATIENCE:g} s"
            )
            break
        try:
            if text := ask("tc", "filter", "show", *place).strip():
                lines.append(f"# tc filter show {' '.join(place)}\n{text}\n")
        except Unread as problem:
            notes.lost.append(str(problem))
    return "".join((*lines, *_programs(notes)))


def _programs(notes: Notes) -> Iterator[str]:
    """Name the eBPF programs that are no filters of tc."""
    try:
        for device, place, names in tcx.attached():
            shown = f"{place} of {device}: {', '.join(names)}"
            notes.lost.append(f"eBPF programs at {shown}: only their names are known")
            yield f"# {shown}\n"
    except OSError as problem:
        notes.lost.append(f"eBPF programs at tcx and netkit: {problem.strerror}")
