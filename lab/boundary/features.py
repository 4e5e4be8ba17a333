"""What rows need of a kernel, and how to find out whether it is there [pure].

Each feature is tried in a namespace of its own, in the native syntax of its tool; a row is
skipped only where that fails, so a row that fails for another reason is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass

_CLSACT = "ip link add q0 type veth peer name q1\ntc qdisc add dev q0 clsact\n"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: commands that succeed where it exists, and the kernel option that gives it.

    ``modules`` would be loaded by trying: where one lies on disk unloaded, the row is skipped,
    since modules belong to the whole machine.
    """

    name: str
    option: str
    tried: str
    modules: tuple[str, ...] = ()


def _device(kind: str, option: str, arguments: str = "", module: str = "") -> Feature:
    tried = f"ip link add q0 type {kind} {arguments}"
    return Feature(kind, option, tried, (module or kind,))


def _over(kind: str, option: str, arguments: str, module: str) -> Feature:
    tried = f"ip link add q0 type veth peer name q1\nip link add q2 link q0 type {kind} {arguments}"
    return Feature(kind, option, tried, (module,))


_ENDS = "local 192.0.2.1 remote 192.0.2.2"
_XFRM = (
    "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 reqid 1 mode tunnel "
    f"auth hmac(sha1) 0x{'11' * 20} enc cbc(aes) 0x{'22' * 16}"
)
_IN = "iptables-legacy -t mangle -A PREROUTING -p"

