"""
Strategy C{direct}: one side can be dialled by anybody, so the other one dials it.

That side is a host without a NAT or firewall, or one behind a full cone. It listens on the port
that the server has seen; the other side dials it from a port of its own. If the side that can be
dialled is the caller, this is a connection reversed: the callee dials.

The dialling port is another one than those that both offers name, so that the connection is on
other ports than the one of C{simultaneous}: neither can be in the other's way.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.interfaces import IAttempt, IStrategy
from punchd.values.addresses import Address, showAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.plans import Consideration

#: Whoever can be dialled answers within one round trip: enough for most. And all that is lost where
#: a NAT is not what it was taken for.
LEAD = 0.3

#: No longer, for that same case: behind a NAT, a listener may spoil the punch that begins meanwhile
#: on its port (see the explanation of hole punching).
PATIENCE = 1.2

#: Sockets. The first SYN may come before the other side listens, by as much as the GO was not heard
#: at one moment.
RETRIES = 15


@implementer(IStrategy)
class Direct:
    """
    See the module. Stateless.
    """

    name = "direct"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        caller, callee = situation.caller.offer.nat, situation.callee.offer.nat
        if not situation.isOfOneFamily or not (caller.isOpen or callee.isOpen):
            return None
        # A caller that is dialled has its connection half a round trip later than one that dials.
        # Where SYNs can cross, that is quicker, and shall not wait.
        canCross = not callee.isSymmetric and not caller.isSymmetric
        return Consideration(0.0 if canCross and not callee.isOpen else LEAD, PATIENCE)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        own, other = situation.caller, situation.callee
        if not attempt.isCaller:
            own, other = other, own
        if not own.offer.nat.isOpen:
            return self._dial(attempt, other.reflexive)
        attempt.note(f"listens at {showAddress(own.reflexive)}")
        listening = attempt.race(attempt.heldPort(), [], listening=True)
        if not other.offer.nat.isOpen:
            return listening

        def stop(outcome: Outcome | Failure) -> Outcome | Failure:
            listening.addErrback(lambda failure: failure.trap(CancelledError) and None)
            listening.cancel()
            return outcome

        return self._dial(attempt, other.reflexive).addBoth(stop)

    def _dial(self, attempt: IAttempt, remote: Address) -> Deferred[Outcome]:
        try:
            port = attempt.ordinaryPort()
        except PunchdError as error:
            return succeed(Outcome(self.name, Result.NOT_POSSIBLE, 0.0, detail=str(error)))
        attempt.note(f"dials {showAddress(remote)}, which lets anybody in")
        dialling: Deferred[Outcome] = attempt.race(port, [remote], listening=False, retries=RETRIES)
        return dialling
