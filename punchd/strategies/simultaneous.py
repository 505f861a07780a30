"""
Strategy C{simultaneous}: both sides dial each other at the same moment (RFC 9293, 3.5: simultaneous
open), from the ports whose mappings the server has seen.

The master has given both sides the GO so that it reached them at once. Each SYN opens its own NAT
for the other's. Where SYNs cross on the wire, both are let in; where one comes too early it is
dropped, and the kernel repeats it; where a NAT answers it, the next try comes at once, and later
ones after random pauses.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.values.addresses import showAddress
from punchd.values.outcomes import Outcome
from punchd.values.parties import Situation
from punchd.values.plans import Consideration

#: Without resets it takes one round trip; the kernel repeats a lost SYN after one second.
LEAD = 1.2
PATIENCE = 4.0

#: Sockets a side. NATs that reset cost one per round trip, plus a pause when many are used up (0.03
#: s on average); what one introduction may cost is bounded.
RETRIES = 60


@implementer(IStrategy)
class Simultaneous:
    """
    See the module. Stateless.
    """

    name = "simultaneous"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(LEAD, PATIENCE) if situation.meetsAsObserved else None

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        own, other = situation.caller, situation.callee
        if not attempt.isCaller:
            own, other = other, own
        # A NAT that maps by destination shows us another port than the server saw: its SYN can only
        # meet a listener. Without a NAT of our own, a listener costs nothing and saves a round
        # trip. Otherwise there must be none: behind some NATs its answer to a SYN that comes
        # between two tries blocks the address (see the explanation of hole punching).
        listening = own.hasNoNat or other.offer.nat.isSymmetric
        attempt.note(
            f"dials {showAddress(other.reflexive)} at the GO" + (", and listens" * listening)
        )
        return attempt.race(
            attempt.heldPort(), [other.reflexive], listening=listening, retries=RETRIES
        )
