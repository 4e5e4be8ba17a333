"""Load the plugin where it is not installed, and guard the namespace the tests are started in."""

from __future__ import annotations

import gc
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ("lab.plugin", "pytester")


_LONGER = ("thorough", "guest")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the longer suites out unless they are asked for: by ``-m`` or by their name."""
    if any("::" in argument for argument in config.args):
        return
    unasked = [marker for marker in _LONGER if marker not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, unasked))]
    config.hook.pytest_deselected(items=left_out)
    spare = set(left_out)
    items[:] = [item for item in items if item not in spare]


def pytest_collection_finish(session: pytest.Session) -> None:  # noqa: ARG001
    """Leave thousands of tests out of what is collected as garbage: they stay to the end."""
    gc.freeze()


_SYSCTLS = (
    "ipv4/ip_forward",
    "ipv4/fwmark_reflect",
    "ipv4/tcp_fwmark_accept",
    "ipv6/fwmark_reflect",
    "ipv4/conf/*/rp_filter",
    "ipv4/conf/*/src_valid_mark",
    "ipv4/conf/*/accept_local",
    "ipv4/conf/*/forwarding",
    "ipv4/conf/*/route_localnet",
    "ipv6/conf/*/forwarding",
    "netfilter/nf_conntrack_acct",
    "netfilter/nf_log/*",
)
_COMMANDS = (
    ("nft", "--stateless", "list", "ruleset"),
    ("ip", "-4", "rule"),
    ("ip", "-6", "rule"),
    ("ip", "-4", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "-o", "link"),
    ("ip", "netns", "list"),
)
# A tunnel's module makes such a device in the first namespace as soon as anybody has it loaded.
_FALLBACK = re.compile(
    r"^\d+: (tunl|gre|gretap|erspan|sit|ip6tnl|ip6gre|ip_vti|ip6_vti)0@NONE: .*\n", re.MULTILINE
)
_BEFORE = pytest.StashKey[dict[str, str]]()
_CHANGED = pytest.StashKey[list[str]]()


def caller() -> dict[str, str]:
    """Read everything that the lab could have changed in this namespace; changes nothing.

    ``nft list ruleset`` shows the rules of iptables-nft as well. iptables-legacy-save would load
    the tables it lists, so only tables that are there already are listed.
    """
    found = {" ".join(command): _FALLBACK.sub("", _output(command)) for command in _COMMANDS}
    for program, names in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        for table in _read(Path("/proc/net", names)).split():
            saved = _output((f"{program}-legacy-save", "-t", table))
            found[f"{program}-legacy {table}"] = _rules(saved)
    return found | {str(path): _read(path) for path in _sysctls()}


def _output(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return done.stdout + done.stderr


def _rules(saved: str) -> str:
    """Keep rules and policies other than ACCEPT, so that an empty table equals none.

    Before Linux 5.15 a table appears in the first namespace as soon as its module is loaded.
    """
    lines = (re.sub(r" *\[\d+:\d+\]", "", line) for line in saved.splitlines())
    return "\n".join(
        line for line in lines if line.startswith(("-", ":")) and not line.endswith(" ACCEPT")
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _sysctls() -> Iterator[Path]:
    for pattern in _SYSCTLS:
        yield from sorted(Path("/proc/sys/net").glob(pattern))


def differences(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """Yield what differs; a sysctl that was not there before came with a kernel module."""
    for name in sorted({*before, *after}):
        appeared = name.startswith("/proc/sys") and name not in before
        if before.get(name, "") != after.get(name, "") and not appeared:
            yield (f"{name}\n  before: {before.get(name, '')!r}\n  after:  {after.get(name, '')!r}")


@pytest.fixture(name="caller")
def caller_fixture() -> Callable[[], dict[str, str]]:
    """Return what reads the namespace that the tests are started in."""
    return caller


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember how the namespace looks, in the process the user started only."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_BEFORE] = caller()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if anything in the namespace is not as it was."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    changed = list(differences(before, caller()))
    session.config.stash[_CHANGED] = changed
    if changed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what changed."""
    changed = terminalreporter.config.stash.get(_CHANGED, [])
    if changed:
        terminalreporter.section(
            "ERROR: the namespace the tests were started in was changed", red=True
        )
        for line in changed:
            terminalreporter.line(line)
