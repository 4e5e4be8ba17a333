"""The pytest plugin: fixtures ``lab`` and ``judge``, options ``--lab-…``, evidence on failure.

A test states its claim with a bare ``assert`` on what ``lab.check`` or ``judge`` returns; what was
judged is printed with the failure, on the terminal and in JUnit XML. One worker process serves one
pytest process, so ``pytest -n`` runs as many experiments side by side as it has workers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from _pytest._code.code import ExceptionRepr

from lab.cases import Named as Named
from lab.cases import entries as entries
from lab.cases import entry as entry
from lab.cases import scenarios as scenarios
from lab.cases import short
from lab.cases import title as title
from lab.errors import SandboxError, UnsupportedError, UsageError
from lab.record import Run
from lab.registry.software import Software
from lab.runner.pool import Pool
from lab.runner.protocol import Question
from lab.scenario import VARIANTS, Experiment, Orders, Scenario, Variant
from lab.shard import Shard
from lab.traffic.flow import FAMILIES, Family
from lab.verdict.compare import compare
from lab.verdict.outcome import Verdict
from lab.verdict.result import Result as Result

_REMEMBERED = 32
"""Runs together that are kept for other tests; runs alone are few, and all kept."""


@dataclass(slots=True)
class Lab:
    """One worker process, and the runs that several tests share: all runs alone, some together.

    Software that leaves the kernel in the same state in whichever order it is installed is run in
    one of the orders, but for ``every_order``.
    """

    families: tuple[Family, ...] = FAMILIES
    variants: tuple[Variant, ...] = VARIANTS
    every_order: bool = False
    judged: list[Result] = field(default_factory=list, repr=False)
    _pool: Pool | None = field(default=None, repr=False)
    _alone: dict[Experiment, Run] = field(default_factory=dict, repr=False)
    _together: dict[Experiment, Run] = field(default_factory=dict, repr=False)
    _soon: tuple[Experiment, ...] = field(default=(), repr=False)

    def check(
        self,
        *software: Named | Scenario,
        families: Sequence[Family] = (),
        variants: Sequence[Variant] = (),
        orders: Orders = "all",
        flows: Sequence[str] = (),
    ) -> Result:
        """Run software alone and together, and judge it. Takes names or one Scenario.

        Without ``families`` and ``variants`` those of the command line are tried.
        """
        first = software[0]
        if isinstance(first, Scenario):
            scenario = first
        else:
            scenario = Scenario(
                tuple(entry(name) for name in software if not isinstance(name, Scenario)),
                families=tuple(families) or self.families,
                variants=tuple(variants) or self.variants,
                orders=orders,
                flows=tuple(flows),
            )
        return self.judge(self.run(e) for e in scenario.experiments())

    def run(self, experiment: Experiment) -> Run:
        """Run one experiment, or return its last run. Skips where this machine cannot."""
        experiment = _in_order(experiment)
        known = self._alone if experiment.alone else self._together
        if experiment not in known:
            (known[experiment],) = self._ask((experiment,), "runs")
        if len(self._together) > _REMEMBERED:
            del self._together[next(iter(self._together))]
        return known[experiment]

    def verdicts(self, experiments: Iterable[Experiment]) -> tuple[Verdict, ...]:
        """Judge the runs of experiments, their last ones if they were run; skips as ``run`` does.

        The worker does it, which takes less time than handing the runs over. They can still be had
        by ``run``.
        """
        asked = tuple(map(_in_order, experiments))
        verdicts: tuple[Verdict, ...] = self._ask(asked, "verdicts")
        return verdicts

    def expect(self, experiments: Iterable[Experiment]) -> None:
        """Have experiments run after the next ones that are asked for, while these are judged."""
        self._soon = tuple(experiments)

    def judge(self, runs: Iterable[Run]) -> Result:
        """Judge runs; the result is printed if the test fails."""
        everything = tuple(runs)
        result = Result(everything, tuple(compare(everything)))
        self.judged.append(result)
        return result

    def keep(self, experiment: Experiment) -> str:
        """Run an experiment again, leave its namespaces, and say how to enter the node's."""
        _, kept = self._open().keep(experiment)
        return kept.enter_command("node")

    def close(self) -> None:
        """End the worker process; what it made ends with it."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _ask(self, experiments: tuple[Experiment, ...], wanted: Literal["verdicts", "runs"]) -> Any:
        soon, self._soon = self._soon, ()
        try:
            return self._open().ask(Question(experiments, wanted, self.every_order, soon))
        except UnsupportedError as problem:
            pytest.skip(str(problem))
        except SandboxError:
            self.close()  # the next test starts a new worker
            raise

    def _open(self) -> Pool:
        if self._pool is None:
            with _on_cpu(_worker_number()):
                self._pool = Pool(1)
        return self._pool


def _in_order(experiment: Experiment) -> Experiment:
    """Let the order in which others are named make no second experiment of a run alone."""
    if not experiment.alone:
        return experiment
    return replace(experiment, beside=tuple(sorted(experiment.beside, key=lambda s: s.title)))


@contextmanager
def _on_cpu(number: int) -> Iterator[None]:
    """Narrow this process to one CPU for a while; what it starts meanwhile stays there.

    A pool binds its first worker to the first CPU it may use, and so would that of every process
    of ``pytest -n``.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[number % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _worker_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the lab."""
    group = parser.getgroup("lab", "packet marks on real network namespaces")
    group.addoption(
        "--lab-keep",
        choices=("no", "failed", "all"),
        default="no",
        help="leave the namespaces of failed or of all tests, and say how to enter",
    )
    group.addoption(
        "--lab-family",
        choices=(*FAMILIES, "both"),
        default="both",
        help="run this address family alone",
    )
    group.addoption(
        "--lab-iptables",
        choices=(*VARIANTS, "both"),
        default="both",
        help="run this iptables variant alone",
    )
    group.addoption(
        "--lab-every-order",
        action="store_true",
        help="run software in every order also where the kernel ends in the same state",
    )
    group.addoption(
        "--lab-shard", type=_shard, metavar="i/n", help="run one of n parts, for CI matrices"
    )


def _shard(text: str) -> Shard:
    try:
        return Shard.parse(text)
    except UsageError as problem:
        raise pytest.UsageError(f"--lab-shard: {problem}") from None


_LAB = pytest.StashKey[Lab]()
_GROUPED = "lab_grouped"
_GROUP = re.compile(r"@[^\]/]*$")
"""As xdist looks for it (``LoadGroupScheduling``): behind the last bracket."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the one lab of this process; it starts its worker when it is first asked to run."""
    config.stash[_LAB] = Lab(
        _families(config), _variants(config), config.getoption("--lab-every-order")
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the worker process."""
    if _LAB in config.stash:
        config.stash[_LAB].close()


def _families(config: pytest.Config) -> tuple[Family, ...]:
    wanted = config.getoption("--lab-family")
    return tuple(f for f in FAMILIES if wanted in ("both", f))


def _variants(config: pytest.Config) -> tuple[Variant, ...]:
    wanted = config.getoption("--lab-iptables")
    return tuple(v for v in VARIANTS if wanted in ("both", v))


@pytest.hookimpl(wrapper=True)  # before xdist's own, whichever plugin was loaded first
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Let ``-n`` keep together what shares runs, unless ``--dist`` says otherwise."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadgroup"
    # A worker of xdist reads the command line for itself, and there the choice is not to be found.
    if getattr(config, "workerinput", {}).get(_GROUPED):
        config.option.loadgroup = True
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist that its tests are kept together, so that it names their groups."""
    node.workerinput[_GROUPED] = node.config.option.dist == "loadgroup"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Give tests their own ids back, to which xdist appends the group: ``--lf`` looks for these."""
    if hasattr(report, "node"):
        report.nodeid = _GROUP.sub("", report.nodeid)


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:  # noqa: ARG001
    """Make test ids of scenarios and entries from what they are."""
    if isinstance(val, Scenario):
        return title(val)
    return short(val) if isinstance(val, Software) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep together what shares runs; later, xdist has looked for groups already."""
    if _scenarios(item) and item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(_together(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not wanted or of another shard."""
    lab = config.stash[_LAB]
    shard: Shard | None = config.getoption("--lab-shard")
    wanted: list[pytest.Item] = []
    unwanted: list[pytest.Item] = []
    for item in items:
        held = shard is None or shard.holds(_together(item))
        fits = held and all(_wanted(s, lab) for s in _scenarios(item))
        (wanted if fits else unwanted).append(item)
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = wanted


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Let groups count: xdist 3.8 writes them into an attribute that pytest 9.2 does not read."""
    for item in session.items:
        named: Any = getattr(item, "_nodeid", item.nodeid)
        if named != item.nodeid:
            one: Any = item
            one._id = one._id.parse(named)


def _together(item: pytest.Item) -> str:
    """Name what an item shares runs with; a shard has all of it or nothing."""
    return "+".join(map(_group, _scenarios(item))) or item.nodeid


def _scenarios(item: pytest.Item) -> list[Scenario]:
    parameters = getattr(item, "callspec", None)
    return [v for v in parameters.params.values() if isinstance(v, Scenario)] if parameters else []


def _wanted(scenario: Scenario, lab: Lab) -> bool:
    variants = scenario.variants if any(s.uses_xtables() for s in scenario.software) else ()
    return set(scenario.families) <= set(lab.families) and set(variants) <= set(lab.variants)


def _group(scenario: Scenario) -> str:
    """Name what shares the runs alone: the same software, family and variant."""
    names = "+".join(sorted(short(s) for s in scenario.software))
    return "-".join((names, *scenario.families, *scenario.variants))


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """Return the lab of this process: ``lab.check("tailscale", "calico")``."""
    return pytestconfig.stash[_LAB]


@pytest.fixture
def judge(lab: Lab) -> Callable[[Iterable[Run]], Result]:
    """Return the judge of runs that the test made itself, by ``lab.run``."""
    return lab.judge


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Say what the next test is about: the worker need not wait until this one is done."""
    item.config.stash[_LAB].expect(_subjects(nextitem) if nextitem is not None else ())


def _subjects(item: pytest.Item) -> list[Experiment]:
    """List the one run together of a test that takes the lab and one case."""
    if "lab" not in getattr(item, "fixturenames", ()) or item.get_closest_marker("skip"):
        return []
    together = [e for s in _scenarios(item) for e in s.experiments() if not e.alone]
    return together if len(together) == 1 else []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget what the test before judged."""
    item.config.stash[_LAB].judged.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what was judged to the report of a failed test, and keep namespaces on request."""
    report = yield
    if report.when == "call":
        for heading, text in _sections(item.config, report.failed):
            _add(report, heading, text)
    return report


def _add(report: pytest.TestReport, heading: str, text: str) -> None:
    # Sections of the report itself do not reach JUnit XML; those of the failure do.
    if isinstance(report.longrepr, ExceptionRepr):
        report.longrepr.addsection(heading, text)
    else:
        report.sections.append((heading, text))


def _sections(config: pytest.Config, failed: bool) -> Iterator[tuple[str, str]]:
    lab = config.stash[_LAB]
    if failed:
        from lab.report.sections import evidence

        for result in lab.judged:
            yield from evidence(result)
    if config.getoption("--lab-keep") in ("all", "failed" if failed else "all"):
        for experiment in _worth_keeping(lab.judged):
            yield "namespaces kept", f"{experiment}\n{lab.keep(experiment)}"


def _worth_keeping(results: Iterable[Result]) -> Iterator[Experiment]:
    for result in results:
        together = [run.experiment for run in result.runs if not run.experiment.alone]
        yield from together or [run.experiment for run in result.runs]
