"""A ruleset is data: it starts no program and reads no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from flows import FORWARDED

from lab.errors import EntryError, LabError
from lab.plugin import Lab
from lab.registry.software import Ruleset, Software, Tool
from lab.scenario import Scenario


def software(tool: Tool, text: str) -> Software:
    """Make an entry of one ruleset."""
    ruleset = Ruleset(tool, text, file="evil.toml", line=7)
    return Software("evil", "1", "x", "bitwise", "", "", rulesets=(ruleset,), flows=(FORWARDED,))


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("ip", "netns exec node touch {path}"),
        ("ip", "vrf exec x touch {path}"),
        ("ip", "link set lo xdp obj {path}"),
        ("tc", "exec bpf import {path}"),
        ("tc", "filter add dev lo ingress bpf obj {path}"),
        ("ipset", "save -file {path}"),
        ("nft", 'table ip x {{ }}; include "{path}"'),
        ("nft", 'include "{path}"'),
        ("iptables", "*filter\n-A FORWARD -j ACCEPT -M {path}\nCOMMIT"),
        ("iptables", "*filter\n-A FORWARD -j ACCEPT --modprobe={path}\nCOMMIT"),
        ("sysctl", "kernel.core_pattern = |/bin/touch {path}"),
        ("sysctl", "net.ipv4/../../kernel/hostname = x"),
    ],
)
def test_what_would_run_or_read_is_refused(lab: Lab, tmp_path: Path, tool: Tool, text: str) -> None:
    """One clear error names file and line, before anything is given to a program."""
    path = tmp_path / "touched"
    evil = software(tool, text.format(path=path))
    (experiment, *_) = Scenario((evil,), families=("ipv4",), variants=("nft",)).experiments()
    with pytest.raises(EntryError, match=r"^evil\.toml:[78]: "):
        lab.run(experiment)
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "*filter\n-A FORWARD -m ../../../tmp/evil\nCOMMIT\n",
        "*filter\n-A FORWARD -j $(touch x)\nCOMMIT\n",
    ],
)
def test_no_shell_and_no_foreign_library_is_reached(lab: Lab, text: str) -> None:
    """Names are names to iptables-restore, which knows none of these."""
    (experiment, *_) = Scenario(
        (software("iptables", text),), families=("ipv4",), variants=("nft",)
    ).experiments()
    with pytest.raises(LabError, match=r"^evil\.toml:8: "):
        lab.run(experiment)
