"""
Strategy C{sequential}: the classic recipe of TCP hole punching, one step after the other.

  1. The server listens twice, as master and as assist.
  2. A (the caller) and B (the callee) keep their master connections.
  3. A connects to the assist service from a fresh port p, and listens on p too.
  4. The server tells B, over B's master connection, A's address after A's NAT.
  5. B connects to the assist service from its own fresh port q: the server learns B's address.
  6. B dials A's address. Mostly the SYN dies at A's NAT, but now B's NAT lets A in: the hole.
  7. B listens on q and reports ready; the server tells A B's address.
  8. A dials B's address, through the hole.

It needs no timing, so it serves where crossing SYNs are not liked; and since both sides listen on
ports that the server has seen, it also lets in a SYN that comes from another port than was
announced: from behind a symmetric NAT to a host whose NAT does not filter by port. One thing
differs from the articles: in step 7 B keeps its dialling socket open. If it closed it, the answer
of B's listener to A's SYN would not fit what B's NAT has seen, and many NATs drop it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.interfaces import IAttempt, IStrategy
from punchd.net.held import HeldPort
from punchd.values.addresses import Address, showAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.plans import Consideration

LEAD = 1.0
#: Two touches of the assist service (two round trips each), two messages (one each), then the dial.
PATIENCE = 6.0

#: Sockets a side: enough for resets to be outlived.
RETRIES = 40

_HERE_IS_MY_PORT = b"port"
_READY = b"ready"


@implementer(IStrategy)
class Sequential:
    """
    See the module. Stateless.
    """

    name = "sequential"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(LEAD, PATIENCE) if situation.meetsAsObserved else None

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        run = self._runCaller if attempt.isCaller else self._runCallee
        return Deferred.fromCoroutine(_asValue(self.name, attempt, run))

    async def _runCaller(self, attempt: IAttempt) -> Outcome:
        port: HeldPort = await attempt.freshPort()
        port.listen()
        attempt.note(
            f"3. A touched the assist service from port {port.number}, seen as "
            f"{showAddress(port.observed)}, and listens on it"
        )
        await attempt.tell(_HERE_IS_MY_PORT, port)
        attempt.note("4. the server tells B where A is")
        remote = await _heard(attempt, _READY)
        attempt.note(f"8. A dials B at {showAddress(remote)}, through the hole")
        racing = attempt.race(port, [remote], listening=True, retries=RETRIES)
        # From here on it is the race that listens: it stops when the listener is in the way.
        port.unlisten()
        return await racing

    async def _runCallee(self, attempt: IAttempt) -> Outcome:
        remote = await _heard(attempt, _HERE_IS_MY_PORT)
        attempt.note(f"4. B hears that A is at {showAddress(remote)}")
        port: HeldPort = await attempt.freshPort()
        attempt.note(
            f"5. B touched the assist service from port {port.number}, seen as "
            f"{showAddress(port.observed)}"
        )
        attempt.note("6. B dials A: this makes the hole in B's NAT")
        racing = attempt.race(port, [remote], listening=True, retries=RETRIES)
        attempt.note("7. B listens on that port, keeps dialling, and reports ready")
        try:
            await attempt.tell(_READY, port)
        except BaseException:
            racing.cancel()
            raise
        return await racing


async def _heard(attempt: IAttempt, expected: bytes) -> Address:
    body, observed = await attempt.hear()
    if body != expected or observed is None:
        raise PunchdError(f"the other half said {body[:40]!r} where {expected!r} was expected")
    return observed


async def _asValue(
    name: str, attempt: IAttempt, run: Callable[[IAttempt], Coroutine[Any, Any, Outcome]]
) -> Outcome:
    began = attempt.clock.seconds()
    try:
        return await run(attempt)
    except PunchdError as error:
        seconds = attempt.clock.seconds() - began
        return Outcome(name, Result.NOT_POSSIBLE, seconds, detail=str(error))
