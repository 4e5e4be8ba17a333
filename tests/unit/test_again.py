"""Which texts of iptables are put again as the kernel told them, and which are always loaded."""

from __future__ import annotations

import pytest

from lab.rules.again import _is_plain, _protocol

PLAIN = (
    "-A PREROUTING -j MARK --set-xmark 0x10/0xf0",
    "-I PREROUTING 1 -p tcp -m tcp --dport 80 -j ACCEPT",
    "-A PREROUTING ! -p udp -m comment --comment 'a -m set and -p of words' -j MINE",
    "-A PREROUTING -p 132 -g MINE",
    ":PREROUTING ACCEPT [0:0]",
    "-N OTHER",
)
LOADED = (
    "-A PREROUTING -m set --match-set a src -j DROP",
    "-A PREROUTING --match set --match-set a src -j DROP",
    "-A PREROUTING -mset --match-set a src -j DROP",
    "-A PREROUTING --mat set --match-set a src -j DROP",
    "-A PREROUTING -j SET --add-set a src",
    "-A PREROUTING -jSET --add-set a src",
    "-A PREROUTING --ju SET --add-set a src",
    "-A PREROUTING -m recent --set",
    "-A PREROUTING -m hashlimit --hashlimit-name a",
    "-A PREROUTING -m bpf --object-pinned /sys/fs/bpf/a",
    "-A PREROUTING -j IDLETIMER --timeout 9 --label a",
    "-A PREROUTING -j ELSEWHERE",
    "-A PREROUTING -p some-protocol -j ACCEPT",
    "-A PREROUTING -ptcp -j ACCEPT",
    "-A PREROUTING --proto tcp -j ACCEPT",
    "-A PREROUTING -p",
    "-A PREROUTING -m comment --comment 'open",
    "-F PREROUTING",
    "-D PREROUTING 1",
    "-R PREROUTING 1 -j ACCEPT",
    "-P PREROUTING DROP",
)


@pytest.mark.parametrize("line", PLAIN)
def test_what_keeps_nothing_of_its_own_is_put_again(line: str) -> None:
    """Rules that are added, with matches and targets that are known, or own chains."""
    assert _is_plain(f"*mangle\n:MINE - [0:0]\n{line}\nCOMMIT\n")


@pytest.mark.parametrize("line", LOADED)
def test_everything_else_is_loaded(line: str) -> None:
    """Also what is known, but written in a way that would not be recognized everywhere."""
    assert not _is_plain(f"*mangle\n:MINE - [0:0]\n{line}\nCOMMIT\n")


@pytest.mark.parametrize(
    ("line", "protocol"),
    [
        ("-A a -j b", (0, False)),
        ("-A a -p tcp", (6, False)),
        ("-A a ! -p udp", (17, True)),
        ("-A a --protocol ICMPv6", (58, False)),
        ("-A a -p 132 -j b", (132, False)),
        ("-A a -p all", (0, False)),
    ],
)
def test_the_protocol_of_a_rule_is_read(line: str, protocol: tuple[int, bool]) -> None:
    """The kernel does not tell it, and refuses some matches without."""
    assert _protocol(line.split()) == protocol
