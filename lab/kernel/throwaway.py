"""Try things in namespaces that vanish with this process. A program of its own, not a module.

``features.py`` starts this file by its path, so it imports the standard library alone. It reads
from standard input ``{"drop": bool, "trials": [[argv, ...], ...]}`` and prints ``{"entered": how,
"refused": why, "answers": [[ok, reason], ...]}``. An argv that starts with ``@`` names a function
of ``BUILT_IN``. ``drop`` gives up root first, to see what an ordinary user may do.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

NEWNS, NEWUSER, NEWNET = 0x00020000, 0x10000000, 0x40000000  # CLONE_* of linux/sched.h
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h
PR_SET_DUMPABLE = 4  # linux/prctl.h
BPF_PROG_LOAD, SCHED_CLS = 5, 3  # linux/bpf.h
NOBODY = 65534
PATIENCE = 10  # seconds for one program

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: Callable[..., int], *arguments: object) -> int:
    """Call into libc; raise OSError where it reports a failure."""
    result = function(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def drop_root() -> None:
    """Become nobody, yet stay the owner of /proc/self (setuid takes that away)."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    _call(_libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)


def enter() -> str:
    """Leave the caller's namespaces; return ``root`` or ``user namespace``, whichever let us."""
    if os.geteuid() == 0:
        try:
            _call(_libc.unshare, NEWNET | NEWNS)
        except PermissionError:  # root without CAP_SYS_ADMIN, as in a container
            pass
        else:
            return "root"
    user, group = os.geteuid(), os.getegid()
    _call(_libc.unshare, NEWUSER | NEWNET | NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return "user namespace"


def seclude() -> None:
    """Take a private /run: iptables locks /run/xtables.lock, ip-netns mounts in /run/netns."""
    _call(_libc.mount, None, b"/", None, MS_REC | MS_PRIVATE, None)
    _call(_libc.mount, b"tmpfs", b"/run", b"tmpfs", 0, None)


def open_packet_socket() -> None:
    """Open the socket that traffic is sent and seen through."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def load_bpf() -> None:
    """Load ``return TC_ACT_OK`` as a classifier, what ``tc filter add … bpf`` does."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit
    program, license_name = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"BSD")
    attributes = struct.pack(
        "<IIQQIIQI",
        *(SCHED_CLS, len(code) // 8),
        *(ctypes.addressof(program), ctypes.addressof(license_name)),
        *(0, 0, 0, 0),
    )
    attributes = attributes.ljust(128, b"\0")
    number = 321 if platform.machine() == "x86_64" else 280  # __NR_bpf; 280 on arm64 and riscv64
    os.close(_call(_libc.syscall, number, BPF_PROG_LOAD, attributes, len(attributes)))


def write_sysctls() -> None:
    """Write the sysctls that decide whether a marked packet is a martian."""
    for name in ("rp_filter", "src_valid_mark", "accept_local"):
        Path(f"/proc/sys/net/ipv4/conf/all/{name}").write_text("1")


BUILT_IN: dict[str, Callable[[], None]] = {
    "@packet-socket": open_packet_socket,
    "@bpf": load_bpf,
    "@sysctl": write_sysctls,
}


def attempt(argv: Sequence[str]) -> str:
    """Do one thing; return why it failed, or nothing."""
    try:
        if argv[0] in BUILT_IN:
            BUILT_IN[argv[0]]()
            return ""
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError as error:
        return f"{error.filename} is not there"
    except OSError as error:
        return f"{argv[0].lstrip('@')}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not end within {PATIENCE} s"
    return "" if done.returncode == 0 else complaint(argv[0], done.stderr)


def complaint(program: str, stderr: str) -> str:
    """Pick the line of a tool's complaint that names the cause: the first that is no warning."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    causes = [line for line in lines if not line.lower().startswith(("warning", "try `", "#"))]
    return (causes or lines or [f"{program} failed and did not say why"])[0]


def answer(trial: Sequence[Sequence[str]]) -> tuple[bool, str]:
    """Do the steps of a trial up to the first that fails."""
    reason = next(filter(None, map(attempt, trial)), "")
    return not reason, reason


def main() -> None:
    """Read the question, leave the caller's namespaces, print the answers."""
    question = json.load(sys.stdin)
    try:
        if question["drop"]:
            drop_root()
        entered, refused = enter(), ""
        seclude()
    except OSError as error:
        entered, refused = "", error.strerror or str(error)
    answers = [answer(trial) for trial in question["trials"]] if not refused else []
    json.dump({"entered": entered, "refused": refused, "answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
