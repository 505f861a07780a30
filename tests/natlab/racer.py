"""
A program that races from held ports toward the same ports of another host, one after the other from
a given moment on; run on a host of the lab. It prints what came of each race as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react

from punchd.net.held import HeldPort
from punchd.net.racing import RaceLost, RacingEndpoint
from punchd.values.addresses import makeAddress

PATIENCE = 6.0
"""Seconds after which a race is given up."""

STEP = 0.1
"""Seconds from one race to the next."""


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


def main(reactor: Any, host: str, port: str, options: str) -> Deferred[None]:
    """
    Race.

    @param port: the first one.
    @param options: JSON: C{at}, when to start on the monotonic clock; C{times}, C{listening},
        C{retries}, C{seed}.
    """
    return Deferred.fromCoroutine(_races(reactor, host, int(port), **json.loads(options)))


async def _races(
    reactor: Any, host: str, first: int, at: float, times: int, seed: int, **options: Any
) -> None:
    random = Random(seed)
    racing = (
        Deferred.fromCoroutine(_race(reactor, host, first + n, random, at + STEP * n, **options))
        for n in range(times)
    )
    for outcome in await gatherResults(racing):
        sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()
    # The other side may still be looking at the last connection.
    await deferLater(reactor, 1.0)


async def _race(
    reactor: Any, host: str, port: int, random: Random, at: float, listening: bool, retries: int
) -> dict[str, Any]:
    accepted = Accepted()
    held = HeldPort.take(reactor, accepted, port)
    remote = makeAddress(host, port)
    endpoint = RacingEndpoint(
        reactor, held, [remote], random, _proven, listening=listening, retries=retries
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
    return {"result": result, "seconds": time.monotonic() - began, "tries": tries}


def _proven(connection: IProtocol) -> Deferred[IProtocol]:
    return succeed(connection)


if __name__ == "__main__":
    react(main, sys.argv[1:])
