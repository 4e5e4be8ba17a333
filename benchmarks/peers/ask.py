"""Send a flow's packets: ``ask.py SOURCE PORT TO PORT MARK FLOW COUNT SECONDS``.

Prints how many were answered; ``SECONDS`` is how long each answer is waited for.
"""

import socket
import struct
import sys
from contextlib import suppress

_SO_MARK = 36
_MAGIC = 0xF3A7


def main(arguments: list[str]) -> None:
    """Send one packet after the answer to the one before, or when there was none."""
    source, source_port, to, port, mark, flow, count, patience = arguments
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(float(patience))
        if int(mark):
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, int(mark))
        sock.bind((source, int(source_port)))
        for ordinal in range(int(count)):
            sock.sendto(struct.pack("!HHBB6x", _MAGIC, int(flow), 0, ordinal), (to, int(port)))
            with suppress(TimeoutError):
                answered += len(sock.recv(100)) > 0
    sys.stdout.write(f"{answered}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
