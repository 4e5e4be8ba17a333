"""Reading registry entries: what is wrong is one clear error that names file and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import EntryError
from lab.marks import Mark
from lab.points import Point
from lab.registry import loader
from lab.registry.placeholders import fill, names
from lab.registry.reader import Table

ENTRY = """\
name = "x"
release = "1"
mode = "m"
style = "bitwise"
summary = "s"
source = "me/x@v1:main.c"

[facts]
"my.port" = "80"
own = ["v4", "v6"]

[[allocation]]
mask = "0xff"
[allocation.values]
seen = "0x1/0xff"

[[ruleset]]
tool = "iptables"
family = ["ipv4"]
text = '''
*mangle
#@ rules.c#L1
-A FORWARD -j MARK --set-mark 0x1
COMMIT
'''

[[flow]]
name = "one"
from = "client"
to = "{{ lan.ip }}"
port = 5000
answered-by = "lan"
[[flow.relies]]
at = "node forward filter + 1"
mark = "0x1/0xff"
packets = "first"
"""


def write(folder: Path, text: str) -> Path:
    """Write an entry and return its path."""
    path = folder / "x.toml"
    path.write_text(text)
    return path


def test_a_complete_entry_is_read(tmp_path: Path) -> None:
    """Every key has its place."""
    path = write(tmp_path, ENTRY)
    entry = loader.read(path)
    assert entry.title == "x@1:m"
    assert entry.owned("mark") == 0xFF
    assert entry.owned("ctmark") == 0
    assert entry.facts == (("my.port", "80", "80"), ("own", "v4", "v6"))
    assert entry.rulesets[0].families == ("ipv4",)
    assert entry.rulesets[0].source == "me/x@v1:main.c"
    (flow,) = entry.flows
    assert flow.expectations[0].point == Point("node", "forward", 1)
    assert flow.expectations[0].mark == Mark(1, 0xFF)
    assert loader.placeholder_names(entry) == {"lan.ip"}
    assert entry.uses_xtables()


def test_a_ruleset_knows_its_line(tmp_path: Path) -> None:
    """So that a refused rule can be named by file and line."""
    (ruleset,) = loader.read(write(tmp_path, ENTRY)).rulesets
    lines = ENTRY.splitlines()
    assert lines[ruleset.line - 1] == ruleset.text.splitlines()[0] == "*mangle"


@pytest.mark.parametrize(
    ("old", "new", "key", "problem"),
    [
        ('mask = "0xff"', 'mask = "0xfg"', "allocation[0].mask", "'0xfg' is not a number"),
        ('mask = "0xff"', 'mask = "0x1ffffffff"', "allocation[0].mask", "does not fit in 32 bits"),
        ('mask = "0xff"', "mask = 255", "allocation[0].mask", "expected a string, not 255"),
        (
            'seen = "0x1/0xff"',
            'seen = "0x100/0x100"',
            "allocation[0].values.seen",
            "has bits outside the mask 0xff",
        ),
        ('summary = "s"', 'sumary = "s"', "summary", "missing; expected a string"),
        ('mode = "m"', 'mood = "m"', "mood", "unknown key; known here: "),
        (
            'style = "bitwise"',
            'style = "bytewise"',
            "style",
            "'bytewise' is not one of bitwise, whole-mark",
        ),
        ('tool = "iptables"', 'tool = "pf"', "ruleset[0].tool", "'pf' is not one of iptables, nft"),
        ('family = ["ipv4"]', 'family = ["ipx"]', "ruleset[0].family", "expected some of ipv4"),
        ('family = ["ipv4"]', "family = []", "ruleset[0].family", "expected some of ipv4"),
        ('family = ["ipv4"]', 'family = "ipv4"', "ruleset[0].family", "expected a list of strings"),
        ("port = 5000", "port = 70000", "flow[0].port", "70000 is not a port"),
        ("port = 5000", "port = true", "flow[0].port", "expected an integer, not True"),
        ("port = 5000", "port = 5000\ncount = 2", "flow[0].count", "at least 3"),
        (
            "port = 5000",
            'port = 5000\nprotocol = "sctp"',
            "flow[0].protocol",
            "'sctp' is not one of udp, tcp",
        ),
        (
            'at = "node forward filter + 1"',
            'at = "node middle"',
            "flow[0].relies[0].at",
            "unknown hook 'middle'",
        ),
        (
            'packets = "first"',
            'packets = "last"',
            "flow[0].relies[0].packets",
            "'last' is not one of all, first, later",
        ),
        ('mark = "0x1/0xff"\npackets', "packets", "flow[0].relies[0].mark", "missing"),
        ('own = ["v4", "v6"]', 'own = ["v4"]', "facts.own", "for both families"),
        ("[facts]", "[[facts]]", "facts", "expected a table"),
        ("[[allocation]]", "[allocation]", "allocation", "expected an array of tables"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(
    tmp_path: Path, old: str, new: str, key: str, problem: str
) -> None:
    """One sentence for a person."""
    assert old in ENTRY
    path = write(tmp_path, ENTRY.replace(old, new, 1))
    with pytest.raises(EntryError) as caught:
        loader.read(path)
    said = str(caught.value)
    assert re.match(rf"{re.escape(str(path))}:\d+: key {re.escape(repr(key))}: ", said)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_flows_of_one_name_are_refused(tmp_path: Path) -> None:
    """A verdict names a flow."""
    path = write(tmp_path, ENTRY + ENTRY[ENTRY.index("[[flow]]") :])
    with pytest.raises(EntryError, match="key 'flow': two flows are named 'one'"):
        loader.read(path)


def test_two_files_of_one_title_are_refused(tmp_path: Path) -> None:
    """Both files are named."""
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(ENTRY)
    with pytest.raises(EntryError, match=r"b\.toml: x@1:m stands in .*a\.toml as well"):
        loader.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'name = "x', "not valid TOML"),
        (b"name = x\n", "not valid TOML"),
        (b'name = "\xff"\n', "not UTF-8 text; expected a TOML registry entry"),
        (b"\x00\x01\x02", "not valid TOML"),
        (b"", "key 'style': missing"),
    ],
)
def test_what_is_no_entry_is_one_error(tmp_path: Path, content: bytes, problem: str) -> None:
    """The file is named."""
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(EntryError, match=problem) as caught:
        loader.read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    """In the kernel's words."""
    with pytest.raises(EntryError, match="cannot be read: No such file or directory"):
        loader.read(tmp_path / "absent.toml")


