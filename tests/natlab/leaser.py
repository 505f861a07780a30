"""
Keeps a lease as a peer does, with short times: run on a host of the lab.

Standard input: its end is the end. Standard output: a line for each lease, and for the end of one.
Arguments: the port of this host, the seconds between two checks, and those for which to ask.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from random import SystemRandom
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from punchd.nat import leases, wish
from punchd.nat.gateway import findGateway
from punchd.nat.mapping import mappersFor
from punchd.values.addresses import showAddress


class Keeping(Protocol):
    """
    Keeps the lease from the beginning of standard input to its end.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        random = SystemRandom()
        ways = partial(mappersFor, reactor, random, os.urandom)
        self._leases = leases.Leases(reactor, random, findGateway, ways, lambda line: None)
        self._port = port

    def connectionMade(self) -> None:
        self._leases.startService()
        self._wish = self._leases.want(self._port, self._changed)

    def _changed(self) -> None:
        lease = self._wish.lease
        told = "nothing" if lease is None else f"{lease.by} {showAddress(lease.external)}"
        sys.stdout.write(told + "\n")
        sys.stdout.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leases.stopService().addBoth(lambda _: self._reactor.stop())


def main() -> None:
    """
    Run it.
    """
    from twisted.internet import reactor

    port, check, lifetime = sys.argv[1:]
    leases.CHECK = float(check)
    leases.GLANCE = min(leases.GLANCE, leases.CHECK)
    wish.LIFETIME = float(lifetime)
    running: Any = reactor
    StandardIO(Keeping(running, int(port)))
    running.run()


if __name__ == "__main__":
    main()
