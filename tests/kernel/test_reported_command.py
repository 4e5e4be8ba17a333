"""The command ``reported`` on real namespaces, as a person uses it."""

from __future__ import annotations

import json

import pytest
from started import run

pytestmark = pytest.mark.kernel


def test_a_thread_is_told_shown_and_cured() -> None:
    """The thread, the verdict with the rule to blame, and every cure."""
    done = run("reported", "tailscale#19787")
    if done.returncode == 4:  # a user namespace has no second user for Mullvad's excluded programs
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tailscale/tailscale#19787: ")
    assert "before: the conflict shows in 4 combinations" in done.stdout
    assert "--save-mark --nfmask 0xff0000 --ctmask 0xff0000" in done.stdout
    assert "0x00000f41 -> 0x006f0f41" in done.stdout
    assert done.stdout.count("after: cured in 4 combinations") == 2


def test_machines_get_every_verdict() -> None:
    """Before, and after each cure."""
    told = json.loads(run("reported", "cilium#21330", "--json").stdout)
    assert told["shows"]
    assert {v["outcome"] for v in told["before"]["verdicts"]} == {"clobbered"}
    assert [cure["cured"] for cure in told["after"]] == [True, True]


def test_the_list_says_what_does_not_run_here() -> None:
    """All cases, in full where the output is no terminal."""
    done = run("reported")
    assert done.returncode == 0
    assert "tailscale#591 " in done.stdout
    assert "; does not run here" in done.stdout


def test_a_case_that_cannot_run_says_why() -> None:
    """One line, with the written reason."""
    done = run("reported", "openwrt#9955")
    assert done.returncode == 4
    assert done.stderr.startswith("fwmark-lab: error: openwrt#9955 does not run here: ")
