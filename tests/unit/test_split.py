"""A host's rules are divided among their owners: each line has one, none is lost."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.capture.known import Known, known
from lab.capture.listed import Item, items
from lab.capture.mapping import Mapping, parsed
from lab.capture.owners import Divided, divided
from lab.capture.split import split
from lab.errors import UsageError
from lab.native import nft_text, normal, normal_policy
from lab.native.iptables_text import changes
from lab.registry.loader import load
from lab.registry.software import Ruleset

KNOWN_CHAINS = ("ts-forward", "cali-POSTROUTING", "KUBE-SERVICES", "KUBE-SVC-ABC", "CNI-DN-1")
OWN_CHAINS = ("mine", "f2b-ssh", "DOCKER", "ufw-user-input", "a.b")
BUILT_IN = ("PREROUTING", "FORWARD", "POSTROUTING")
SPECS = (
    "-j MARK --set-xmark 0x40000/0xff0000",
    "-j MARK --set-xmark 0x0/0xf0000",
    "-m mark --mark 0x4000/0x4000 -j MASQUERADE",
    "-i tailscale0 -j MARK --set-xmark 0x40000/0xff0000",
    '-m comment --comment "-j ACCEPT" -j RETURN',
    "-s 10.9.8.0/24 ! -o lo -p tcp -m tcp --dport 80 -j ACCEPT",
)


@cache
def registry() -> tuple[Known, ...]:
    """Read the entries once."""
    return known(load())


@st.composite
def saves(draw: st.DrawFn) -> str:
    """Make iptables-save text of chains that are known and that are not."""
    lines = []
    for table in draw(st.lists(st.sampled_from(("mangle", "filter")), unique=True, min_size=1)):
        names = st.lists(st.sampled_from(KNOWN_CHAINS + OWN_CHAINS), unique=True)
        chains = draw(names)
        places = st.sampled_from((*BUILT_IN[1:2], *chains))
        specs = st.sampled_from((*SPECS, *(f"-j {chain}" for chain in chains)))
        rules = draw(st.lists(st.tuples(places, specs), max_size=12))
        policy = draw(st.sampled_from(("ACCEPT", "DROP")))
        lines += [f"*{table}", f":FORWARD {policy} [0:0]", *(f":{c} - [0:0]" for c in chains)]
        lines += [f"-A {chain} {spec}" for chain, spec in rules]
        lines += ["COMMIT", "# Completed"]
    return "\n".join(lines) + "\n"


def whole(files: dict[str, str]) -> Divided:
    """Divide files as the command does."""
    return divided("host.tar.gz", files, registry(), Mapping(), {})


@settings(max_examples=60)
@given(saves(), saves())
def test_each_line_has_one_owner(four: str, six: str) -> None:
    """No line is lost, none is in two owners; the lines that are installed are the same."""
    files = {"iptables-nft.save": four, "ip6tables-legacy.save": six}
    found = items(files)
    parties = split(found, registry())
    given_out = [item for party in parties for item in party.items]
    assert sorted(map(id, given_out)) == sorted(map(id, found))
    rules = {(name, n) for name, text in files.items() for n in _rules(text)}
    assert {(item.file, item.line) for item in found} == rules


def _rules(text: str) -> list[int]:
    lines = enumerate(text.split("\n"), 1)
    return [n for n, line in lines if line.startswith("-A ") or re.match(r":\S+ DROP", line)]


@settings(max_examples=25)
@given(saves())
def test_each_line_is_installed_once_where_it_stood(text: str) -> None:
    """Owners' rulesets together hold every rule, on its own line; each can be read by itself."""
    host = whole({"iptables-nft.save": text})
    lines: list[int] = []
    for software in host.software:
        for ruleset in (r for r in software.rulesets if r.tool == "iptables"):
            found = list(changes(ruleset.text))
            lines += [c.number + 1 for c in found if not _only_makes(c.text)]
            made = {(c.table, c.chain) for c in found if c.verb == "declare"}
            own = [c for c in found if c.verb == "append" and c.chain not in BUILT_IN]
            assert {(c.table, c.chain) for c in own} <= made
    assert sorted(lines) == _rules(text)


def _only_makes(text: str) -> bool:
    return text.startswith(":") and not re.match(r":\S+ DROP", text)


NATIVE = """table inet mine {
	set ports {
		type inet_service
		elements = { 80,
			443 }
	}

	chain pre {
		type filter hook prerouting priority mangle; policy accept;
		tcp dport @ports counter meta mark set meta mark & 0xfffff0ff | 0x00000300
		iifname "ens5" jump more
	}

	chain more {
		meta mark & 0x00000f00 == 0x00000300 accept
	}
}
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		ip saddr 10.9.8.7 accept
		counter jump ts-forward
		ip saddr 10.9.8.6 accept
	}

	chain ts-forward {
		iifname "tailscale0*" counter meta mark set meta mark & 0xff04ffff | 0x00040000
		meta mark & 0x00ff0000 == 0x00040000 counter accept
		oifname "tailscale0*" ip saddr 100.64.0.0/10 counter drop
		oifname "tailscale0*" counter accept
	}
}
"""


