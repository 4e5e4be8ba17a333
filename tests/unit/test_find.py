"""What a person types finds the entry meant, or says what is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import ALPHA

from lab.errors import EntryError, UsageError
from lab.registry.find import find, known, newest, version
from lab.registry.loader import load
from lab.registry.software import Software

SHIPPED = load()
ENTRIES = (
    replace(ALPHA, release="1.9.0", aliases=("1.9",)),
    replace(ALPHA, release="1.10.2", aliases=("1.11",), mode="iptables"),
    replace(ALPHA, release="1.10.2", mode="nft", default_mode=False, aliases=()),
    replace(ALPHA, release="1.20", mode="bpf", default_mode=False, aliases=()),
    replace(ALPHA, release="2018-07-20", aliases=()),
    replace(ALPHA, name="beta", release="0.1", aliases=()),
)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("alpha", "alpha@1.10.2:iptables"),
        ("alpha:nft", "alpha@1.10.2:nft"),
        ("alpha:iptables", "alpha@1.10.2:iptables"),
        ("alpha@1.9", "alpha@1.9.0:iptables"),
        ("alpha@1.9.0", "alpha@1.9.0:iptables"),
        ("alpha@v1.9.0", "alpha@1.9.0:iptables"),
        ("alpha@1", "alpha@1.10.2:iptables"),
        ("alpha@1.11", "alpha@1.10.2:iptables"),
        ("alpha@1.10:nft", "alpha@1.10.2:nft"),
        ("alpha@2018-07-20", "alpha@2018-07-20:iptables"),
        ("alpha:bpf", "alpha@1.20:bpf"),
        ("alpha@1.20", "alpha@1.20:bpf"),
        ("alpha@1:nft", "alpha@1.10.2:nft"),
        ("beta", "beta@0.1:iptables"),
    ],
)
def test_a_name_finds_its_entry(text: str, title: str) -> None:
    """A bare name is the newest release in its default mode; aliases and beginnings work."""
    assert find(text, ENTRIES).title == title


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("calico@3.16", "3.16.0"),
        ("calico@3.25", "3.20"),
        ("calico@3.20", "3.20"),
        ("tailscale@1.1.0", "1.1.0"),
        ("tailscale:nft", "1.102.3"),
        ("portmap@1.0.0", "0.8.6"),
    ],
)
def test_shipped_entries_are_found(text: str, release: str) -> None:
    """The names of the documentation work."""
    assert find(text, SHIPPED).release == release


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alfa", "unknown software 'alfa'; did you mean 'alpha'? known: alpha, beta"),
        ("xyz", "unknown software 'xyz'; known: alpha, beta"),
        ("alpha@1.8", "unknown release of alpha '1.8'; did you mean"),
        ("alpha@1.8", "known: 1.9, 1.9.0, 1.10.2, 1.11, 1.20, 2018-07-20"),
        (
            "alpha@1.9:nft",
            "unknown release of alpha in mode nft '1.9'; ",
        ),
        ("alpha:xy", "unknown mode of alpha 'xy'; known: bpf, iptables, nft"),
        ("al pha", "'al pha' names no software; expected name[@release][:mode]"),
        ("", "'' names no software"),
        ("alpha@", "'alpha@' names no software"),
    ],
)
def test_an_unknown_name_says_what_is_known(text: str, said: str) -> None:
    """The error names the near ones and the known ones: releases where the name is right."""
    with pytest.raises(UsageError) as caught:
        find(text, ENTRIES)
    assert said in str(caught.value)


def test_a_path_loads_the_entry_of_the_file(tmp_path: Path) -> None:
    """An entry of one's own needs no place in the registry."""
    shipped = find("portmap", SHIPPED)
    copy = tmp_path / "mine.toml"
    copy.write_text(Path(shipped.file).read_text())
    assert find(str(copy), ENTRIES).title == shipped.title


def test_a_missing_file_is_an_error_with_its_path() -> None:
    """A mistyped path is not taken for a name."""
    with pytest.raises(EntryError, match=r"none\.toml: cannot be read"):
        find("none.toml", ENTRIES)


def test_releases_are_ordered_as_people_do() -> None:
    """Numbers count by value, a pre-release comes before its release, a date before numbers."""
    ordered = ["2018-07-20", "0.8.6", "1.9", "1.10-rc1", "1.10", "1.10.1", "1.102.3", "2"]
    assert sorted(set(ordered), key=version) == ordered


def test_every_bare_name_is_a_default_mode() -> None:
    """No name means a mode that must be asked for where there is another."""
    names: dict[str, list[Software]] = {}
    for entry in SHIPPED:
        names.setdefault(entry.name, []).append(entry)
    for name, entries in names.items():
        assert find(name, SHIPPED) == newest(entries)
        assert find(name, SHIPPED).default_mode


def test_only_the_entries_of_the_name_are_read() -> None:
    """A check need not read the whole registry: each folder holds the entries of its name."""
    assert {Path(e.file).parent.name == e.name for e in SHIPPED} == {True}
    assert {e.name for e in known("calico@3.20:iptables")} == {"calico"}
    assert known("tailscael") == known("../registry") == SHIPPED
