"""
Strategy C{mapped}: a router has leased a port to one side, so the other side dials it there.

The server has dialled that address itself, and found that peer. Whoever dials is let in, whatever
the NATs do otherwise: this crosses even two NATs that give every destination another port.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.interfaces import IAttempt, IStrategy
from punchd.values.addresses import Address, showAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Party, Situation
from punchd.values.plans import Consideration

#: One round trip is mostly all that it takes; and what costs nothing need not wait for long.
LEAD = 0.25

#: Enough for a SYN that is lost, and for one that comes before a router was ready.
PATIENCE = 3.0

#: Sockets a side and address.
RETRIES = 15


@implementer(IStrategy)
class Mapped:
    """
    See the module. Stateless.
    """

    name = "mapped"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        if not leasedTo(situation.caller) and not leasedTo(situation.callee):
            return None
        return Consideration(LEAD, PATIENCE)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        own, other = situation.caller, situation.callee
        if not attempt.isCaller:
            own, other = other, own
        listening = self._listen(attempt, leasedTo(own))
        remotes = leasedTo(other)
        if not remotes:
            return listening or succeed(
                Outcome(self.name, Result.NOT_POSSIBLE, 0.0, detail="our router's lease is gone")
            )
        dialling = self._dial(attempt, remotes)
        return dialling if listening is None else _both(dialling, listening)

    def _listen(self, attempt: IAttempt, own: list[Address]) -> Deferred[Outcome] | None:
        port = attempt.leasedPort()
        if not own or port is None:
            return None
        attempt.note(f"listens at {', '.join(map(showAddress, own))} on our router")
        listening: Deferred[Outcome] = attempt.race(port, [], listening=True)
        return listening

    def _dial(self, attempt: IAttempt, remotes: list[Address]) -> Deferred[Outcome]:
        try:
            port = attempt.ordinaryPort()
        except PunchdError as error:
            return succeed(Outcome(self.name, Result.NOT_POSSIBLE, 0.0, detail=str(error)))
        attempt.note(f"dials {', '.join(map(showAddress, remotes))} on the other's router")
        dialling: Deferred[Outcome] = attempt.race(port, remotes, listening=False, retries=RETRIES)
        return dialling


def leasedTo(party: Party) -> list[Address]:
    """
    The addresses that a router has leased to C{party}: those of the host where the server sees it,
    because no other is its router's.
    """
    return [one for one in party.offer.mapped if one.host == party.reflexive.host]


def _both(dialling: Deferred[Outcome], listening: Deferred[Outcome]) -> Deferred[Outcome]:
    """
    Dialling while listening: a dial that found nobody does not end the listening, whose end is the
    attempt's.
    """

    def stop() -> None:
        listening.addErrback(lambda failure: failure.trap(CancelledError) and None)
        listening.cancel()

    def dialled(outcome: Outcome) -> Outcome | Deferred[Outcome]:
        if outcome.result is not Result.CONNECTED:
            return listening
        stop()
        return outcome

    def failed(failure: Failure) -> Failure:
        stop()
        return failure

    both: Deferred[Outcome] = dialling.addCallbacks(dialled, failed)
    return both