def test_rules_of_nft_are_divided_by_table_and_chain() -> None:
    """A jump belongs to whom it leads to; the default policy to the chain's own rules."""
    host = whole({"ruleset.nft": NATIVE})
    shares = {o.party.name: [i.line for i in o.party.items] for o in host.owners}
    assert shares["mine"] == [10, 11, 15]
    everything = sorted(line for share in shares.values() for line in share)
    assert everything == [10, 11, 15, 20, 21, 22, 23, 27, 28, 29, 30]
    mine = next(o.software for o in host.owners if o.party.name == "mine")
    skeleton, rules = (r.text for r in mine.rulesets if r.tool == "nft")
    assert "elements = { 80, 443 }" in " ".join(skeleton.split())
    assert "jump more" not in skeleton
    assert "table ip filter" not in skeleton
    assert [r.number for r in nft_text.rules(rules)] == [9, 10, 14]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-A X --jump MARK --set-mark 0/0xf0000", "-A X -j MARK --set-xmark 0x0/0xf0000"),
        ("-A X -j MARK --or-mark 0x4000", "-A X -j MARK --set-xmark 0x4000/0x4000"),
        ("-A X -j MARK --and-mark 0xff", "-A X -j MARK --set-xmark 0x0/0xffffff00"),
        ("-I X 3 -p 17 --destination-port 53 -j X", "-A X -p udp -m udp --dport 53 -j X"),
        (
            "-A X -j CONNMARK --save-mark --mask 0xf0",
            "-A X -j CONNMARK --save-mark --nfmask 0xf0 --ctmask 0xf0",
        ),
        (
            "-A X -m mark ! --mark 51820 -s 1.2.3.4 -j X",
            '-A X -s 1.2.3.4/32 -m comment --comment "a b" -m mark ! --mark 0xca6c -j X',
        ),
    ],
)
def test_a_rule_is_known_however_it_is_written(one: str, other: str) -> None:
    """As an entry has it, and as iptables-save lists it."""
    assert normal.iptables(one) == normal.iptables(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-A X -j MARK --set-xmark 0x1/0x3", "-A X -j MARK --set-xmark 0x1/0x1"),
        ("-A X ! -i eth0 -j ACCEPT", "-A X -i eth0 -j ACCEPT"),
        ("-A X -j ACCEPT", "-A X -g ACCEPT"),
        ("-A X -m socket -j ACCEPT", "-A X -j ACCEPT"),
    ],
)
def test_rules_that_do_other_things_are_told_apart(one: str, other: str) -> None:
    """Or a rule would be taken for another's."""
    assert normal.iptables(one) != normal.iptables(other)


def test_policy_rules_are_known_as_written_and_as_listed() -> None:
    """Also when the kernel chose the preference, and types are listed by number."""
    listed = normal_policy.policy("5250:\tfrom all fwmark 0x80000/0xff0000 7")
    assert listed == normal_policy.policy(
        "rule add pref 5250 fwmark 0x80000/0xff0000 type unreachable"
    )
    assert normal_policy.command(listed) == "rule add pref 5250 fwmark 0x80000/0xff0000 unreachable"
    main = normal_policy.policy("100: not from 10.0.0.0/8 fwmark 1 iif eth0 lookup main")
    assert normal_policy.command(main) == (
        "rule add not pref 100 from 10.0.0.0/8 fwmark 0x1 iif eth0 table main"
    )


def test_the_release_that_is_nearest_is_taken() -> None:
    """And what no release has is told with its line."""
    entry = next(e for e in load() if e.title == "tailscale@1.1.0:iptables")
    text = _saved(next(r for r in entry.rulesets if r.tool == "iptables" and "filter" in r.text))
    strange = "-A ts-forward -j MARK --set-xmark 0x77/0x77"
    text = text.replace("COMMIT", f"{strange}\nCOMMIT", 1)
    (party,) = split(items({"iptables-nft.save": text}), registry())
    assert party.entry is not None
    assert party.entry.title == "tailscale@1.1.0:iptables"
    assert [item.text for item in party.strange] == [strange]


def _saved(ruleset: Ruleset) -> str:
    """Write restore text as a host would list it: devices by name, ``-I`` as ``-A``."""
    text = re.sub(r"\{\{ peer.dev \}\}", "wg7", ruleset.text)
    text = re.sub(r"\{\{ [\w.-]+ \}\}", "10.99.0.1", text)
    return "\n".join(
        re.sub(r"^-I (\S+)(?: \d+)?", r"-A \1", line)
        for line in text.split("\n")
        if not line.startswith("#")
    )


