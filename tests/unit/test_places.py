"""Listed rules keep their places, whoever installs the others."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lab.native import nft_text
from lab.native.iptables_text import Change, changes
from lab.native.ledger import Ledger
from lab.native.rule import Rule
from lab.points import Point
from lab.registry.loader import DATA, load
from lab.registry.places import arranged
from lab.registry.software import Ruleset, Software
from lab.scenario import Scenario
from lab.shrink.script import script
from lab.shrink.search import Shrunk
from lab.shrink.shell import function_name
from lab.verdict.outcome import Outcome, Verdict

OWNERS = st.lists(st.integers(0, 3), min_size=1, max_size=14)


def owner(number: int, ruleset: Ruleset) -> Software:
    """Make a software of one ruleset."""
    return Software(str(number), "1", "m", "bitwise", "", "", rulesets=(ruleset,), file="host.save")


def replayed(software: tuple[Software, ...]) -> dict[tuple[str, str], list[int]]:
    """Install one after the other into a ledger; return the lines that stand in each chain."""
    ledger = Ledger()
    for one in software:
        for ruleset in one.rulesets:
            for change in _changes(ruleset):
                rule = Rule(one.name, ruleset.tool, change.table, change.chain, change.text,
                            line=change.number)  # fmt: skip
                ledger.apply(change, rule)
    return {name: [rule.line for rule in rules] for name, rules in ledger.chains.items()}


def _changes(ruleset: Ruleset) -> list[Change]:
    if ruleset.tool == "iptables":
        return list(changes(ruleset.text))
    return [
        Change("insert" if r.position else "append", r.table, r.chain, r.position, "", r.text,
               r.number, "")
        for r in nft_text.rules(ruleset.text)
    ]  # fmt: skip


@given(OWNERS, st.permutations(range(4)))
def test_rules_of_iptables_stand_in_the_order_of_their_lines(
    owners: list[int], order: list[int]
) -> None:
    """In built-in chains and in others, which are made once."""
    software = []
    for number in order:
        lines = ["*mangle", ":mine - [0:0]"]
        for n, of in enumerate(owners):
            mine = of == number
            lines.append(f"-A {'mine' if n % 3 else 'FORWARD'} -j ACCEPT" if mine else "")
        text = "\n".join([*lines, "COMMIT"])
        software.append(owner(number, Ruleset("iptables", text, file="f", listed=True)))
    chains = replayed(arranged(software))
    for lines_there in chains.values():
        assert lines_there == sorted(lines_there)
    assert sum(map(len, chains.values())) == len(owners)


@given(OWNERS, st.permutations(range(4)))
def test_rules_of_nft_stand_in_the_order_of_their_lines(
    owners: list[int], order: list[int]
) -> None:
    """By the index before which each is inserted."""
    software = []
    for number in order:
        lines = [
            f"add rule ip t c{n % 2} accept" if of == number else "" for n, of in enumerate(owners)
        ]
        ruleset = Ruleset("nft", "\n".join(lines), file="f", listed=True)
        software.append(owner(number, ruleset))
    chains = replayed(arranged(software))
    for lines_there in chains.values():
        assert lines_there == sorted(lines_there)
    assert sum(map(len, chains.values())) == len(owners)


def test_what_is_not_listed_is_left_as_it_is() -> None:
    """An entry's own order of installation is the question there."""
    one = owner(1, Ruleset("iptables", "*mangle\n-A FORWARD -j ACCEPT\nCOMMIT", file="f"))
    assert arranged((one, one)) == (one, one)


def test_one_alone_is_appended() -> None:
    """There is nothing before which it could be inserted."""
    text = "*mangle\n\n-A FORWARD -j ACCEPT\nCOMMIT"
    one = owner(1, Ruleset("iptables", text, file="f", listed=True))
    assert arranged((one,)) == (one,)


def test_a_script_installs_an_owner_alone_without_the_others_places() -> None:
    """Beside others its rule comes before one of theirs; alone there is none."""
    tailscale = next(e for e in load(DATA / "tailscale") if e.default_mode)
    first = owner(1, Ruleset("iptables", "*filter\n\n-A FORWARD -j ACCEPT\nCOMMIT", file="f",
                             listed=True))  # fmt: skip
    mine = Ruleset("iptables", "*filter\n-A FORWARD -j DROP\n\nCOMMIT", file="f", listed=True)
    flow = next(flow for flow in tailscale.flows if flow.name == "tailnet-to-lan")
    second = replace(tailscale, rulesets=(mine,), flows=(flow,))
    verdict = Verdict(
        Outcome.CLOBBERED, second.title, (first.title, second.title), "ipv4", "nft", flow.name,
        "why", point=Point.parse("node forward filter + 1"), bits=0xFF0000, alone=0x40000,
        together=0, fate_alone="delivered to lan from 192.168.50.10",
    )  # fmt: skip
    text = script(Shrunk(Scenario((first, second)), verdict, 2, 2, 1), "a test")
    together, alone = (_function(text, second.title, suffix) for suffix in ("", "_alone"))
    assert "-I FORWARD 1 -j DROP" in together
    assert "-A FORWARD -j DROP" in alone
    name = function_name(second.title)
    assert f"measure {name}_alone\n" in text
    assert f"measure {function_name(first.title)} {name}\n" in text


def _function(text: str, title: str, suffix: str) -> str:
    """Return the body of the function that installs a program."""
    begun = text.index(f"\n{function_name(title)}{suffix}()")
    return text[begun : text.index("\n}\n", begun)]
