"""What a person, a machine and a CI system read of the same verdicts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from small_runs import ALPHA, BETA, FINE, LOST, PING, run, runs

from lab.record import Fate, Run
from lab.report import json_file, junit_xml, page
from lab.report.cases import Case
from lab.report.conflicts import UNHARMED, Report, effect, report
from lab.report.names import Names, listed, place
from lab.report.text import render, summary
from lab.scenario import Experiment
from lab.verdict.outcome import Outcome

BAR = "----- 1. verdict: clobbered -----"


def text(answer: Report, columns: int = 0, verbose: bool = False) -> str:
    """Render a report without colour."""
    return page.plain(render(answer, columns, verbose))


def test_a_conflict_is_told_in_full() -> None:
    """The reader learns who, where, which bits, which rule, the fate, and how to see it."""
    assert text(report(runs())) == (
        "CLOBBERED  alpha/ping  lost  both orders, ipv4+ipv6, nft+legacy  [1]\n"
        "\n"
        "---------------------------- 1. verdict: clobbered -----------------------------\n"
        "alpha 1.10 beside beta 1.10, flow ping, at node postrouting srcnat - 1\n"
        "  bits 16-23   alone 0x00040000   together 0x00000000   (packet mark)\n"
        "  written by   beta 1.10, node postrouting, table mangle, chain beta-POST\n"
        "               -A beta-POST -j MARK --set-mark 0/0xf0000\n"
        "               0x00040000 -> 0x00000000\n"
        "    listed as  -A beta-POST -j MARK --set-xmark 0x0/0xf0000\n"
        "    from       lab/registry/data/beta/1.toml:12\n"
        "               example/beta@v1.10:b.go#L2\n"
        "  fate         alone:    delivered to lan from 192.0.2.1\n"
        "               together: request ended on lan in prerouting, not routed\n"
        "  flows hit    alpha/ping: lost\n"
        "  in           both orders, ipv4+ipv6, nft+legacy\n"
        "  see it       fwmark-lab trace alpha@1.10 beta@1.10 --flow alpha/ping\n"
        "  reproduce    fwmark-lab shrink alpha@1.10 beta@1.10 --flow alpha/ping "
        "--order given -o reproduce.sh\n"
        "\n"
        "alpha 1.10: 1 of 2 flows survives\n"
        "beta 1.10: no flow was judged\n"
        "alpha 1.10 and beta 1.10 do not coexist: 1 of 2 flows breaks\n"
    )


def test_coexistence_is_one_sentence() -> None:
    """Where nothing differs, the answer is short."""
    answer = report(runs(lambda _: False))
    assert text(answer) == (
        "alpha 1.10: 2 of 2 flows survive\n"
        "beta 1.10: no flow was judged\n"
        "alpha 1.10 and beta 1.10 coexist: all 2 expectations of 2 flows survive in every order "
        "and variant\n"
    )


def test_verbose_lists_the_survivors() -> None:
    """-v names the flows that survive."""
    assert "alpha 1.10: 1 of 2 flows survives: pong\n" in text(report(runs()), verbose=True)


def test_nothing_judged_is_never_green() -> None:
    """An empty result says so."""
    answer = report([replace(one, flows=()) for one in runs()], verdicts=())
    assert summary(answer) == "alpha 1.10 and beta 1.10: nothing was judged"


def test_an_inconclusive_flow_is_told_with_its_reason() -> None:
    """What could not be judged stands in the report like a conflict, but is none."""
    shown = text(report([replace(one, lost=("3 messages",)) for one in runs()]))
    assert "INCONCLUSIVE  alpha/ping" in shown
    assert "verdict: inconclusive" in shown
    assert "observation was lost: 3 messages" in shown
    assert "no conflict seen, but 2 of 2 flows could not be judged" in shown


def test_one_program_alone_is_told_as_such() -> None:
    """A check of one entry speaks of no other."""
    one = replace(runs()[0].experiment, beside=(ALPHA,))
    shown = text(report([run(one, cleared=False)]))
    assert "alpha 1.10 alone: all 2 expectations of 2 flows hold" in shown


# --- folding -------------------------------------------------------------------------------------


def phrase(happens: object) -> str:
    """Return how the report names the experiments in which beta harms alpha."""
    (difference,) = report(runs(happens)).differences()  # type: ignore[arg-type]
    return report(runs()).tried.phrase(difference.cases)


def _order(experiment: Experiment) -> bool:
    return experiment.order[-1] == BETA.title


def test_identical_cases_are_folded() -> None:
    """Orders, families and variants are named together where they behave alike."""
    assert phrase(lambda _: True) == "both orders, ipv4+ipv6, nft+legacy"
    assert phrase(_order) == "alpha then beta, ipv4+ipv6, nft+legacy"
    assert phrase(lambda e: e.family == "ipv6") == "both orders, ipv6, nft+legacy"
    assert phrase(lambda e: e.variant == "nft" and _order(e)) == "alpha then beta, ipv4+ipv6, nft"


def test_cases_that_are_no_product_are_split() -> None:
    """A phrase never claims a case in which it did not happen."""
    assert phrase(lambda e: _order(e) or e.family == "ipv6") == (
        "alpha then beta, ipv4+ipv6, nft+legacy; beta then alpha, ipv6, nft+legacy"
    )


def test_phrases_name_exactly_the_cases() -> None:
    """Whatever the set of cases, the products it is split into have as many members."""
    tried = report(runs()).tried
    for mask in range(1, 1 << len(tried.cases)):
        some = [case for bit, case in enumerate(tried.cases) if mask >> bit & 1]
        named = 0
        for part in tried.phrase(some).split("; "):
            order, families, variants = part.split(", ")
            named += (
                (2 if order == "both orders" else 1)
                * len(families.split("+"))
                * len(variants.split("+"))
            )
        assert named == len(some)


def test_only_what_is_special_is_named() -> None:
    """A difference between cases leaves out what is the same in all."""
    tried = report(runs()).tried
    first = Case((ALPHA.title, BETA.title), "ipv4", "nft")
    assert tried.difference([first]) == "alpha then beta, ipv4, nft"
    assert tried.difference([c for c in tried.cases if c.order == first.order]) == "alpha then beta"


# --- grouping and effects ------------------------------------------------------------------------


def test_flows_of_one_cause_share_an_explanation() -> None:
    """Verdicts that the same rule explains are one conflict."""
    answer = report(runs())
    assert len(answer.conflicts) == 1
    assert len(answer.conflicts[0].verdicts) == 8


def test_a_lost_packet_comes_before_a_changed_mark() -> None:
    """The worst effect comes first, whatever the outcome."""

    def harmed(one: Run) -> Run:
        if one.experiment.alone:
            return one
        ping, pong = one.flows
        return replace(one, flows=(replace(ping, fate=FINE), replace(pong, fate=LOST)))

    answer = report([harmed(one) for one in runs()])
    assert [d.flow[1] for d in answer.differences()] == ["pong", "ping"]
    assert [c.outcome for c in answer.conflicts] == [Outcome.DROPPED, Outcome.CLOBBERED]
    assert summary(answer).endswith("1 of 2 flows breaks, 1 more has wrong marks")


@pytest.mark.parametrize(
    ("together", "short"),
    [
        (FINE, "marks only"),
        (LOST, "lost"),
        (Fate(3, 1, 1, "lan", "192.0.2.1", ""), "lost"),
        (Fate(3, 3, 0, "lan", "192.0.2.1", ""), "not answered"),
        (Fate(3, 3, 3, "pod", "192.0.2.1", ""), "misrouted"),
        (Fate(3, 3, 3, "lan", "10.0.0.1", ""), "other source"),
    ],
)
def test_an_effect_is_what_the_owner_notices(together: Fate, short: str) -> None:
    """Fates are compared as the sender would tell it."""
    assert effect(FINE, together).short == short


def test_an_arrival_that_should_be_a_drop_is_an_effect() -> None:
    """A flow that its owner drops must stay dropped."""
    assert effect(LOST, FINE).short == "let through"
    assert effect(LOST, LOST) == UNHARMED


# --- names ---------------------------------------------------------------------------------------


def test_names_are_short_where_they_are_clear() -> None:
    """A second release of the same program is told by its release, another mode by its mode."""
    nft = replace(ALPHA, mode="nft", default_mode=False)
    assert Names((ALPHA, BETA)).short(ALPHA.title) == "alpha"
    assert Names((ALPHA, nft)).short(nft.title) == "alpha 1.10 (nft)"
    assert Names((ALPHA, nft)).argument(nft.title) == "alpha@1.10:nft"


def test_an_entry_of_ones_own_is_named_by_its_file() -> None:
    """The trace command must find it again."""
    mine = replace(ALPHA, file="/home/me/alpha.toml")
    assert Names((mine,)).argument(mine.title) == "/home/me/alpha.toml"


def test_places_do_not_depend_on_the_machine() -> None:
    """Files of the registry are named from the clone's root."""
    assert place("/anywhere/lab/registry/data/x/1.toml", 7) == "lab/registry/data/x/1.toml:7"
    assert place("/home/me/alpha.toml", 7) == "/home/me/alpha.toml:7"


