"""What is done once everything is built and watched: who sends what [pure].

Acts run in the order of their row. All packets carry ``PAYLOAD``, by which packet sockets know
them. Sockets that readings ask for (``b socket 5000``) are open before the first act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PAYLOAD = b"fwmark-lab boundary"


@dataclass(frozen=True, slots=True)
class Datagram:
    """UDP from a socket: ``mark`` is its SO_MARK, ``device`` its SO_BINDTODEVICE."""

    node: str
    to: str
    mark: int = 0
    port: int = 5000
    source: str = ""
    source_port: int = 0
    device: str = ""
    size: int = len(PAYLOAD)
    count: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """The socket of a reading ``NODE socket PORT`` answers the last datagram that it got."""

    node: str
    port: int = 5000


@dataclass(frozen=True, slots=True)
class Frame:
    """One Ethernet frame from a packet socket with SO_MARK ``mark``, built by scapy.

    ``to_device`` on ``to_node`` is where its destination MAC is. With ``bypass`` it skips the
    queueing discipline. ``ttl`` 1 dies at the first router. ``port`` is the destination port.
    """

    node: str
    device: str
    to_node: str
    to_device: str
    source: str
    destination: str
    mark: int = 0
    kind: Literal["udp", "icmp", "tcp"] = "udp"
    port: int = 5000
    source_port: int = 5001
    ttl: int = 64
    bypass: bool = False
    fragments: tuple[int, ...] = ()
    """Send a 72-byte datagram as three fragments, in this order of their numbers."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A TCP connection: ``size`` bytes from client to server, some bytes back, then both close.

    ``mark`` and ``listener_mark`` are the sockets' SO_MARK. ``port`` is where the client connects,
    ``listen_port`` where the server listens (0: the same); ``transparent`` is its IP_TRANSPARENT.
    ``remark`` is the client's SO_MARK after connecting, if it changes.
    """

    node: str
    to: str
    server: str
    mark: int = 0
    port: int = 5000
    listener_mark: int = 0
    listen_port: int = 0
    transparent: bool = False
    size: int = len(PAYLOAD)
    remark: int = 0


@dataclass(frozen=True, slots=True)
class ActiveFtp:
    """An FTP client on ``node`` has the server on ``server`` open the data connection to it."""

    node: str
    server: str
    client_address: str
    server_address: str
    data_port: int = 51210


@dataclass(frozen=True, slots=True)
class Queue:
    """A program on ``node`` that takes packets from NFQUEUE 0.

    It answers every one that waits when ``Release`` comes.
    """

    node: str


@dataclass(frozen=True, slots=True)
class Release:
    """Let the queued packets go on, with the verdict mark ``mark`` unless it is 0."""

    node: str
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A program that opens a tun or tap device ``name`` on ``node``; it writes when told to."""

    node: str
    name: str
    kind: Literal["tun", "tap"]


@dataclass(frozen=True, slots=True)
class WriteBack:
    """The program behind a tun or tap device swaps addresses and ports and writes packets back."""

    node: str


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A BPF program that writes ``mark``, for every process of the machine, until the row ends.

    ``where``: each ``socket`` that is made from now on, or each packet on its way out (``egress``)
    of a socket or into one (``ingress``).
    """

    where: Literal["socket", "egress", "ingress"]
    mark: int


@dataclass(frozen=True, slots=True)
class Run:
    """More commands, once everything is watched; written as in ``Row.built``."""

    commands: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass, where a rule counts it."""

    seconds: float


Act = (
    Datagram
    | Answer
    | Frame
    | Conversation
    | ActiveFtp
    | Queue
    | Release
    | Tunnel
    | WriteBack
    | ControlGroup
    | Run
    | Wait
)