@given(st.binary(max_size=200))
def test_no_file_content_gives_anything_but_an_entry_error(content: bytes) -> None:
    """Never a traceback, whatever the bytes."""
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        with pytest.raises(EntryError):
            loader.read(Path(file.name))


keys = st.sampled_from(
    [
        "name",
        "release",
        "style",
        "flow",
        "ruleset",
        "allocation",
        "facts",
        "registered",
        "aliases",
        "mode",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(keys, values))
def test_no_value_of_the_wrong_type_gets_through(content: dict[str, object]) -> None:
    """Strict reading: an entry without a summary is none, whatever else it holds."""
    with pytest.raises(EntryError):
        loader._software(Table(content, "x.toml"), "")


FACTS = {"a": "1", "b.c": "two", "d-e": "{{ a }}"}


def test_placeholders_are_filled_in() -> None:
    """Lines keep their number; what was filled in is not read again."""
    assert fill("x {{ a }}\n{{b.c}}{{ d-e }}", FACTS, "f") == "x 1\ntwo{{ a }}"


def test_an_unknown_placeholder_is_named_with_its_line() -> None:
    """The line of the file, and what is known."""
    with pytest.raises(EntryError) as caught:
        fill("one\ntwo {{ a }}\nthree {{ z }}", FACTS, "x.toml", first_line=10)
    assert str(caught.value) == "x.toml:12: unknown placeholder 'z'; known: a, b.c, d-e"


@given(st.text(alphabet="ab{} \n.-", max_size=30))
def test_text_without_placeholders_stays_as_it_is(text: str) -> None:
    """Braces of nft sets are no placeholders."""
    if not names(text):
        assert fill(text, {}, "f") == text