FEATURES: tuple[Feature, ...] = (
    _over("macvlan", "CONFIG_MACVLAN", "mode bridge", "macvlan"),
    _over("ipvlan", "CONFIG_IPVLAN", "mode l3", "ipvlan"),
    _over("vlan", "CONFIG_VLAN_8021Q", "id 5", "8021q"),
    _device("bridge", "CONFIG_BRIDGE"),
    _device("vxlan", "CONFIG_VXLAN", "id 1 dstport 4789"),
    _device("geneve", "CONFIG_GENEVE", "id 1 remote 192.0.2.1"),
    _device("gre", "CONFIG_NET_IPGRE", _ENDS, "ip_gre"),
    _device("gretap", "CONFIG_NET_IPGRE", _ENDS, "ip_gre"),
    _device("ipip", "CONFIG_NET_IPIP", _ENDS),
    _device("sit", "CONFIG_IPV6_SIT", _ENDS),
    _device("ip6tnl", "CONFIG_IPV6_TUNNEL", "local fd00::1 remote fd00::2", "ip6_tunnel"),
    _device("ip6gre", "CONFIG_IPV6_GRE", "local fd00::1 remote fd00::2", "ip6_gre"),
    _device("vti", "CONFIG_NET_IPVTI", f"{_ENDS} key 7", "ip_vti"),
    Feature("xfrm interface", "CONFIG_XFRM_INTERFACE", "ip link add q0 type xfrm if_id 7",
            ("xfrm_interface",)),
    Feature("fou", "CONFIG_NET_FOU_IP_TUNNELS",
            f"ip link add q0 type ipip {_ENDS} encap fou encap-sport auto encap-dport 5555\n"
            "ip fou add port 5555 ipproto 4", ("ipip", "fou")),
    _device("wireguard", "CONFIG_WIREGUARD"),
    _device("vrf", "CONFIG_NET_VRF", "table 5"),
    _device("ifb", "CONFIG_IFB"),
    Feature("netkit", "CONFIG_NETKIT (Linux 6.7)", "netkit q0 q1 none", ("netkit",)),
    Feature("tun", "CONFIG_TUN", "tun q0", ("tun",)),
    Feature("clsact", "CONFIG_NET_CLS_ACT", _CLSACT, ("sch_ingress",)),
    Feature(
        "mirred",
        "CONFIG_NET_ACT_MIRRED and CONFIG_NET_CLS_U32",
        f"{_CLSACT}tc filter add dev q0 ingress protocol ip prio 1 u32 match u32 0 0 "
        "action mirred egress mirror dev q1",
        ("sch_ingress", "cls_u32", "act_mirred"),
    ),
    Feature(
        "skbedit",
        "CONFIG_NET_ACT_SKBEDIT and CONFIG_NET_CLS_U32",
        f"{_CLSACT}tc filter add dev q0 ingress protocol ip prio 1 u32 match u32 0 0 "
        "action skbedit mark 1",
        ("sch_ingress", "cls_u32", "act_skbedit"),
    ),
    Feature(
        "connmark",
        "CONFIG_NET_ACT_CONNMARK and CONFIG_NET_CLS_U32",
        f"{_CLSACT}tc filter add dev q0 ingress protocol ip prio 1 u32 match u32 0 0 "
        "action connmark",
        ("sch_ingress", "cls_u32", "act_connmark"),
    ),
    Feature("bpf", "CONFIG_NET_CLS_BPF", f"{_CLSACT}bpf tc ingress q0: mark = 1",
            ("sch_ingress", "cls_bpf")),
    Feature("xdp", "CONFIG_BPF_SYSCALL", "ip link add q0 type veth peer name q1\nxdp q0 0x1"),
    Feature("esp", "CONFIG_INET_ESP", _XFRM, ("esp4", "xfrm_user")),
    Feature("br_netfilter", "CONFIG_BRIDGE_NETFILTER",
            "sysctl net.bridge.bridge-nf-call-iptables 1", ("br_netfilter",)),
    Feature("ftp helper", "CONFIG_NF_CONNTRACK_FTP",
            'nft table ip q { ct helper f { type "ftp" protocol tcp; }; }',
            ("nf_conntrack_ftp",)),
    Feature("TEE", "CONFIG_NETFILTER_XT_TARGET_TEE", f"{_IN} udp -j TEE --gateway 192.0.2.1",
            ("xt_TEE",)),
    Feature("NFQUEUE", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE", f"{_IN} udp -j NFQUEUE",
            ("xt_NFQUEUE", "nfnetlink_queue")),
    Feature("TPROXY", "CONFIG_NETFILTER_XT_TARGET_TPROXY",
            f"{_IN} tcp -j TPROXY --on-port 1 --tproxy-mark 1", ("xt_TPROXY",)),
    Feature("socket match", "CONFIG_NETFILTER_XT_MATCH_SOCKET",
            f"{_IN} tcp -m socket --transparent --restore-skmark -j ACCEPT", ("xt_socket",)),
    Feature(
        "flowtable",
        "CONFIG_NF_FLOW_TABLE and CONFIG_NFT_FLOW_OFFLOAD",
        "nft table inet q { flowtable f { hook ingress priority 0; devices = { \"lo\" }; }; "
        "chain c { type filter hook forward priority 0; meta l4proto udp flow add @f; }; }",
        ("nf_flow_table", "nft_flow_offload", "nf_flow_table_inet"),
    ),
    Feature("netdev egress", "CONFIG_NETFILTER_EGRESS (Linux 5.16)",
            'nft table netdev q { chain c { type filter hook egress device "lo" priority 0; }; }'),
    Feature("nft dup", "CONFIG_NFT_DUP_IPV4",
            "nft table ip q { chain c { type filter hook prerouting priority 0; "
            'dup to 192.0.2.1 device "lo"; }; }', ("nft_dup_ipv4",)),
    Feature("nft fwd", "CONFIG_NFT_FWD_NETDEV and CONFIG_NFT_DUP_NETDEV",
            'nft table netdev q { chain c { type filter hook ingress device "lo" priority 0; '
            'fwd to "lo"; }; }', ("nft_fwd_netdev", "nft_dup_netdev")),
    Feature("ebtables mark", "CONFIG_BRIDGE_EBT_MARK_T",
            "ebtables-nft -t nat -A PREROUTING -p IPv4 -j mark --set-mark 1",
            ("nft_compat", "ebt_mark", "ebt_ip")),
    Feature("lwt bpf", "CONFIG_LWTUNNEL_BPF",
            "ip link set lo up\nip addr add 192.0.2.1/24 dev lo\nlwt lo 192.0.2.2 0x1"),
    Feature("control group bpf", "CONFIG_CGROUP_BPF", "control-group"),
    Feature("ipvs", "CONFIG_IP_VS, and the package ipvsadm",
            "ipvsadm -A -f 5 -s rr", ("ip_vs", "ip_vs_rr")),
    Feature("ping", "the package iputils-ping", "ping -V"),
)  # fmt: skip


def find(name: str) -> Feature:
    """Return a feature by name."""
    return next(feature for feature in FEATURES if feature.name == name)
