"""The catalogue of reported conflicts: complete, strict, and each case with its own module."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import ALPHA, BETA, RULE

from lab.errors import EntryError, UsageError
from lab.registry.loader import read as read_entry
from lab.reported.catalogue import FOLDER, Case, Edit, Sign, Trial, find, load, read
from lab.verdict.outcome import Culprit, Outcome, Verdict

CASES = load()
HERE = [case for case in CASES if case.bug]
MODULES = Path(__file__).parents[2] / "scenarios" / "reported"
SIGN = Sign("alpha", "ping", Outcome.CLOBBERED, RULE.software.partition("@")[0], RULE.written)
CLOBBERED = Verdict(
    Outcome.CLOBBERED,
    ALPHA.title,
    (ALPHA.title, BETA.title),
    "ipv4",
    "nft",
    "ping",
    "why",
    culprit=Culprit(RULE, "node", "forward", 0, 0, 0),
)


def a_case(**values: object) -> Case:
    """Return a case that is known by ``SIGN``."""
    return replace(HERE[0], sign=SIGN, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.number)
def test_every_case_has_a_module_that_names_it(case: Case) -> None:
    """Named after the thread, which its docstring begins with and its tests are about."""
    path = MODULES / f"test_{case.number.replace('#', '_').replace('-', '_')}.py"
    tree = ast.parse(path.read_text())
    assert (ast.get_docstring(tree) or "").startswith(f"{case.number}: ")
    assert f'THREAD = "{case.number}"' in path.read_text()


def test_every_module_is_about_a_case() -> None:
    """None is left over from a case that was renamed."""
    assert len(list(MODULES.glob("test_*.py"))) == len(HERE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_a_case_either_runs_or_says_why_not(case: Case) -> None:
    """With a cure, or with the reason."""
    assert bool(case.missing) != bool(case.cures)


@pytest.mark.parametrize("case", HERE, ids=lambda case: case.number)
def test_what_is_installed_and_edited_is_there(case: Case) -> None:
    """Every entry is found, and every edit finds its text."""
    assert case.bug is not None
    for trial in (case.bug, *case.cures):
        scenario = case.scenario(trial)
        assert any(s.name == case.sign.owner for s in scenario.software if case.sign)


def test_every_small_entry_is_used() -> None:
    """An entry that no case runs is left over."""
    used = {name for c in HERE for t in (c.bug, *c.cures) if t for name in t.run}
    assert {path.stem for path in (FOLDER / "entries").glob("*.toml")} - used == set()


def test_a_thread_is_found_before_those_it_is_related_to() -> None:
    """tailscale#4917 is a case, and related to tailscale#591 as well."""
    assert find("tailscale#4917", CASES).number == "tailscale#4917"
    assert find("tailscale/tailscale#591", CASES).number == "tailscale#591"
    assert find("microk8s#1541", CASES).number == "kubernetes#113659"


def test_an_unknown_thread_lists_the_known() -> None:
    """With the near one first."""
    with pytest.raises(UsageError, match="did you mean 'tailscale#591'"):
        find("tailscale#592", CASES)


def test_a_bug_must_show_in_every_combination() -> None:
    """One order in which the flow survives is one too many."""
    case = a_case()
    survives = replace(CLOBBERED, outcome=Outcome.SURVIVES, order=(BETA.title, ALPHA.title))
    assert case.shows([CLOBBERED])
    assert not case.shows([CLOBBERED, survives])
    assert not case.shows([])


@pytest.mark.parametrize(
    "other",
    [
        replace(CLOBBERED, outcome=Outcome.DROPPED),
        replace(CLOBBERED, flow="pong"),
        replace(CLOBBERED, owner=BETA.title),
        replace(CLOBBERED, culprit=None),
        replace(
            CLOBBERED,
            culprit=Culprit(replace(RULE, written="-j ACCEPT", listed=""), "node", "x", 0, 0, 0),
        ),
    ],
)
def test_another_verdict_is_not_the_bug(other: Verdict) -> None:
    """Outcome, owner, flow and the rule to blame are all part of it."""
    assert not a_case().shows([other])


def test_cured_means_that_everything_survives_and_something_was_judged() -> None:
    """No verdict is no cure, and neither is one that is inconclusive."""
    survives = replace(CLOBBERED, outcome=Outcome.SURVIVES, culprit=None)
    doubt = replace(survives, outcome=Outcome.INCONCLUSIVE)
    assert a_case().cured([survives])
    assert not a_case().cured([survives, doubt])
    assert not a_case().cured([])


def test_an_edit_that_changes_nothing_is_refused() -> None:
    """Or a cure would be the bug, run again."""
    trial = Trial("", ("passwall", "mwan3"), "all", edits=(Edit("passwall", "nowhere", ""),))
    with pytest.raises(EntryError, match="no rule contains 'nowhere'"):
        HERE[0].scenario(trial)


def test_an_edit_changes_a_copy() -> None:
    """The entry itself stays as it is."""
    edit = Edit("passwall", "--mark 255", "--mark 0xff/0xff")
    trial = Trial("", ("passwall", "mwan3"), "all", edits=(edit,))
    edited = HERE[0].scenario(trial).software[0]
    assert "--mark 0xff/0xff" in edited.rulesets[0].text
    assert "--mark 255" in read_entry(FOLDER / "entries" / "passwall.toml").rulesets[0].text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("thread = 3", "expected a string"),
        ("thread = ", "not valid TOML"),
        ('nonsense = "x"', "missing; expected a string"),
    ],
)
def test_a_broken_case_names_the_file(tmp_path: Path, text: str, problem: str) -> None:
    """As every other file that is read."""
    (tmp_path / "broken.toml").write_text(text)
    with pytest.raises(EntryError, match=rf"broken\.toml.*{problem}"):
        read(tmp_path / "broken.toml")
