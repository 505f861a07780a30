"""
Somebody else on the LAN who uses the network: makes connections to an address, at random moments,
so that the router gives out ports. The standard library alone.

Arguments: address, port, and how many connections a second on average. Standard output: a line with
the number of connections so far, after the first and then about every second. Ends with the process
that reads it.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from contextlib import suppress

#: Connections that stay open, as those of a browser do.
_KEPT = 64


def main() -> None:
    """
    Connect until nobody reads any more.
    """
    address, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    kept: list[socket.socket] = []
    made, told = 0, 0.0
    due = time.monotonic()
    while True:
        # A Poisson process: the pauses are exponentially distributed.
        due += random.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))
        one = socket.socket()
        one.setblocking(False)
        # Whether somebody answers there makes no difference to the router.
        with suppress(OSError):
            one.connect_ex((address, port))
        kept.append(one)
        made += 1
        if len(kept) > _KEPT:
            kept.pop(0).close()
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            sys.stdout.write(f"{made}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
