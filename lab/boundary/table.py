"""All rows: the boundaries by group, and the ways of the cheat sheet [pure]."""

from __future__ import annotations

from lab.boundary.row import Row
from lab.boundary.rows import (
    bpf,
    bridges,
    cheatsheet,
    conntrack,
    devices,
    packets,
    redirects,
    routing,
    sockets,
    tunnels,
)

GROUPS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    ("Devices", devices.ROWS),
    ("Bridges", bridges.ROWS),
    ("Tunnels", tunnels.ROWS),
    ("Redirects and copies", redirects.ROWS),
    ("BPF programs of routes and control groups", bpf.ROWS),
    ("Connection tracking", conntrack.ROWS),
    ("Sockets and the kernel's own answers", sockets.ROWS),
    ("Routing", routing.ROWS),
    ("Fragments, segments and rules", packets.ROWS),
)
BOUNDARIES: tuple[Row, ...] = tuple(row for _, rows in GROUPS for row in rows)
CHEATSHEET: tuple[Row, ...] = cheatsheet.ROWS
