"""The plugin in somebody else's repository: claims, evidence, options, and doing without."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab.errors import SandboxError
from lab.plugin import Lab, Result, entries, entry, scenarios, title
from lab.scenario import Scenario
from lab.verdict.compare import compare

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
PASSING = """
    def test_they_coexist(lab):
        assert lab.check("kubernetes", "portmap", families=("ipv4",), variants=("nft",)).survives
"""
FAILING = """
    def test_the_subnet_router_works(lab):
        result = lab.check("tailscale:iptables", "calico@3.20", families=("ipv4",),
                           variants=("nft",), orders="given", flows=("tailnet-to-lan",))
        assert result.of("tailscale", "tailnet-to-lan")
        assert not result.conflicts
"""


@pytest.fixture
def third_party(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> pytest.Pytester:
    """Return a repository that has nothing but the plugin; skips where nothing can be run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # nothing is installed, and the folder is another
    software = next(e for e in entries() if e.name == "portmap")
    lab.run(next(Scenario((software,)).experiments()))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nfilterwarnings = ["error"]')
    return pytester


def run(place: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest as they would, the plugin loaded as its entry point would load it."""
    return place.runpytest_subprocess("-p", "lab.plugin", "-p", "no:cacheprovider", *arguments)


def test_a_claim_that_holds_passes_without_words(third_party: pytest.Pytester) -> None:
    """No evidence is printed for what is as claimed."""
    third_party.makepyfile(PASSING)
    result = run(third_party)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*verdict*")


def test_a_claim_that_fails_shows_its_evidence(third_party: pytest.Pytester) -> None:
    """Who, where, which bits, by which rule, on the terminal."""
    third_party.makepyfile(FAILING)
    result = run(third_party)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- verdict: clobbered -*",
            "tailscale 1.102.3 beside calico 3.20*flow tailnet-to-lan*",
            "*bits 16-23*alone 0x00040000*together 0x00000000*",
            "*written by*calico 3.20*cali-POSTROUTING*",
            "*0x00040000 -> 0x00000000*",
            "*-A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000*",
            "*- verdicts -*",
        ]
    )


def test_the_evidence_reaches_junit(third_party: pytest.Pytester) -> None:
    """Within the failure, which is what CI servers show."""
    third_party.makepyfile(FAILING)
    run(third_party, "--junitxml=out.xml")
    (failure,) = ElementTree.parse(third_party.path / "out.xml").iter("failure")
    assert "verdict: clobbered" in str(failure.text)
    assert "--set-xmark 0x0/0xf0000" in str(failure.text)


def test_workers_of_xdist_share_the_work_and_keep_the_evidence(
    third_party: pytest.Pytester,
) -> None:
    """What shares runs goes to one worker; evidence travels with the report."""
    third_party.makepyfile(
        FAILING,
        test_more="""
        import pytest
        from lab.plugin import scenarios

        @pytest.mark.parametrize("scenario", scenarios("kubernetes", "portmap"))
        def test_pairs(lab, scenario):
            assert lab.check(scenario).survives
    """,
    )
    result = run(third_party, "-n", "2")
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(["*- verdict: clobbered -*"])


def test_xdist_gives_what_shares_runs_to_one_worker(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both orders of a pair have the same runs alone; their ids stay as they are without xdist."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile("""
        import os
        import pytest
        from lab.plugin import scenarios

        @pytest.mark.parametrize("scenario", scenarios("kubernetes", "portmap"))
        def test_pairs(scenario):
            names = (*scenario.families, *scenario.variants)
            with open("-".join(names), "a") as file:
                file.write(os.environ["PYTEST_XDIST_WORKER"] + " ")
    """)
    result = run(pytester, "-n", "2", "-v")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["*PASSED*::test_pairs[[]kubernetes-*-ipv4-nft-ab]*"])
    result.stdout.no_fnmatch_line("*PASSED*@*")
    for case in ("ipv4-nft", "ipv4-legacy", "ipv6-nft", "ipv6-legacy"):
        one, other = (pytester.path / case).read_text().split()
        assert one == other


def test_one_family_and_one_variant_can_be_chosen(third_party: pytest.Pytester) -> None:
    """Scenarios of others are deselected, and checks without a choice follow the options."""
    third_party.makepyfile("""
        import pytest
        from lab.plugin import scenarios

        @pytest.mark.parametrize("scenario", scenarios("kubernetes", "portmap"))
        def test_pairs(lab, scenario):
            assert lab.check(scenario).survives

        def test_follows(lab):
            runs = lab.check("portmap").runs
            assert {(r.experiment.family, r.experiment.variant) for r in runs} == {
                ("ipv6", "legacy")
            }
    """)
    result = run(third_party, "--lab-family=ipv6", "--lab-iptables=legacy", "-v")
    result.assert_outcomes(passed=3, deselected=6)
    result.stdout.fnmatch_lines(["*test_pairs*kubernetes-*+portmap-*-ipv6-legacy-ba*"])


def test_orders_that_the_kernel_cannot_tell_apart_are_run_once(
    third_party: pytest.Pytester,
) -> None:
    """The run says so, also in the evidence; an option has every order run."""
    third_party.makepyfile(
        test_orders="""
        import pytest
        from lab.plugin import scenarios

        PAIR = scenarios("calico", "portmap", families=("ipv4",), variants=("nft",))

        @pytest.mark.parametrize("scenario", PAIR)
        def test_is_run_itself(lab, scenario):
            *_, together = lab.check(scenario).runs
            assert together.ran_as == ""
    """
    )
    result = run(third_party)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- one run for both -*", "*the kernel ends in the same state*"])
    run(third_party, "--lab-every-order").assert_outcomes(passed=2)


def test_runs_are_shared_and_judged_by_the_test_itself(third_party: pytest.Pytester) -> None:
    """A second test has the same run alone; ``judge`` takes runs that a test made."""
    third_party.makepyfile("""
        import pytest
        from lab.plugin import entry
        from lab.scenario import Scenario

        RUNS = []

        @pytest.mark.parametrize("time", [1, 2])
        def test_shared(lab, time):
            scenario = Scenario((entry("portmap"),), families=("ipv4",), variants=("nft",))
            RUNS.append(lab.run(next(scenario.experiments())))
            assert RUNS[0] is RUNS[-1]

        def test_judged(judge):
            assert judge(RUNS[:1]).survives

        def test_nothing_is_not_green(judge):
            assert not judge([]).survives
    """)
    run(third_party).assert_outcomes(passed=4)


def test_namespaces_of_a_failed_test_can_be_kept(third_party: pytest.Pytester) -> None:
    """With the command that enters them; the process that holds them is ended here."""
    from lab.kernel.keep import end, leftovers

    third_party.makepyfile(FAILING)
    before = {left.pid for left in leftovers()}
    result = run(third_party, "--lab-keep=failed")
    result.stdout.fnmatch_lines(["*- namespaces kept -*", "nsenter --target * --net=/proc/*"])
    pids = [int(line.split()[2]) for line in result.outlines if line.startswith("nsenter ")]
    kept = [left for left in leftovers() if left.pid in pids and left.pid not in before]
    for left in kept:
        end(left)
    assert [left.kept for left in kept] == [True]


def test_where_nothing_can_be_run_tests_are_skipped_with_the_reason(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason and the remedy, as the command line would say it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("""
        import pytest
        from lab.errors import UnsupportedError
        from lab import plugin

        class Refused:
            def __init__(self, workers): ...
            def ask(self, question): raise UnsupportedError("cannot make namespaces here")
            def close(self): ...

        @pytest.fixture(autouse=True)
        def refuse(monkeypatch):
            monkeypatch.setattr(plugin, "Pool", Refused)
    """)
    pytester.makepyfile(PASSING)
    result = run(pytester, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * cannot make namespaces here"])


def test_ids_say_what_a_scenario_is() -> None:
    """Software, family, variant and order; the mode where it is not the default."""
    ids = [
        title(s)
        for s in scenarios(
            "tailscale@1.102.3:iptables", "calico@3.20", families=("ipv4",), variants=("nft",)
        )
    ]
    assert ids == [
        "tailscale-1.102.3+calico-3.20-ipv4-nft-ab",
        "tailscale-1.102.3+calico-3.20-ipv4-nft-ba",
    ]
    (alone,) = scenarios("tailscale@1.102.3:nft", families=("ipv6",), variants=("legacy",))
    assert title(alone) == "tailscale-1.102.3-nft-ipv6-legacy"


def test_a_result_without_verdicts_does_not_survive() -> None:
    """An empty result is never green."""
    nothing = Result((), ())
    assert not nothing.survives
    assert nothing.conflicts == ()
    assert repr(nothing) == "<no verdict>"


def test_the_worker_judges_the_runs_that_the_test_can_have(lab: Lab) -> None:
    """Verdicts come without runs; who asks for the runs afterwards gets those they rest on."""
    software = (entry("portmap"), entry("kubernetes"))
    scenario = Scenario(software, families=("ipv4",), variants=("nft",), orders="given")
    experiments = tuple(scenario.experiments())
    lab.run(experiments[0])  # skips where nothing can be run
    own = Lab()
    try:
        verdicts = own.verdicts(experiments)
        runs = tuple(map(own.run, experiments))
        assert len(verdicts) > len(experiments)
        assert tuple(compare(runs)) == verdicts
        assert own.verdicts(experiments) == verdicts
        assert [own.run(e).seconds for e in experiments] == [run.seconds for run in runs]
    finally:
        own.close()


def test_a_worker_that_died_is_replaced(lab: Lab) -> None:
    """The failure is told once; the next test has a new worker."""
    software = next(e for e in entries() if e.name == "portmap")
    own = Lab(families=("ipv4",), variants=("nft",))
    experiment = next(Scenario((software,), families=("ipv4",), variants=("nft",)).experiments())
    lab.run(experiment)
    try:
        pool = own._open()
        pool._workers[0]._process.kill()
        with pytest.raises(SandboxError, match="the worker process ended with status -9"):
            own.run(experiment)
        assert own.run(experiment).flows
    finally:
        own.close()
