"""
A program that races from one held port toward one remote, at a given moment; run on a host of the
lab. It prints what came of it as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react

from punchd.net.held import HeldPort
from punchd.net.racing import RaceLost, RacingEndpoint
from punchd.values.addresses import makeAddress

PATIENCE = 6.0
"""Seconds after which a race is given up."""


class Accepted(Factory):
    """
    Takes what comes in, and lets the race know.
    """

    noisy = False

    def __init__(self) -> None:
        self.first: Deferred[None] = Deferred()

    def buildProtocol(self, addr: object) -> Protocol:
        if not self.first.called:
            self.first.callback(None)
        return Protocol()


def main(reactor: Any, port: str, host: str, remotePort: str, options: str) -> Deferred[None]:
    """
    Race.

    @param options: JSON: C{at}, when to start on the monotonic clock; C{listening}, C{retries},
        C{seed}.
    """
    told = json.loads(options)
    return Deferred.fromCoroutine(
        _race(reactor, int(port), makeAddress(host, int(remotePort)), **told)
    )


async def _race(
    reactor: Any, port: int, remote: Any, at: float, listening: bool, retries: int, seed: int
) -> None:
    accepted = Accepted()
    held = HeldPort.take(reactor, accepted, port)
    endpoint = RacingEndpoint(
        reactor, held, [remote], Random(seed), _proven, listening=listening, retries=retries
    )
    await deferLater(reactor, at - time.monotonic())
    began = time.monotonic()
    result = "connected"
    racing = endpoint.connect(Factory.forProtocol(Protocol))
    accepted.first.addCallback(lambda _: racing.cancel())
    deadline = reactor.callLater(PATIENCE, racing.cancel)
    try:
        await racing
    except RaceLost:
        result = "lost"
    except CancelledError:
        result = "accepted" if accepted.first.called else "timeout"
    if deadline.active():
        deadline.cancel()
    tries = [one.result.value for one in endpoint.tries]
    outcome = {"result": result, "seconds": time.monotonic() - began, "tries": tries}
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()
    # The other side may still be looking at this connection.
    await deferLater(reactor, 1.0)


def _proven(connection: IProtocol) -> Deferred[IProtocol]:
    return succeed(connection)


if __name__ == "__main__":
    react(main, sys.argv[1:])
