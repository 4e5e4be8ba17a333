"""The combinations that people run, three or more programs at once, and what they keep.

Each stack is installed in the order in which it usually comes up, and in the reverse order, as
after restarts. As with pairs, nothing may happen that was neither predicted for two of its members
nor explained in ``expected/``. And each states which flows its users can count on, in every order,
family and iptables variant: these must survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import pytest
from expectations import unexpected

from lab.order.alone import by_itself
from lab.plugin import Lab, entry, scenarios, title
from lab.scenario import Scenario
from lab.verdict.outcome import Outcome

pytestmark = pytest.mark.stacks

Flows = tuple[str, ...]


@dataclass(frozen=True)
class Stack:
    """Programs in the order in which they come up; ``keeps`` are flows that must survive."""

    name: str
    programs: tuple[str, ...]
    why: str
    keeps: dict[str, Flows]


KUBE_PROXY: Flows = ("hairpin", "node-port-localhost", "node-to-service")
SERVICES: Flows = (*KUBE_PROXY, "cluster-ip-from-outside", "node-port")
HOST_PORTS: Flows = (
    "host-port",
    "host-port-from-node",
    "host-port-from-subnet",
    "host-port-hairpin",
    "host-port-localhost",
)
CALICO: Flows = ("denied", "node-to-pod", "pod-to-node")
POLICED: Flows = (*CALICO, "lan-to-pod", "pod-to-client", "pod-to-lan", "pod-to-pod")

STACKS = (
    Stack(
        "eks",
        ("kubernetes", "aws-vpc-cni", "portmap", "calico"),
        "Bits 14, 7, 13 and 16-31 are apart, so Services and policy hold. What is lost is no bit: "
        "Calico accepts established packets in mangle before the VPC CNI restores 0x80, and it "
        "masquerades what the VPC CNI leaves alone.",
        {
            "kubernetes": (*SERVICES, "cluster-ip"),
            "calico": (*CALICO, "lan-to-pod", "pod-to-lan", "pod-to-pod"),
            "portmap": HOST_PORTS[1:],
            "aws-vpc-cni": ("primary-pod-to-outside",),
        },
    ),
    Stack(
        "k3s-tailscale",
        ("kubernetes", "portmap", "kube-router", "tailscale"),
        "k3s brings kube-proxy, portmap and kube-router's policies. Its bits 16 and 17 lie in "
        "Tailscale's byte, but are written on what goes to or comes from a pod only, so the flows "
        "of the node and to the LAN hold.",
        {
            "kubernetes": KUBE_PROXY,
            "portmap": HOST_PORTS,
            "kube-router": ("client-to-pod", "denied", "pod-to-pod"),
            "tailscale": ("bypass", "node-to-tailnet", "tailnet-to-lan"),
        },
    ),
    Stack(
        "kubeadm-calico-tailscale",
        ("kubernetes", "calico", "tailscale"),
        "A subnet router on a Calico node: what neither comes from a pod nor bears Tailscale's "
        "bypass mark through raw OUTPUT holds; pods' traffic bears 0x80000 and is routed past "
        "the tailnet.",
        {
            "kubernetes": KUBE_PROXY[1:],
            "calico": CALICO,
            "tailscale": ("node-to-tailnet", "tailnet-to-lan"),
        },
    ),
    Stack(
        "cilium-kpr-tailscale",
        ("cilium", "portmap", "tailscale"),
        "Cilium replaces kube-proxy. Its proxy loses IPv4 to src_valid_mark and its identities "
        "look like Tailscale's marks; what carries neither holds.",
        {
            "cilium": ("host-to-pod", "overlay", "pod-to-pod", "pod-to-world", "proxy-by-endpoint"),
            "portmap": HOST_PORTS,
            "tailscale": ("bypass", "node-to-tailnet", "tailnet-to-lan"),
        },
    ),
    Stack(
        "cilium-chained-on-vpc-cni",
        ("aws-vpc-cni", "kubernetes", "cilium:chained"),
        "Cilium hangs its programs on the VPC CNI's interfaces and leaves routes alone, so what "
        "leaves the VPC or comes by a node port keeps to 0x80. The identity that a pod's program "
        "writes over the whole mark is erased by the VPC CNI's nat chain, and DNS goes to Cilium's "
        "proxy, whoever answers it.",
        {
            "kubernetes": (*SERVICES, "cluster-ip"),
            "aws-vpc-cni": (
                "nodeport-to-secondary",
                "pod-to-outside",
                "pod-to-vpc",
                "primary-pod-to-outside",
            ),
            "cilium": (
                "dns-proxy",
                "dns-proxy-reply",
                "host-to-pod",
                "proxy-by-endpoint",
                "proxy-upstream",
            ),
        },
    ),
    Stack(
        "openshift",
        ("kubernetes", "ovn-kubernetes", "portmap"),
        "OVN-Kubernetes owns the pods and their Services: its own flows hold, and what the other "
        "two send to pods goes by its management port.",
        {
            "ovn-kubernetes": (
                "egress-pod-to-node",
                "egress-secondary",
                "egress-service",
                "node-to-local-service",
                "nodeport-of-user-defined-network",
            )
        },
    ),
    Stack(
        "istio-sidecar-on-calico",
        ("kubernetes", "calico", "istio"),
        "The sidecar's whole mark never leaves the pod, where neither of the others has a rule.",
        {
            "kubernetes": SERVICES,
            "calico": POLICED,
            "istio": ("inbound", "outbound", "pod-to-itself", "proxy-to-application"),
        },
    ),
    Stack(
        "istio-ambient-on-calico",
        ("kubernetes", "calico", "istio:ambient"),
        "ztunnel's marks stay in the pod as well; its own connections leave with the pod's address "
        "and are masqueraded by Calico like any of the pod's.",
        {
            "kubernetes": SERVICES,
            "calico": POLICED,
            "istio": ("inbound", "outbound", "ztunnel-to-application"),
        },
    ),
    Stack(
        "istio-sidecar-on-cilium",
        ("kubernetes", "cilium", "istio"),
        "The sidecar's mark 1337 is in the pod, Cilium's on the node: erased in between.",
        {"cilium": ("host-to-pod", "overlay", "proxy-by-endpoint", "proxy-upstream")},
    ),
    Stack(
        "istio-ambient-on-cilium",
        ("kubernetes", "cilium", "istio:ambient"),
        "As with the sidecar: 0x539 and 0x111 never meet Cilium's marks.",
        {"cilium": ("host-to-pod", "overlay", "proxy-by-endpoint", "proxy-upstream")},
    ),
    Stack(
        "antrea-netbird",
        ("kubernetes", "antrea", "netbird"),
        "NetBird's whole marks 0x1bd00 and up stand on its own traffic, Antrea's bits 0-7, 30 and "
        "31 on what pods send elsewhere; only NetBird's policy rules reach further.",
        {
            "kubernetes": SERVICES,
            "antrea": ("egress", "egress-subnet", "node-to-pod", "pod-to-node-network"),
            "netbird": ("control-plane", "node-to-peer", "peer-to-lan", "peer-to-node"),
        },
    ),
    Stack(
        "openwrt",
        ("mwan3", "openwrt-pbr", "tailscale", "wg-quick"),
        "mwan3's bits 8-13 are apart from bits 16-23, but pbr and Tailscale share these, and "
        "wg-quick takes the whole word and restores it whole, so little of the rest holds.",
        {
            "mwan3": ("connected",),
            "openwrt-pbr": ("no-policy",),
            "wg-quick": ("tunnel-address-from-outside",),
        },
    ),
    Stack(
        "podman-vpn",
        ("firewalld", "netavark", "wg-quick"),
        "netavark marks 0x2000 and 0x1000 on what enters for a published port, wg-quick its own "
        "tunnel's packets, firewalld what a rich rule names: no packet meets two of them.",
        {
            "firewalld": ("marked", "not-marked"),
            "netavark": ("published-port", "published-port-hairpin", "published-port-localhost"),
            "wg-quick": ("node-to-lan", "node-to-tunnel", "tunnel"),
        },
    ),
    Stack(
        "docker-vpn",
        ("docker-overlay", "portmap", "mullvad"),
        "Mullvad blocks what it does not know, containers' traffic included. Its 0x6d6f6c65 holds "
        "portmap's 0x2000, so portmap masquerades the tunnel's own packets.",
        {"docker-overlay": ("vxlan-in-clear",), "mullvad": ("leak", "node-to-tunnel")},
    ),
)


def cases() -> list[object]:
    """List every stack in both orders, families and variants."""
    return [
        pytest.param(
            stack,
            scenario,
            id=f"{stack.name}-{title(scenario)}",
            marks=pytest.mark.xdist_group(f"stack-{stack.name}"),
        )
        for stack in STACKS
        for order in (stack.programs, stack.programs[::-1])
        for scenario in scenarios(*order, orders="given")
    ]


@pytest.mark.parametrize(("stack", "scenario"), cases())
def test_each_stack_does_what_is_predicted_or_explained(
    lab: Lab, stack: Stack, scenario: Scenario
) -> None:
    """No third program brings out what two of them did not announce."""
    assert unexpected(lab, scenario) == (), stack.why


@pytest.mark.parametrize(("stack", "scenario"), cases())
def test_each_stack_keeps_what_its_users_count_on(
    lab: Lab, stack: Stack, scenario: Scenario
) -> None:
    """Every flow that the stack is known to keep survives at every point."""
    (together,) = (e for e in scenario.experiments() if not e.alone)
    result = lab.judge(
        (*(lab.run(by_itself(together, one)) for one in scenario.software), lab.run(together))
    )
    kept = [
        (owner, flow, result.outcomes(owner, flow))
        for owner, flows in stack.keeps.items()
        for flow in flows
        if scenario.families[0] in _families(scenario, owner, flow)
    ]
    assert [k for k in kept if k[2] != {Outcome.SURVIVES}] == [], stack.why
    assert kept or set(scenario.families) == {"ipv6"}


def _families(scenario: Scenario, owner: str, flow: str) -> tuple[str, ...]:
    (software,) = (s for s in scenario.software if s.name == owner)
    (found,) = (f for f in software.flows if f.name == flow)
    return tuple(found.families)


def test_every_stack_has_three_programs_and_keeps_something() -> None:
    """Two would be a pair, and a stack that keeps nothing would claim nothing."""
    for stack in STACKS:
        assert len(stack.programs) >= 3
        assert stack.keeps
        assert {entry(p).name for p in stack.programs} >= set(stack.keeps)
        assert all(entry(a).name != entry(b).name for a, b in permutations(stack.programs, 2))
