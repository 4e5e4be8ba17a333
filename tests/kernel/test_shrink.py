"""Scripts of shrunk conflicts reproduce them without the lab."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lab.plugin import Lab, entry
from lab.scenario import Scenario
from lab.shrink.script import script
from lab.shrink.search import Shrunk, shrink
from lab.verdict.compare import compare
from lab.verdict.outcome import Outcome, Verdict

CASES = (
    ("tailscale", "calico@3.20", "tailnet-to-lan", Outcome.CLOBBERED),
    ("tailscale", "calico", "pod-to-tailnet", Outcome.FALSE_MATCH),
    ("tailscale", "calico", "bypass", Outcome.CLOBBERED),
)


def _shrunk(lab: Lab, owner: str, beside: str, flow: str, outcome: Outcome) -> Shrunk:
    scenario = Scenario(
        (entry(owner), entry(beside)),
        families=("ipv4",),
        variants=("nft",),
        orders="given",
        flows=(flow,),
    )
    verdicts = compare(map(lab.run, scenario.experiments()))
    found: Verdict = next(v for v in verdicts if v.outcome is outcome and v.flow == flow)
    return shrink(scenario, found, lambda experiments: map(lab.run, experiments), lambda _: None)


@pytest.mark.parametrize(
    ("owner", "beside", "flow", "outcome"),
    CASES,
    ids=[f"{c[0]}+{c[1].replace('@', '-')}-{c[2]}" for c in CASES],
)
def test_the_script_shows_the_conflict(
    lab: Lab, tmp_path: Path, owner: str, beside: str, flow: str, outcome: Outcome
) -> None:
    """Few rules are left, and the emitted script exits 1 on the conflict they make."""
    shrunk = _shrunk(lab, owner, beside, flow, outcome)
    assert shrunk.rules_after <= 15 < shrunk.rules_before
    path = tmp_path / "reproduce.sh"
    path.write_text(script(shrunk, "fwmark-lab"))
    done = subprocess.run(["sh", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the conflict shows" in done.stdout


def test_the_script_is_a_posix_script(lab: Lab, tmp_path: Path) -> None:
    """No shell but a POSIX one is needed."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian: shellcheck)")
    path = tmp_path / "reproduce.sh"
    path.write_text(script(_shrunk(lab, *CASES[0]), "fwmark-lab"))
    command = ["shellcheck", "-s", "sh", "-e", "SC2034", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