def test_routes_follow_the_policy_rule_that_leads_to_their_table() -> None:
    """What nobody's rule leads to is the host's own; the kernel's tables are passed over."""
    files = {
        "ip-rule.txt": "0:\tfrom all lookup local\n9:\tfrom all fwmark 0x9 lookup 99\n",
        "ip-route.txt": (
            "10.0.0.0/8 dev eth1 table 99 scope link\n"
            "default via 10.1.1.1 dev eth0\n"
            "2 127.0.0.1 dev lo table local scope host\n"
            "10.0.0.0/8 via 10.77.1.1 dev eth1 table 98\n"
        ),
    }
    host = whole(files)
    assert [(o.party.name, [i.line for i in o.party.items]) for o in host.owners] == [
        ("host", [2, 1, 4])
    ]
    (left,) = host.left_out
    assert left.place == "host.tar.gz:ip-route.txt:4"
    assert "10.77.1.1" in left.reason


def test_what_was_asked_for_comes_before_what_was_told() -> None:
    """``--map`` has the last word."""
    files = {
        "iptables-nft.save": f"*mangle\n-A FORWARD -i ens9 -s 10.7.7.7 {SPECS[0]}\nCOMMIT\n",
        "addresses.txt": "2: ens9    inet 10.7.7.7/24 scope global ens9\n",
        "ip-route.txt": "default via 10.7.7.1 dev ens9 proto static\n",
    }
    host = whole(files)
    assert dict(host.mapping.devices) == {"ens9": "uplink"}
    assert dict(host.mapping.addresses)["10.7.7.7"] == "node"
    options = ["ens9=lan", "10.7.7.7=wan", "10.7.7.1=10.244.0.12"]
    asked = divided("h", files, registry(), parsed(options), {})
    assert dict(asked.mapping.devices) == {"ens9": "lan"}
    assert dict(asked.mapping.addresses)["10.7.7.7"] == "wan"
    assert dict(asked.mapping.addresses)["10.7.7.1"] == "10.244.0.12"


def test_the_hosts_own_sysctls_hold_in_every_run() -> None:
    """Those that differ from the topology's; an entry's own is left to its owner."""
    sysctls = (
        "net.ipv4.conf.all.rp_filter = 1\nnet.ipv4.conf.all.src_valid_mark = 0\n"
        "net.ipv4.conf.ens5.rp_filter = 1\nnet.ipv4.conf.unknown0.rp_filter = 1\n"
        "net.ipv4.fwmark_reflect = 1\nnet.bridge.bridge-nf-call-iptables = 1\n"
    )
    files = {
        "iptables-nft.save": "*mangle\n-A FORWARD -i ens5 -j ACCEPT\nCOMMIT\n",
        "sysctl.txt": sysctls,
    }
    assert whole(files).sysctls == (
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.eth0.rp_filter", "1"),
        ("net.ipv4.fwmark_reflect", "1"),
    )


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("iptables-nft.save", "*mangle\n-A X\n", "never committed"),
        ("iptables-nft.save", "*mangle\n-A X -j 'a\nCOMMIT\n", "iptables-nft.save:2"),
        ("iptables-nft.save", "*mangle\n-F X\nCOMMIT\n", "iptables-nft.save:2"),
        ("ruleset.nft", 'table ip x {\n include "/etc/passwd"\n}\n', "ruleset.nft"),
        ("ruleset.nft", "table ip x {\n chain y {\n", "ruleset.nft:1"),
        ("ip-rule.txt", "rm -rf /\n", "ip-rule.txt:1"),
        ("ip-rule.txt", "5:\tfrom all fwmark zero lookup 7\n", "ip-rule.txt:1"),
    ],
)
def test_what_cannot_be_read_names_file_and_line(name: str, text: str, told: str) -> None:
    """In one sentence."""
    with pytest.raises(UsageError, match=re.escape(told)) as raised:
        whole({name: text})
    assert str(raised.value).startswith("host.tar.gz:")


@settings(max_examples=60)
@given(st.text(alphabet='*-:#ACX{}" \nmangletibchr0x1/', max_size=120))
def test_any_text_is_divided_or_refused(text: str) -> None:
    """Nothing else is raised, whatever an archive holds."""
    for name in ("iptables-nft.save", "ruleset.nft", "ip-rule.txt", "ip-route.txt", "sysctl.txt"):
        try:
            found: tuple[Item, ...] = items({name: text})
        except UsageError:
            continue
        split(found, registry())


def test_interfaces_in_verdict_maps_are_mapped_and_keywords_are_not() -> None:
    """``oif`` after ``iif`` is no interface but a part of fib."""
    mapping = parsed(["cali1=pod-a", "oif=lan"])
    text = 'fib saddr . mark . iif oif 0 iifname vmap { "cali1" : goto cali1, "x9" : drop }'
    assert mapping.applied("nft", text) == (
        'fib saddr . mark . iif oif 0 iifname vmap { "{{ pod-a.dev }}" : goto cali1, "x9" : drop }'
    )
