"""What upstream's tests and documents of Cilium expect beside iptables rules.

The rules themselves stand under tests/golden/cilium and are compared on a kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.marks import Mark
from lab.native.bpf_text import Program, parse
from lab.native.lines import lines
from lab.registry.find import find
from lab.registry.loader import load
from lab.registry.software import Software, Tool

ENTRIES = load()


def _texts(entry: Software, tool: Tool) -> Iterator[str]:
    for ruleset in entry.rulesets:
        if ruleset.tool == tool:
            yield from (line.text for line in lines(ruleset.text))


def _programs(title: str) -> list[Program]:
    entry = find(title, ENTRIES)
    texts = (text.replace("{{ ip }}", "ip") for text in _texts(entry, "bpf"))
    known = {
        "remote.net": "10.9.0.0/24",
        "relay.net": "10.8.0.0/24",
        "remote.mac": "02:00:00:00:00:02",
    }
    return [parse(_filled(text, known)) for text in texts]


def _filled(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace(f"{{{{ {name} }}}}", value)
    for pod in ("a", "b"):
        text = text.replace(f"{{{{ pod-{pod}.ip }}}}", f"10.0.0.{ord(pod)}")
        text = text.replace(f"{{{{ pod-{pod}.dev }}}}", f"lxc{pod}")
        text = text.replace(f"{{{{ pod-{pod}.mac }}}}", "02:00:00:00:00:01")
    return text


def test_the_proxy_tables_hold_one_and_two_routes() -> None:
    """As in cilium/cilium@e8aa78a5e427:pkg/proxy/routes_test.go#L104-L149."""
    routes = [t for t in _texts(find("cilium@1.20:native", ENTRIES), "ip") if "route add" in t]
    assert sum("table 2004" in route for route in routes) == 1
    assert sum("table 2005" in route for route in routes) == 2


@pytest.mark.parametrize(
    "part",
    [
        "dir out priority 0 mark 0xcb93e00 mask 0xffffff00",
        "dir fwd priority 2975",
        "dir out action block priority 100 mark 0xe00 mask 0xf00",
    ],
)
def test_the_ipsec_policies_are_those_of_the_reference_guide(part: str) -> None:
    """cilium/cilium@aeb2d1b68e0e:Documentation/reference-guides/xfrm/index.rst#L231-L270."""
    policies = [t for t in _texts(find("cilium@1.20:ipsec", ENTRIES), "ip") if "xfrm policy" in t]
    assert any(part in policy for policy in policies)


def test_the_overlay_mark_replaces_the_identity_mark_in_the_nibble() -> None:
    """cilium/cilium@aeb2d1b68e0e:bpf/tests/bpf_skb_255_tests.c#L22-L70."""
    (write,) = {
        program.write
        for program in _programs("cilium@1.20:tunnel")
        if (program.hook, program.device) == ("egress", "cilium_vxlan")
        and program.may_match(0x114C0F00)
    }
    assert write is not None
    assert write.apply(0x114C0F00) == 0x114C0400


def test_what_cilium_host_sends_to_a_pod_has_no_mark_left() -> None:
    """cilium/cilium@aeb2d1b68e0e:bpf/tests/tc_redirect_host.h#L267, without endpoint routes."""
    to_pods = [
        p
        for p in _programs("cilium@1.20:tunnel")
        if p.device == "cilium_host" and p.verdict == "redirect"
    ]
    assert len(to_pods) == 2
    assert all(p.write is not None and p.write.apply(0xFFFFFFFF) == 0 for p in to_pods)


def test_an_encrypted_packet_gets_node_id_and_nibble_on_arrival() -> None:
    """cilium/cilium@e8aa78a5e427:bpf/tests/ipsec_from_network_generic.h#L107: 0xd00 and the id."""
    (arrival,) = [p for p in _programs("cilium@1.20:ipsec") if p.device == "eth1"]
    assert arrival.write is not None
    assert Mark.parse("0xd00/0xffff").matches(arrival.write.apply(0xFFFF))
    assert arrival.write.apply(0) >> 16 == 0x4DB5


def test_the_1_8_2_identity_mark_keeps_bits_12_to_15() -> None:
    """cilium/cilium@v1.8.2:bpf/lib/overloadable_skb.h#L23-L42."""
    (write,) = {
        p.write
        for p in _programs("cilium@1.8.2:tunnel")
        if p.device == "lxca" and not p.conditions and p.write is not None
    }
    assert write.apply(0xFFFFFFFF) == 0x114CFF00