def test_lists_are_sentences() -> None:
    """Names are joined as people do."""
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_a_terminal_is_never_overrun(columns: int) -> None:
    """Every line fits the terminal, but for words that are longer."""
    for line in text(report(runs()), columns).splitlines():
        longest = max(map(len, line.split()), default=0)
        assert len(line) <= max(columns, longest + page.LABEL + 2)


def test_a_pipe_gets_stable_lines() -> None:
    """Without a terminal nothing is wrapped, so that grep and diff work."""
    assert text(report(runs())) == text(report(runs()), page.PIPED)


class Stream:
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    terminal: bool, environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR and dumb terminals are respected."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert page.wants_colour(Stream(terminal)) is coloured  # type: ignore[arg-type]


# --- machines ------------------------------------------------------------------------------------


def test_json_holds_every_verdict() -> None:
    """A machine gets the summary, the exit code and each verdict with its evidence."""
    answer = report(runs())
    content = json.loads(json_file.text(json_file.content(answer)))
    assert content["exit_code"] == 1
    assert content["summary"] == summary(answer)
    assert len(content["verdicts"]) == len(answer.verdicts)
    worst = next(v for v in content["verdicts"] if v["outcome"] == "clobbered")
    assert worst["culprit"]["rule"]["file"].endswith("beta/1.toml")
    assert worst["point"] == "node postrouting srcnat - 1"


