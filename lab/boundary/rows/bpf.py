"""BPF programs beside those at tc: of routes and of control groups [pure]."""

from __future__ import annotations

from lab.boundary.acts import ControlGroup, Datagram
from lab.boundary.row import Change, Row, see

ROWS = (
    Row(
        name="route with a bpf program (lwt)",
        change=Change.REWRITTEN,
        reason="the program runs where the packet goes out by its route, after OUTPUT",
        source="net/core/lwt_bpf.c: bpf_output",
        built="a: lwt v0 10.0.0.2 0x66\n",
        sent=(Datagram("a", "10.0.0.2", 0x11),),
        readings=(see("a output 200", 0x11), see("a postrouting -300", 0x66)),
        needs=("lwt bpf",),
    ),
    Row(
        name="control group, program at the making of sockets",
        change=Change.KEPT,
        reason="the program sets SO_MARK, and each packet begins with it",
        source="kernel/bpf/cgroup.c: __cgroup_bpf_run_filter_sk",
        sent=(ControlGroup("socket", 0x5C), Datagram("a", "10.0.0.2")),
        readings=(see("a output -400", 0x5C), see("a tap v0 out", 0x5C)),
        needs=("control group bpf",),
    ),
    Row(
        name="control group, program at egress",
        change=Change.REWRITTEN,
        reason="the program runs after POSTROUTING, in ip_finish_output",
        source="net/ipv4/ip_output.c: ip_finish_output",
        sent=(ControlGroup("egress", 0x5D), Datagram("a", "10.0.0.2")),
        readings=(see("a postrouting 200", 0), see("a egress v0", 0x5D)),
        needs=("control group bpf", "netdev egress"),
    ),
    Row(
        name="control group, program at ingress",
        change=Change.REWRITTEN,
        reason="the program runs where the socket takes the packet, after INPUT",
        source="net/core/filter.c: sk_filter_trim_cap",
        sent=(ControlGroup("ingress", 0x5E), Datagram("a", "10.0.0.2")),
        readings=(see("b input 200", 0), see("b socket 5000", 0x5E)),
        needs=("control group bpf",),
    ),
)
