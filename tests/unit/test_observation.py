"""The pure part of observation: putting passes in order, and naming the policy rule."""

from __future__ import annotations

import pytest

from lab.kernel.route import Answer, Lookup
from lab.marks import Mark
from lab.observe.nftrace import Headers, Message
from lab.observe.passes import Pass, legacy_passes, merge
from lab.observe.policy import choose
from lab.observe.xtrace import Line
from lab.points import Point
from lab.record import PolicyRule

HEADERS = Headers(b"packet", "a", "b", 1)


def probe(hook: str, priority: int, mark: int = 0) -> Pass:
    """Make a pass through a chain of the recorder."""
    return Pass(HEADERS, hook, priority, Point("node", hook, priority), [message(mark)])


def message(mark: int) -> Message:
    """Make a trace message."""
    return Message("rule", 2, "t", "c", 1, mark, "continue", 0, 0)


def rules(hook: str, priority: int, mark: int) -> Pass:
    """Make a pass through an nftables chain under test, which the packet leaves with ``mark``."""
    return Pass(HEADERS, hook, priority, None, [message(mark)])


def legacy(hook: str, table: str, mark: int, kind: str = "policy") -> tuple[Line, Headers]:
    """Make a TRACE line."""
    return Line(hook, table, hook.upper(), kind, 1, mark), HEADERS  # type: ignore[arg-type]


def order(passes: list[Pass]) -> list[tuple[str, int, str]]:
    """Say what came when, and by which backend."""
    return [
        (p.hook, p.priority, "legacy" if p.lines else "probe" if p.point else "nft") for p in passes
    ]


def test_legacy_tables_fall_between_the_points_around_them() -> None:
    """By hook and priority."""
    nft = [
        probe("prerouting", -450),
        probe("prerouting", -149),
        probe("forward", -151),
        probe("forward", 1),
    ]
    lines = [
        legacy("prerouting", "raw", 0),
        legacy("prerouting", "mangle", 0),
        legacy("forward", "mangle", 0),
        legacy("forward", "filter", 0),
    ]
    assert order(merge(nft, list(legacy_passes(lines)))) == [
        ("prerouting", -450, "probe"),
        ("prerouting", -300, "legacy"),
        ("prerouting", -150, "legacy"),
        ("prerouting", -149, "probe"),
        ("forward", -151, "probe"),
        ("forward", -150, "legacy"),
        ("forward", 0, "legacy"),
        ("forward", 1, "probe"),
    ]


@pytest.mark.parametrize(("seen", "first"), [(0, "legacy"), (0x10, "nft")])
def test_at_equal_priority_the_mark_tells_who_was_first(seen: int, first: str) -> None:
    """The legacy table saw the mark from before, or the one that the nft chain left."""
    nft = [probe("forward", -1, 0), rules("forward", 0, 0x10), probe("forward", 1, 0x10)]
    merged = merge(nft, list(legacy_passes([legacy("forward", "filter", seen)])))
    assert order(merged)[1][2] == first
    assert len(merged) == 4


def test_lines_of_one_table_are_one_pass() -> None:
    """Until the policy or the next table."""
    lines = [
        legacy("forward", "mangle", 0, "rule"),
        legacy("forward", "mangle", 1),
        legacy("forward", "mangle", 1, "rule"),
        legacy("forward", "filter", 1),
    ]
    assert [len(p.lines) for p in list(legacy_passes(lines))] == [2, 1, 1]


def test_a_packet_that_comes_back_starts_new_hooks() -> None:
    """The second prerouting of the same packet is another stage."""
    nft = [probe("prerouting", -450), probe("postrouting", 400), probe("prerouting", -450)]
    merge(nft, [])
    assert [p.stage for p in nft] == [0, 1, 2]


def test_without_legacy_tables_nothing_moves() -> None:
    """The order of arrival is the order of events."""
    nft = [probe("output", -450), rules("output", -150, 1), probe("output", -149, 1)]
    assert merge(list(nft), []) == nft


def policy(priority: int, table: int, mark: Mark | None = None, **more: object) -> PolicyRule:
    """Make a line of ``ip rule``."""
    given = {
        "action": "lookup",
        "inverted": False,
        "iif": "",
        "oif": "",
        "source": "",
        "destination": "",
    } | more
    return PolicyRule(
        priority,
        table,
        str(given["action"]),
        mark,
        bool(given["inverted"]),
        str(given["iif"]),
        str(given["oif"]),
        str(given["source"]),
        str(given["destination"]),
        None,
        "",
        int(str(given.get("suppress", -1))),
    )


BYPASS = Mark(0x80000, 0xFF0000)
POLICY = (
    policy(0, 255),
    policy(5210, 254, BYPASS),
    policy(5250, 0, BYPASS, action="unreachable"),
    policy(5270, 52),
    policy(32766, 254),
)


@pytest.mark.parametrize(
    ("mark", "answer", "index"),
    [
        (0x80000, Answer(table=254), 1),
        (0, Answer(table=254), 4),
        (0, Answer(table=52), 3),
        (0x180000, Answer(table=254), 4),
        (0x80000, Answer(error="Network is unreachable"), 2),
        (0x80000, Answer(error="No route to host"), 2),
        (0x80000, Answer(error="Invalid argument"), None),
        (0, Answer(error="No route to host"), None),
        (0, Answer(table=99), None),
        (0, Answer(table=255), 0),
    ],
)
def test_the_first_matching_rule_that_leads_to_the_table_is_named(
    mark: int, answer: Answer, index: int | None
) -> None:
    """As the kernel tries them."""
    assert choose(POLICY, Lookup("10.0.0.1", "10.0.0.2", mark), answer, "lo") == index


@pytest.mark.parametrize(
    ("rule", "iif", "matches"),
    [
        (policy(1, 7, iif="eth0"), "eth0", True),
        (policy(1, 7, iif="eth0"), "lo", False),
        (policy(1, 7, source="10.0.0.0/24"), "lo", True),
        (policy(1, 7, source="10.1.0.0/24"), "lo", False),
        (policy(1, 7, destination="10.0.0.2/32"), "lo", True),
        (policy(1, 7, Mark(1, 1), inverted=True), "lo", True),
        (policy(1, 7, Mark(0, 1), inverted=True), "lo", False),
    ],
)
def test_a_rule_matches_by_all_its_selectors(rule: PolicyRule, iif: str, matches: bool) -> None:
    """Interface, addresses, mark, and ``not``."""
    found = choose((rule,), Lookup("10.0.0.1", "10.0.0.2", 0), Answer(table=7), iif)
    assert (found == 0) is matches


@pytest.mark.parametrize(("prefix", "index"), [("default", 1), ("192.168.50.0/24", 0)])
def test_a_rule_that_suppresses_default_routes_does_not_lead_to_one(
    prefix: str, index: int
) -> None:
    """As wg-quick's, beside another's rule for the same table."""
    rules = (policy(75, 254, suppress=0), policy(76, 254))
    question = Lookup("", "192.0.2.1", 0)
    assert choose(rules, question, Answer(table=254, prefix=prefix), "lo") == index


def test_of_a_packet_that_was_lost_the_marks_within_tell_who_was_first() -> None:
    """No reading follows: the chain that saw no mark came before the table that set one."""
    nft = [probe("output", -149), rules("output", -100, 0)]
    lines = [legacy("output", "nat", 0, "rule"), legacy("output", "nat", 0x2000, "rule")]
    merged = merge(nft, list(legacy_passes(lines)))
    assert [kind for _, _, kind in order(merged)] == ["probe", "nft", "legacy"]
