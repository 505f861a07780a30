"""
Strategy C{doorstep}: a peer without a NAT waits at its door, and the other walks up.

No crossing SYNs, no timing: it serves where a peer can be reached anyway.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.values.outcomes import Outcome
from punchd.values.parties import Situation
from punchd.values.plans import Consideration


@implementer(IStrategy)
class Doorstep:
    """
    Stateless, so one object serves every introduction.
    """

    name = "doorstep"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        if not (situation.callee.hasNoNat or situation.caller.hasNoNat):
            return None
        # Alone for half a second; three seconds in all.
        return Consideration(lead=0.5, patience=3.0)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        port = attempt.heldPort()
        calleeWaits = situation.callee.hasNoNat
        if attempt.isCaller != calleeWaits:
            attempt.note("waits at the door")
            return attempt.race(port, [], listening=True)
        other = situation.callee if attempt.isCaller else situation.caller
        attempt.note("walks up to the other's door")
        return attempt.race(port, [other.reflexive], listening=False, retries=20)
