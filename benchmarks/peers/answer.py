"""Answer datagrams: ``answer.py READY ADDRESS PORT [ADDRESS PORT ...]``; runs until killed."""

import select
import socket
import sys


def main(ready: str, *ends: str) -> None:
    """Send every datagram back, from the address it came to, marked as a reply."""
    sockets = []
    for address, port in zip(ends[::2], ends[1::2], strict=True):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, int(port)))
        sockets.append(sock)
    with open(ready, "w"):  # noqa: PTH123 - pathlib takes longer to import than all of this
        pass
    while True:
        for sock in select.select(sockets, [], [])[0]:
            payload, sender = sock.recvfrom(100)
            sock.sendto(payload[:4] + b"\1" + payload[5:], sender)


if __name__ == "__main__":
    main(*sys.argv[1:])
