"""
Strategy C{ipv6}: both sides dial each other's global IPv6 address at the same moment.

IPv6 has no NATs, but most routers have firewalls that only let answers in (RFC 6092 describes them,
and wants a simultaneous open to pass). So it is punched like IPv4, with one thing less to go wrong:
the address that the server has seen is the one that everybody sees.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.values.addresses import isGlobalIPv6, showAddress
from punchd.values.outcomes import Outcome, Result
from punchd.values.parties import Situation
from punchd.values.plans import Consideration

#: Where IPv6 works, it takes one round trip; where it does not, nobody shall wait long for that.
LEAD = 0.15
#: The kernel repeats a lost SYN after one second.
PATIENCE = 4.0

#: Sockets a side: as for C{simultaneous}, for firewalls that reset.
RETRIES = 60


@implementer(IStrategy)
class IPv6:
    """
    See the module. Stateless.
    """

    name = "ipv6"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        addresses = (situation.caller.offer.ipv6, situation.callee.offer.ipv6)
        if not all(address is not None and isGlobalIPv6(address) for address in addresses):
            return None
        return Consideration(LEAD, PATIENCE)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        other = situation.callee if attempt.isCaller else situation.caller
        port, remote = attempt.ipv6Port(), other.offer.ipv6
        if port is None or remote is None:
            detail = "the port that this side has offered is there no longer"
            return succeed(Outcome(self.name, Result.NOT_POSSIBLE, 0.0, detail=detail))
        attempt.note(f"dials {showAddress(remote)} at the GO, and listens")
        # Without a NAT a listener spoils nothing, and takes a SYN that comes between two tries.
        return attempt.race(port, [remote], listening=True, retries=RETRIES)
