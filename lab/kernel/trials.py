"""What the doctor tries: one row per kernel feature, in the native syntax of its tool."""

from __future__ import annotations

from lab.kernel.features import Trial

FRONT_ENDS = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
_MATCHES = ("xt_mark", "xt_connmark", "xt_conntrack", "xt_MASQUERADE", "xt_comment")


def _kernel(option: str, module: str) -> str:
    return f"load module {module}, or use a kernel with {option}"


def _tables(program: str) -> tuple[str, ...]:
    """Return the modules that hold the tables of an iptables front end."""
    if program.endswith("-nft"):
        return ("nft_compat", "nf_tables", "nft_chain_nat", "nf_nat")
    family = "ip6" if program.startswith("ip6") else "ip"
    return (f"{family}_tables", f"{family}table_mangle", f"{family}table_nat", "nf_nat")


def _front_end(program: str) -> Trial:
    """Return the trial of what every entry of the registry uses."""
    family = "IP6" if program.startswith("ip6") else "IP"
    option = "NFT_COMPAT" if program.endswith("-nft") else f"{family}_NF_IPTABLES_LEGACY"
    return Trial(
        f"marks by {program}",
        (
            f"{program} -t mangle -A PREROUTING -m mark --mark 0x1/0x1 -j MARK --set-xmark 0x2/0x2",
            f"{program} -t mangle -A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --save-mark",
            f"{program} -t nat -A POSTROUTING -m comment --comment lab -j MASQUERADE",
        ),
        (*_tables(program), *_MATCHES),
        needed=True,
        remedy=_kernel(f"CONFIG_{option} and CONFIG_NETFILTER_XT_*", _tables(program)[0]),
    )


_NFT = (
    "nft add table inet lab",
    "nft add chain inet lab c { type filter hook prerouting priority -150 ; }",
)

NEEDED = (
    Trial("network namespaces", ("ip netns add lab",), needed=True,
          remedy="use a kernel with CONFIG_NET_NS; in a container, grant CAP_SYS_ADMIN"),
    Trial("veth pairs", ("ip link add lab0 type veth peer name lab1",), ("veth",), needed=True,
          remedy=_kernel("CONFIG_VETH", "veth")),
    Trial("policy rules by fwmark",
          ("ip rule add fwmark 0x1/0x1 lookup 100", "ip -6 rule add fwmark 0x1/0x1 lookup 100"),
          needed=True, remedy="use a kernel with CONFIG_IP_MULTIPLE_TABLES and its IPv6 twin"),
    Trial("rp_filter sysctls", ("@sysctl",), needed=True,
          remedy="mount /proc/sys writable (a container needs --privileged)"),
    Trial("packet sockets", ("@packet-socket",), ("af_packet",), needed=True,
          remedy=_kernel("CONFIG_PACKET", "af_packet")),
    *map(_front_end, FRONT_ENDS),
    Trial("marks by nft", (*_NFT, "nft add rule inet lab c meta mark set meta mark | 0x1"),
          ("nf_tables",), needed=True, remedy=_kernel("CONFIG_NF_TABLES", "nf_tables")),
    Trial("probes by nft dynamic sets",
          (*_NFT, "nft add set inet lab s { type mark . mark ; flags dynamic ; }",
           "nft add rule inet lab c add @s { meta mark . ct mark }"),
          ("nf_tables", "nft_ct"), needed=True, remedy=_kernel("CONFIG_NF_TABLES", "nf_tables")),
    Trial("nft trace", (*_NFT, "nft add rule inet lab c meta nftrace set 1"),
          ("nf_tables",), needed=True, remedy=_kernel("CONFIG_NF_TABLES", "nf_tables")),
    Trial("legacy trace", ("iptables-legacy -t raw -A PREROUTING -j TRACE",),
          ("ip_tables", "iptable_raw", "xt_TRACE", "nfnetlink_log"), needed=True,
          remedy=_kernel("CONFIG_NETFILTER_XT_TARGET_TRACE", "xt_TRACE")),
    Trial("conntrack", (*_NFT, "nft add rule inet lab c ct state new ct mark set meta mark"),
          ("nf_tables", "nf_conntrack", "nft_ct"), needed=True,
          remedy=_kernel("CONFIG_NF_CONNTRACK_MARK", "nf_conntrack")),
    Trial("ip sets", ("ipset create lab hash:net",), ("ip_set", "ip_set_hash_net"), needed=True,
          remedy=_kernel("CONFIG_IP_SET_HASH_NET", "ip_set_hash_net")),
)  # fmt: skip


def _device(kind: str, option: str, arguments: str = "", over: str = "") -> Trial:
    under = f"link {over} " if over else ""
    first = (f"ip link add {over} type veth peer name {over}p",) if over else ()
    return Trial(
        f"{kind} devices",
        (*first, f"ip link add {under}lab-{kind} type {kind} {arguments}"),
        (kind,),
        remedy=_kernel(option, kind),
    )


OPTIONAL = (
    Trial("TPROXY (xt)",
          ("iptables-nft -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1",),
          ("nft_compat", "xt_TPROXY"),
          remedy=_kernel("CONFIG_NETFILTER_XT_TARGET_TPROXY", "xt_TPROXY")),
    Trial("TPROXY (nft)", (*_NFT, "nft add rule inet lab c meta l4proto tcp tproxy ip to :1"),
          ("nf_tables", "nft_tproxy"), remedy=_kernel("CONFIG_NFT_TPROXY", "nft_tproxy")),
    Trial("BPF programs", ("@bpf",),
          remedy="run as root (not in a user namespace), on a kernel with CONFIG_BPF_SYSCALL"),
    Trial("clsact", ("tc qdisc add dev lo clsact",), ("sch_ingress",),
          remedy=_kernel("CONFIG_NET_SCH_INGRESS", "sch_ingress")),
    Trial("skbedit mark",
          ("ip link add labq type veth peer name labqp", "tc qdisc add dev labq clsact",
           "tc filter add dev labq ingress u32 match u32 0 0 action skbedit mark 1"),
          ("sch_ingress", "cls_u32", "act_skbedit"),
          remedy=_kernel("CONFIG_NET_ACT_SKBEDIT and CONFIG_NET_CLS_U32", "act_skbedit")),
    Trial("tun devices", ("ip tuntap add lab-tun mode tun",), ("tun",),
          remedy="make /dev/net/tun writable for you, on a kernel with CONFIG_TUN"),
    _device("vxlan", "CONFIG_VXLAN", "id 1 dstport 4789"),
    _device("wireguard", "CONFIG_WIREGUARD"),
    _device("geneve", "CONFIG_GENEVE", "id 1 remote 192.0.2.1"),
    _device("dummy", "CONFIG_DUMMY"),
    _device("macvlan", "CONFIG_MACVLAN", "mode bridge", over="labm"),
    _device("ipvlan", "CONFIG_IPVLAN", "mode l3", over="labi"),
    _device("netkit", "CONFIG_NETKIT (6.7 or newer)"),
    _device("bridge", "CONFIG_BRIDGE"),
    _device("ipip", "CONFIG_NET_IPIP", "local 192.0.2.1 remote 192.0.2.2"),
    _device("vrf", "CONFIG_NET_VRF", "table 5"),
)  # fmt: skip
