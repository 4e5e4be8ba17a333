"""The lab's own process: a network and mount namespace that nobody else sees.

As an ordinary user the process also becomes root of a user namespace of its own. Nothing outside
is changed, and everything in here ends with the process.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass

from lab.errors import SandboxError, UnsupportedError
from lab.kernel import netns
from lab.kernel.netns import Netns
from lab.traffic.settle import Settler


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where experiments run: ``home`` is the lab's own namespace, ``outside`` the caller's."""

    home: Netns
    outside: int
    settler: Settler


def enter(parent: int, number: int = 0) -> Sandbox:
    """Leave the caller's namespaces; the process dies with ``parent``, the process id that made it.

    Raises UnsupportedError where the kernel does not let this user make namespaces.
    """
    netns.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        raise SandboxError("the process that started this one is gone")
    outside = netns.host_inode()
    try:
        if os.geteuid() == 0:
            netns.unshare(netns.CLONE_NEWNET | netns.CLONE_NEWNS)
        else:
            netns.become_root_of_new_user_namespace()
    except OSError as problem:
        raise UnsupportedError(_remedy(problem)) from None
    try:
        netns.make_mounts_private()
    except OSError as problem:
        raise UnsupportedError(
            f"cannot make mounts private here ({problem.strerror}): the root directory is no mount "
            "point, as in a plain chroot; run mount --bind DIR DIR before chroot DIR"
        ) from None
    # iptables-legacy locks /run/xtables.lock: a private one, so that parallel runs do not wait.
    netns.mount("tmpfs", "/run", "tmpfs")
    home = Netns.current("home")
    netns.assert_not(outside)
    subprocess.run(("/sbin/ip", "link", "set", "lo", "up"), check=True)
    return Sandbox(home, outside, Settler(number))


def _remedy(problem: OSError) -> str:
    how = (
        "run as root" if os.geteuid() else "run where CAP_SYS_ADMIN is given (docker: --privileged)"
    )
    return (
        f"cannot make namespaces here ({problem.strerror}); {how}, or allow user namespaces: "
        "sysctl kernel.unprivileged_userns_clone=1 and "
        "kernel.apparmor_restrict_unprivileged_userns=0 where these exist"
    )
