"""Points: notation, names of priorities, and order on a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.points import FIRST, HOOKS, LAST, PRIORITIES, Point, priority_text

points = st.builds(
    Point,
    st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
    st.sampled_from(HOOKS),
    st.integers(-500, 500),
    st.sampled_from(["", "eth0", "cali0000000000a"]),
)


@given(points)
def test_text_round_trips(point: Point) -> None:
    """What is printed can be read back."""
    assert Point.parse(str(point)) == point


@given(st.integers(-(2**31), 2**31 - 1))
def test_every_priority_has_a_text_that_means_it(priority: int) -> None:
    """Near a named one it is written by name."""
    assert Point.parse(f"node forward {priority_text(priority)}").priority == priority


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("node forward", 0),
        ("node forward filter", 0),
        ("node forward filter - 1", -1),
        ("node forward mangle + 1", -149),
        ("node forward mangle+1", -149),
        ("node postrouting srcnat - 1", 99),
        ("node prerouting -149", -149),
        ("node prerouting first", FIRST),
        ("node prerouting last", LAST),
    ],
)
def test_the_documented_notation_is_understood(text: str, priority: int) -> None:
    """Names are nft's, an offset may follow."""
    assert Point.parse(text).priority == priority


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a point"),
        ("node", "is not a point"),
        ("Node forward", "is not a point"),
        ("node forward filter -", "is not a point"),
        ("node middle", "unknown hook 'middle'; known: ingress"),
        ("node forward soon", "unknown priority 'soon'; known: first"),
    ],
)
def test_text_that_is_no_point_is_refused(text: str, problem: str) -> None:
    """The offender is quoted, what is known is listed."""
    with pytest.raises(ValueError, match=problem):
        Point.parse(text)


def test_points_sort_as_a_packet_passes_them() -> None:
    """Hook first, then priority: raw before mangle before dstnat."""
    texts = [
        "prerouting raw",
        "prerouting mangle",
        "prerouting dstnat",
        "input filter",
        "forward mangle",
        "forward filter",
        "postrouting mangle",
        "postrouting srcnat",
    ]
    ordered = [Point.parse(f"node {t}") for t in texts]
    shuffled = [*ordered[3:], *ordered[:3]]
    assert sorted(shuffled, key=Point.sort_key) == ordered


def test_priorities_are_the_kernels() -> None:
    """The values of enum nf_ip_hook_priorities."""
    kernel = {
        "raw": -300,
        "conntrack": -200,
        "mangle": -150,
        "dstnat": -100,
        "filter": 0,
        "security": 50,
        "srcnat": 100,
    }
    assert {name: PRIORITIES[name] for name in kernel} == kernel
