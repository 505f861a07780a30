"""
A stub resolver for a host of the lab: asks for an address every so often, keeps what it is told as
long as the answer says, and tells of each change.

Usage: resolver.py SERVER NAME PERIOD. Prints for each change the time (of the whole machine), the
address or the RCODE, as JSON. Only the standard library is needed.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from typing import Final

PATIENCE: Final = 0.5
"""Seconds until a question is asked again."""


def ask(connection: socket.socket, number: int, name: str) -> tuple[str, float] | None:
    """
    The address or the RCODE, and how many seconds it holds.
    """
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", 1, 1)
    connection.send(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + question)
    try:
        answer = connection.recv(512)
    except TimeoutError:
        return None
    heard, flags, _, answers = struct.unpack("!4H", answer[:8])
    if heard != number:
        return None
    if not answers:
        return f"RCODE {flags & 15}", 0.0
    _, _, _, ttl, length = struct.unpack_from("!HHHIH", answer, 12 + len(question))
    at = 12 + len(question) + 12
    return socket.inet_ntoa(answer[at : at + length]), float(ttl)


def main(server: str, name: str, period: float) -> None:
    """
    Never ends.
    """
    known, until, number = "", 0.0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect((server, 53))
        while True:
            if time.monotonic() >= until:
                number = number % 65535 + 1
                found = ask(connection, number, name)
                if found is not None:
                    until = time.monotonic() + found[1]
                    if found[0] != known:
                        known = found[0]
                        sys.stdout.write(json.dumps([time.monotonic(), known]) + "\n")
                        sys.stdout.flush()
            time.sleep(period)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
