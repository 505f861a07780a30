"""
Strategy C{predicted}: a symmetric NAT that counts, or two of them.

A side whose NAT counts touches the assist service from a fresh port. The server sees which outside
port that mapping has, and tells the other side: the next mapping will have the next port, but for
what others behind that NAT do meanwhile. Then both sides dial at once.

  - If only one NAT counts, the other side dials a window of the next ports, from the one port that
    its own NAT keeps; the counting side dials that port from a few new ones.
  - If both count, each side dials a single port of the other, from as many new ports as the window
    is wide. It is the port that the last socket of the other's burst would get if nobody else made
    a mapping. If others made some, but fewer than the window is wide, an earlier socket of the
    burst gets it. So somewhere in A's burst is the mapping that B dials, and somewhere in B's the
    one that A dials; and as all sockets of a burst dial the same port, these two meet.

What each side predicts of its own NAT, it tells itself; where that NAT's ports are, the other side
believes the server alone. A round that failed is followed by a wider one, from a new observation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.interfaces import IAttempt, IStrategy
from punchd.nat.prediction import Sighting, following, reach
from punchd.net.held import HeldPort
from punchd.strategies.bursts import Bursts, letsIn
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.plans import Consideration

#: How wide the window of each round is.
WIDTHS = (64, 128, 192)

#: Sockets of a counting side whose other side keeps its port: any of them will do, but SYNs get
#: lost.
FEW = 4

#: Seconds that a socket waits, and from a burst to the next round, which begins with two round
#: trips to the assist service.
WAIT = 0.9
PAUSE = 0.35

LEAD = 2.0
PATIENCE = 4.0

# From the SYN to the assist service until a message has come to the other side is three round
# trips; two have passed when the service has answered.
_TOUCH_AND_TELL = 1.5

_MESSAGE = re.compile(rb"([0-9]{1,2}) ([0-9]{1,5})")


@implementer(IStrategy)
class Predicted:
    """
    See the module. Stateless.
    """

    name = "predicted"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        parties = (situation.caller, situation.callee)
        symmetric = [party for party in parties if party.offer.nat.isSymmetric]
        if not situation.isOfOneFamily:
            return None
        if not symmetric or not all(party.offer.nat.isPredictable for party in symmetric):
            return None
        if any(letsIn(party) for party in parties if party not in symmetric):
            return None
        return Consideration(LEAD, PATIENCE)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._run(attempt))

    async def _run(self, attempt: IAttempt) -> Outcome:
        began = attempt.clock.seconds()
        bursts = Bursts(attempt.clock)
        try:
            await self._runRounds(attempt, bursts)
        except PunchdError as error:
            seconds = attempt.clock.seconds() - began
            return Outcome(self.name, Result.NOT_POSSIBLE, seconds, detail=str(error))
        finally:
            bursts.cancel()
        return bursts.outcome(self.name, attempt.clock.seconds() - began)

    async def _runRounds(self, attempt: IAttempt, bursts: Bursts) -> None:
        own, other = attempt.situation.caller, attempt.situation.callee
        if not attempt.isCaller:
            own, other = other, own
        counts, otherCounts = own.offer.nat.isSymmetric, other.offer.nat.isSymmetric
        watch = _Watch(attempt, own.offer.nat.delta)
        for number, width in enumerate(WIDTHS):
            # Our message is answered when the other side hears it: so both sides go on at the same
            # moment, if the server is as far from the one as from the other.
            if counts:
                await watch.tell(number, width)
            remotes: Sequence[Address] = [other.reflexive] * FEW
            if otherCounts:
                seen, ahead = await _heard(attempt, number)
                first, several = (ahead, 1) if counts else (ahead - width + 1, width)
                ports = following(seen.port, other.offer.nat.delta, first, several)
                remotes = [makeAddress(seen.host, port) for port in ports] * (width // several)
            watch.made = len(remotes)
            bursts.add(attempt.spray(remotes, None if counts else attempt.heldPort(), WAIT))
            if await bursts.wait(PAUSE):
                return
        await bursts.waitForEnd()


@define(eq=False)
class _Watch:
    """
    What one attempt knows of its own NAT, which counts.

    @ivar made: mappings that we have made since the last observation.
    """

    _attempt: IAttempt
    _delta: int
    made: int = 0
    _seen: list[Sighting] = field(factory=list, init=False)

    async def tell(self, number: int, width: int) -> None:
        """
        Let the server see where our NAT is now, and the other side hear of it.
        """
        attempt, began = self._attempt, self._attempt.clock.seconds()
        port: HeldPort = await attempt.freshPort()
        observed = port.observed
        if observed is None:
            raise PunchdError("the assist service has not seen our port")
        self._seen.append(Sighting(observed.port, began, self.made + 1))
        untilBurst = (attempt.clock.seconds() - began) * _TOUCH_AND_TELL
        ahead = reach(self._seen, self._delta, untilBurst, width)
        attempt.note(
            f"our NAT was at port {observed.port} and counts by {self._delta}; a burst should be "
            f"met {ahead} mappings after it"
        )
        await attempt.tell(b"%d %d" % (number, ahead), port)


async def _heard(attempt: IAttempt, number: int) -> tuple[Address, int]:
    """
    Where the other side's NAT is, and how many mappings after that to meet.
    """
    body, observed = await attempt.hear()
    said = _MESSAGE.fullmatch(body)
    if said is None or int(said[1]) != number or observed is None:
        raise PunchdError(f"the other half said {body[:40]!r} where round {number} was expected")
    attempt.note(
        f"the other side's NAT was at port {observed.port}; meets it {int(said[2])} mappings after"
    )
    return observed, int(said[2])
