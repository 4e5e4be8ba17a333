"""Say what this machine can and cannot run, each with the reason and the remedy.

Nothing is changed: what must be tried is tried in a namespace that vanishes with its process.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from lab.kernel.features import Answer, Entry, Trial, attempt, library_error, program_version, read
from lab.kernel.trials import NEEDED, OPTIONAL
from lab.vm import download, guest
from lab.vm.kernels import known

State = Literal["yes", "no", "optional-missing"]

OLDEST = (5, 10)  # the oldest kernel that the lab's facts were measured on
PROGRAMS = (  # name, option that prints the version, Debian package
    ("iptables-nft", "--version", "iptables"),
    ("ip6tables-nft", "--version", "iptables"),
    ("iptables-legacy", "--version", "iptables"),
    ("ip6tables-legacy", "--version", "iptables"),
    ("nft", "--version", "nftables"),
    ("ip", "-V", "iproute2"),
    ("tc", "-V", "iproute2"),
    ("ipset", "--version", "ipset"),
)
_COLOURS: dict[State, str] = {"yes": "32", "no": "31", "optional-missing": "33"}
_LABELS: dict[State, str] = {"yes": "yes", "no": "no", "optional-missing": "optional"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing this machine has or lacks; only ``no`` stops ``check``."""

    name: str
    state: State
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{_LABELS[self.state]} {self.name}: {self.reason}"


def examine() -> tuple[Finding, ...]:
    """Look at everything, within a second. Raises SandboxError where the probing itself fails."""
    entry, answers = attempt((*NEEDED, *OPTIONAL))
    ordinary, _ = attempt((), as_nobody=True) if os.geteuid() == 0 else (entry, ())
    return (
        kernel_finding(platform.release()),
        python_finding(),
        root_finding(os.geteuid(), entry),
        user_namespace_finding(entry, ordinary),
        apparmor_finding(read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"), entry),
        *map(_program_finding, PROGRAMS),
        libnftables_finding(library_error("libnftables.so.1")),
        *map(trial_finding, (*NEEDED, *OPTIONAL), answers),
        guest_finding(guest.lacking(), download.lacking()),
    )


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 where ``check`` has all it needs, else 4."""
    return 4 if any(finding.state == "no" for finding in findings) else 0


def kernel_finding(release: str) -> Finding:
    """Judge the kernel release, such as ``6.1.0-18-amd64``."""
    number = re.match(r"(\d+)\.(\d+)", release)
    if number and (int(number[1]), int(number[2])) >= OLDEST:
        return Finding("kernel", "yes", release)
    oldest = ".".join(map(str, OLDEST))
    reason = f"{release}; nothing older than {oldest} was measured"
    return Finding("kernel", "optional-missing", reason, f"boot kernel {oldest} or newer")


def python_finding() -> Finding:
    """Report the interpreter; the package refuses to install on one too old."""
    return Finding("python", "yes", platform.python_version())


def root_finding(user: int, entry: Entry) -> Finding:
    """Tell whether the lab runs as root, or as an ordinary user and can do without."""
    if user == 0:
        return Finding(
            "root", "yes", "user 0" if entry.way == "root" else "user 0, without CAP_SYS_ADMIN"
        )
    remedy = "run as root where something below asks for it; check, trace and test do not"
    return Finding("root", "optional-missing", f"user {user}", remedy)


def user_namespace_finding(entry: Entry, ordinary: Entry) -> Finding:
    """Tell whether an ordinary user can work here; only who is not root depends on it."""
    name = "user + network + mount namespaces"
    if ordinary:
        return Finding(name, "yes", "an ordinary user can make them")
    state: State = "optional-missing" if entry else "no"
    return Finding(name, state, f"an ordinary user may not: {ordinary.refused}", _unlock())


def _unlock() -> str:
    """Return the remedy for the switch that forbids user namespaces here."""
    if read("/proc/sys/user/max_user_namespaces") == "0":
        return "sysctl user.max_user_namespaces=10000, or run as root"
    if read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sysctl kernel.unprivileged_userns_clone=1, or run as root"
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    return "run as root, or outside the container (a seccomp filter may forbid unshare)"


def apparmor_finding(setting: str, entry: Entry) -> Finding:
    """Judge Ubuntu's restriction: since 23.10 a user namespace has no capabilities by default."""
    name = "AppArmor leaves user namespaces alone"
    if setting != "1":
        return Finding(
            name, "yes", "no restriction" if setting else "this kernel has no restriction"
        )
    reason = "kernel.apparmor_restrict_unprivileged_userns is 1"
    remedy = "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    return Finding(name, "optional-missing" if entry else "no", reason, remedy)


def _program_finding(row: tuple[str, str, str]) -> Finding:
    name, option, package = row
    return program_finding(name, program_version(name, option), package)


def program_finding(name: str, version: str | None, package: str) -> Finding:
    """Judge one program by what it says its version is; None is a missing one."""
    if version is not None:
        return Finding(name, "yes", version)
    remedy = f"install it (Debian and Ubuntu: apt-get install {package})"
    return Finding(name, "no", "not on the PATH", remedy)


def libnftables_finding(error: str) -> Finding:
    """Judge the library that rules and probes are loaded through."""
    if not error:
        return Finding("libnftables", "yes", "libnftables.so.1 loads")
    remedy = "install it (Debian and Ubuntu: apt-get install libnftables1)"
    return Finding("libnftables", "no", error, remedy)


def trial_finding(trial: Trial, answer: Answer) -> Finding:
    """Turn what came of a trial into a finding."""
    if answer.ok:
        return Finding(trial.name, "yes", answer.reason)
    return Finding(
        trial.name, "no" if trial.needed else "optional-missing", answer.reason, trial.remedy
    )


def guest_finding(run: str, fetch: str) -> Finding:
    """Tell whether other kernels can be booted, by what is missing to run and to fetch them."""
    here = [kernel.name for kernel in known() if kernel.image()]
    lacking = run or ("" if here else fetch)
    if lacking:
        reason, _, remedy = lacking.partition("; ")
        return Finding("guests with other kernels (vm)", "optional-missing", reason, remedy)
    reason = f"fetched: {', '.join(here)}" if here else "none fetched yet; vm run does it"
    return Finding("guests with other kernels (vm)", "yes", reason)


def render(findings: Iterable[Finding], color: bool = False) -> str:
    """Lay the findings out for a terminal: one line each, a remedy below what is missing."""
    rows = tuple(findings)
    width = max((len(row.name) for row in rows), default=0)
    paint = _painter(color)
    lines = [line for row in rows for line in _lines(row, width, paint)]
    return "\n".join([*lines, "", summary(rows)])


def summary(findings: Iterable[Finding]) -> str:
    """Say in one sentence whether ``check`` can run here."""
    states = [finding.state for finding in findings]
    optional = states.count("optional-missing")
    tail = f"; optional and missing: {optional}" if optional else ""
    if lacking := states.count("no"):
        return f"check cannot run here; needed and missing: {lacking}{tail}"
    return f"check can run here{tail}"


def _lines(row: Finding, width: int, paint: Callable[[State, str], str]) -> list[str]:
    first = f"{paint(row.state, f'{_LABELS[row.state]:<8}')}  {row.name:<{width}}  {row.reason}"
    return [first, f"{'':10}{'':{width}}  remedy: {row.remedy}"] if row.remedy else [first]


def _painter(color: bool) -> Callable[[State, str], str]:
    return (
        (lambda state, text: f"\x1b[{_COLOURS[state]}m{text}\x1b[0m")
        if color
        else (lambda _, text: text)
    )