def test_junit_has_one_case_per_flow_and_case() -> None:
    """Each owner's flow in each order, family and variant is one test case."""
    suite = ElementTree.fromstring(junit_xml.text(report(runs())))[0]
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests", "")) == 16
    assert len({case.get("name") for case in cases}) == 16
    assert cases[0].get("classname") == ALPHA.title
    assert re.fullmatch(
        r"p[io]ng \[alpha then beta, ipv4, iptables-nft\]", cases[0].get("name", "")
    )


def test_junit_failures_hold_the_explanation() -> None:
    """Who reads the CI's page needs no other."""
    suite = ElementTree.fromstring(junit_xml.text(report(runs())))[0]
    failures = suite.findall("testcase/failure")
    assert len(failures) == int(suite.get("failures", "")) == 8
    assert "-A beta-POST -j MARK --set-mark 0/0xf0000" in (failures[0].text or "")
    assert failures[0].get("type") == "CLOBBERED"


def test_junit_calls_the_inconclusive_an_error() -> None:
    """What could not be judged is neither passed nor failed."""
    lost = [replace(one, lost=("x\x00<&>",)) for one in runs()]
    suite = ElementTree.fromstring(junit_xml.text(report(lost)))[0]
    assert len(suite.findall("testcase/error")) == int(suite.get("errors", "")) == 16
    assert PING.name in suite[0].get("name", "")
