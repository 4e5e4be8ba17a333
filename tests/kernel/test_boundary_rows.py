"""What the rows of the boundary table leave behind, and what a wrong row looks like."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lab.boundary.__main__ import MEASURE, measure
from lab.boundary.features import FEATURES, Feature
from lab.boundary.row import Change, Row, see
from lab.boundary.table import BOUNDARIES
from lab.errors import RuleRefused, SandboxError
from lab.kernel.netns import host_inode
from lab.runner.pool import Pool
from lab.runner.protocol import Task

pytestmark = pytest.mark.kernel
_ROWS = {row.name: row for row in BOUNDARIES}
_VETH = _ROWS["veth, other namespace, ipv4"]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Give a pool of one worker."""
    with Pool(1) as pool:
        yield pool


def _descriptors() -> list[str]:
    """List the kinds of what the workers of this process have open."""
    return sorted(fd.readlink().name.partition(":")[0] for w in _workers() for fd in w.iterdir())


def _workers() -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            runs = b"lab.runner.worker" in (folder / "cmdline").read_bytes()
            if runs and parent == str(os.getpid()):
                yield folder / "fd"


@pytest.mark.parametrize(
    "name",
    [
        "veth, other namespace, ipv6",
        "tun, through the program behind it",
        "NFQUEUE, verdict with mark",
        "socket mark, every segment of a connection",
        "bpf at tc egress",
    ],
)
def test_a_row_leaves_no_descriptor_behind(pool: Pool, name: str) -> None:
    """Namespaces are held by descriptors: when as many are open as before, all are gone."""
    measure(pool, _ROWS[name])
    before = _descriptors()
    assert "net" in before  # the worker's own namespace
    measure(pool, _ROWS[name])
    assert _descriptors() == before


def test_a_row_leaves_this_namespace_alone(pool: Pool) -> None:
    """The process that asks stays where it is, and has the devices that it had."""
    inode, devices = host_inode(), Path("/proc/net/dev").read_text().count(":")
    measure(pool, _VETH)
    assert (host_inode(), Path("/proc/net/dev").read_text().count(":")) == (inode, devices)


def _built_in() -> set[str]:
    """List the options that this kernel was built with, modules aside; none where it hides them."""
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except FileNotFoundError:
        return set()
    return set(re.findall(r"^(CONFIG_\w+)=y$", text, re.MULTILINE))


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may not use all that is there")
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_feature_that_the_kernel_has_is_found(pool: Pool, feature: Feature) -> None:
    """A trial that fails for a reason of its own would skip its rows everywhere, unnoticed."""
    options = set(re.findall(r"CONFIG_\w+", feature.option))
    if not options or not options <= _built_in() or "package" in feature.option:
        pytest.skip(f"{feature.option} is not in this kernel's own list")
    if feature.name == "control group bpf":
        pytest.skip("control groups belong to the whole machine: in a guest only")
    trial = replace(_VETH, needs=(feature.name,))
    assert measure(pool, trial).skipped == ""


def test_a_wrong_expectation_is_seen(pool: Pool) -> None:
    """A row that claims that a veth pair keeps the mark does not agree with what is measured."""
    wrong = replace(
        _VETH, change=Change.KEPT, readings=(see("a output", 0x11), see("b input", 0x11))
    )
    assert wrong.inconsistency() == ""
    assert measure(pool, wrong).seen == (see("a output", 0x11), see("b input", 0))


def test_a_row_whose_command_fails_is_an_error(pool: Pool) -> None:
    """A command that is refused, although all features are there, is never a skip."""
    broken = replace(_VETH, built="a: ip link add v9 type nonsense\n")
    with pytest.raises(RuleRefused, match="nonsense"):
        measure(pool, broken)


def test_the_worker_survives_a_broken_row(pool: Pool) -> None:
    """After a refused row the next one runs as if nothing had been."""
    with pytest.raises(RuleRefused):
        measure(pool, replace(_VETH, built="a: nft table\n"))
    assert measure(pool, _VETH).seen == _VETH.readings


def test_an_outcome_that_the_marks_do_not_mean_is_told() -> None:
    """Each kind of change rules out marks that mean another one."""
    row: Row = replace(_VETH, change=Change.DROPPED)
    assert row.inconsistency() == f"{_VETH.name}: 0x11 then 0x0 is not dropped"


def test_what_is_no_row_is_refused(pool: Pool) -> None:
    """The worker's function takes rows only."""
    with pytest.raises(SandboxError, match="is not a row"):
        pool.call(Task(MEASURE, "veth"))
