"""Values become JSON and come back; what does not fit is refused by key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import runs

from lab.codec import decode, encode
from lab.errors import RecordError
from lab.marks import WORD, Mark
from lab.points import HOOKS, Point
from lab.record import PolicyRule, Run, Timeline
from lab.registry.software import Software
from lab.scenario import Experiment
from lab.traffic.flow import Flow
from lab.verdict.outcome import Verdict

WORDS = st.integers(0, WORD)
st.register_type_strategy(Mark, st.builds(Mark, WORDS, WORDS))
st.register_type_strategy(
    Point,
    st.builds(
        Point,
        st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
        st.sampled_from(HOOKS),
        st.integers(-1000, 1000),
        st.from_regex(r"([a-z][a-z0-9.]{0,8})?", fullmatch=True),
    ),
)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize("kind", [Verdict, Timeline, PolicyRule, Flow, Software])
@given(data=st.data())
def test_every_value_comes_back_from_its_json(kind: type, data: st.DataObject) -> None:
    """Any frozen value of the lab is the same after a journey through JSON text."""
    value = data.draw(st.from_type(kind))
    assert decode(kind, json.loads(json.dumps(encode(value)))) == value


def test_a_whole_run_comes_back_from_its_json() -> None:
    """A run with every kind of event is the same after the journey."""
    for run in runs():
        assert decode(Run, json.loads(json.dumps(encode(run)))) == run


def test_marks_and_points_are_written_in_native_notation() -> None:
    """A person can read a saved run."""
    assert encode(Mark(0x4000, 0xC000)) == "0x4000/0xc000"
    assert encode(Point.parse("node forward filter - 1")) == "node forward filter - 1"


def test_fields_with_their_default_are_left_out() -> None:
    """What goes without saying takes no room."""
    flow = encode(Flow("f", "peer", "lan", 7))
    assert flow == {"name": "f", "sender": "peer", "to": "lan", "port": 7}


GOOD = {
    "direction": "request",
    "ordinal": 0,
    "packet": "p",
    "events": [
        {
            "type": "Write",
            "node": "n",
            "hook": "input",
            "priority": 0,
            "field": "mark",
            "before": 0,
            "after": 1,
            "rule": None,
        }
    ],
}


def test_the_example_of_these_tests_is_good() -> None:
    """The changes below are what is refused, not the example."""
    assert decode(Timeline, GOOD).ordinal == 0


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("ordinal",), "0", "key 'ordinal': expected an integer, not '0'"),
        (("ordinal",), True, "key 'ordinal': expected an integer, not True"),
        (
            ("direction",),
            "sideways",
            "key 'direction': 'sideways' is not one of 'request', 'reply'",
        ),
        (("direction",), ["request"], "key 'direction': ['request'] is not one of"),
        (("events",), {}, "key 'events': expected an array, not {}"),
        (("events", 0), None, "key 'events[0]': expected an object, not None"),
        (("events", 0, "type"), "Wrote", "key 'events[0].type': 'Wrote' is not one of Reading"),
        (("events", 0, "field"), "tag", "key 'events[0].field': 'tag' is not one of 'mark'"),
        (("events", 0, "colour"), 1, "key 'events[0].colour': unknown key; known here: node"),
        (("packet",), 7, "key 'packet': expected text, not 7"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(path: tuple[Any, ...], value: Any, said: str) -> None:
    """The error names the place, what stands there and what was expected."""
    changed = json.loads(json.dumps(GOOD))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        decode(Timeline, changed, "run.json")
    assert str(caught.value).startswith(f"run.json: {said}")


def test_a_missing_key_is_named() -> None:
    """A key that was deleted by hand is missed by name."""
    with pytest.raises(RecordError, match="key 'packet': missing in this Timeline"):
        decode(Timeline, {k: v for k, v in GOOD.items() if k != "packet"})


def test_a_mark_that_does_not_parse_is_refused() -> None:
    """Values that have a notation of their own are read strictly."""
    with pytest.raises(RecordError, match="key 'mark': 'abc' is not a number"):
        decode(
            PolicyRule,
            {
                "priority": 1,
                "table": 1,
                "action": "",
                "mark": "abc",
                "inverted": False,
                "iif": "",
                "oif": "",
                "source": "",
                "destination": "",
                "rule": None,
                "text": "",
            },
        )


def test_pairs_have_two_items() -> None:
    """A tuple of fixed length is read as such."""
    experiment = encode(runs()[0].experiment)
    with pytest.raises(RecordError, match=r"key 'sysctls\[0\]': expected an array of 2"):
        decode(Experiment, experiment | {"sysctls": [["a", "b", "c"]]})


def test_a_type_without_a_json_form_is_a_programming_error() -> None:
    """A field that JSON cannot hold is found when the code is written, not when a user saves."""

    @dataclass(frozen=True)
    class Odd:
        value: bytes

    with pytest.raises(TypeError, match="no JSON form"):
        decode(Odd, {"value": "x"})
