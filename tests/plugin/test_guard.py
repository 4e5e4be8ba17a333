"""The guard of the project's own suite: a session that changed its namespace fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
CHANGES = {
    "nothing": ["true"],
    "a link": ["ip", "link", "set", "lo", "up"],
    "a policy rule": ["ip", "rule", "add", "fwmark", "1", "table", "7"],
    "a sysctl": ["sysctl", "-qw", "net.ipv4.conf.all.src_valid_mark=1"],
    "a native rule": ["nft", "add", "table", "ip", "left"],
    "an nft rule": ["iptables-nft", "-A", "FORWARD", "-j", "DROP"],
    "a legacy rule": ["iptables-legacy", "-A", "FORWARD", "-j", "DROP"],
    "an IPv6 legacy policy": ["ip6tables-legacy", "-P", "FORWARD", "DROP"],
    "empty legacy tables": ["iptables-legacy", "-L"],
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_the_callers_namespace_fails_the_session(
    what: str, pytester: pytest.Pytester
) -> None:
    """Although every test passed; the change is made in a namespace that ends with the session."""
    if os.geteuid() and what in ("a legacy rule", "an IPv6 legacy policy"):
        pytest.skip("an ordinary user cannot read which legacy tables are loaded")
    shutil.copy(ROOT / "conftest.py", pytester.path)
    pytester.makepyfile(f"""
        import subprocess

        def test_that_passes():
            subprocess.run({CHANGES[what]!r}, check=True, capture_output=True)
    """)
    alone = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--user", "-r", "--net")
    if subprocess.run(
        (*alone, "mount", "-t", "sysfs"), capture_output=True, check=False
    ).returncode:
        pytest.skip("cannot make a network namespace here")
    done = subprocess.run(
        (*alone, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(pytester.path)),
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            # An ordinary user cannot write the machine's /run/xtables.lock.
            "XTABLES_LOCKFILE": str(pytester.path / "xtables.lock"),
        },
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout
    harmless = what in ("nothing", "empty legacy tables")
    assert done.returncode == (0 if harmless else 1), done.stdout
    assert ("the namespace the tests were started in was changed" in done.stdout) is not harmless
