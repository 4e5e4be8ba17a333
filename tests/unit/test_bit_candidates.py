"""Which bits are free beside others; nothing here needs the kernel."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import cli
from lab.bits.candidates import candidates, defaults, everywhere
from lab.bits.newcomer import newcomer
from lab.bits.proof import Proof, code
from lab.lint.hurt import Owners
from lab.lint.run import entry_subjects, findings
from lab.marks import WORD
from lab.registry.find import find
from lab.registry.loader import load
from lab.registry.software import Software
from lab.verdict.outcome import Outcome

REGISTRY = load()


def partners(*names: str) -> tuple[Software, ...]:
    """Find entries."""
    return tuple(find(name, REGISTRY) for name in names)


def test_a_free_bit_is_claimed_and_tested_by_no_partner() -> None:
    """Calico has 16-31, Tailscale 16-23, kube-proxy 14."""
    ranked = candidates(partners("calico", "tailscale", "kubernetes"), REGISTRY)
    free = [c.mask for c in ranked if c.free]
    assert sorted(free) == [1 << bit for bit in (*range(14), 15)]


def test_free_bits_come_before_all_others() -> None:
    """The order is what a person reads."""
    ranked = candidates(partners("calico", "tailscale", "kubernetes"), REGISTRY)
    assert [c.free for c in ranked] == sorted((c.free for c in ranked), reverse=True)


def test_a_bit_of_an_older_release_ranks_behind() -> None:
    """Before 1.28 kubelet dropped by bit 15: the newest release does not, and says so."""
    ranked = candidates(partners("kubernetes"), REGISTRY)
    (bit15,) = [c for c in ranked if c.mask == 0x8000]
    assert "kubernetes@1.18.6" in {m.who for m in bit15.releases if m.kind == "claims"}
    assert ranked[0].mask != 0x8000


def test_what_a_candidate_meets_is_told_with_who_and_how() -> None:
    """Claims, single-bit tests, magic numbers and whole-mark writes."""
    ranked = candidates(partners("kubernetes", "wg-quick", "aws-vpc-cni:nft"), REGISTRY)
    (bit14,) = [c for c in ranked if c.mask == 0x4000]
    met = {(m.kind, m.who) for m in bit14.meetings}
    assert {("claims", "kubernetes"), ("tests", "kubernetes"), ("magic", "wg-quick")} <= met
    assert {("clears", "wg-quick"), ("clears", "aws-vpc-cni")} <= met
    assert not bit14.free


def test_who_overwrites_the_whole_word_is_met_by_every_bit() -> None:
    """It is told once."""
    ranked = candidates(partners("wg-quick"), REGISTRY)
    assert {m.kind for m in everywhere(ranked)} == {"clears", "compares"}
    assert all(set(everywhere(ranked)) <= set(c.meetings) for c in ranked)


@given(st.integers(1, 16))
def test_every_run_of_neighbouring_bits_is_a_candidate_once(width: int) -> None:
    """Whatever the width."""
    masks = [c.mask for c in candidates((), (), width)]
    assert len(set(masks)) == len(masks) == 33 - width
    assert {m.bit_count() for m in masks} == {width}
    assert max(masks) <= WORD


@pytest.mark.parametrize("mask", [0x10, 0x60, 0xFFFF0000, 0x80000000])
def test_the_newcomer_that_tries_them_is_clean(mask: int) -> None:
    """Lint finds nothing in it, and it writes nothing but its own bits."""
    touched = set()
    for subject in entry_subjects(newcomer(mask)):
        assert list(findings(subject, Owners(REGISTRY))) == []
        touched |= {(w.field, w.changes) for line in subject.lines for w in line.writes}
    bits = [1 << bit for bit in range(32) if mask >> bit & 1]
    assert touched == {("mark", mask), *((f, bit) for f in ("mark", "ctmark") for bit in bits)}


def test_everything_means_what_each_bare_name_means() -> None:
    """One entry per software."""
    names = [entry.name for entry in defaults(REGISTRY)]
    assert names == sorted({entry.name for entry in REGISTRY})
    assert all(find(entry.name, REGISTRY) is entry for entry in defaults(REGISTRY))


def test_a_proof_without_verdicts_proves_nothing() -> None:
    """An empty result is never green."""
    assert Proof("x", ()).outcome is Outcome.INCONCLUSIVE
    assert code([Proof("x", ())]) == 2


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Masks are numbers, best first."""
    assert cli.run(["bits", "--beside", "calico,kubernetes", "--width", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["beside"] == ["calico", "kubernetes"]
    assert len(told["candidates"]) == 31
    assert told["candidates"][0]["free"]


def test_no_free_bit_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside everything there is none; the least contested is named."""
    assert cli.run(["bits"]) == 1
    assert "no bit is free; 0x" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--width", "0"], ["--width", "17"], ["--beside", "nobody"]])
def test_wrong_options_are_exit_code_4(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One line."""
    assert cli.run(["bits", *arguments]) == 4
    assert capsys.readouterr().err.count("\n") == 1
