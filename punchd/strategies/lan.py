"""
Strategy C{lan}: two peers behind one public address dial each other's host candidates.

Most NATs do not hairpin (RFC 5382, REQ-8 asks for it): they do not bring a packet from inside back
inside. But behind one NAT there is often one network.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.values.outcomes import Outcome
from punchd.values.parties import Situation, isShareableHost
from punchd.values.plans import Consideration

#: A host on the same network answers within milliseconds.
LEAD = 0.15
PATIENCE = 2.0

#: Sockets. The first SYN may come before the other side listens.
RETRIES = 15


@implementer(IStrategy)
class Lan:
    """
    See the module. Stateless.
    """

    name = "lan"
    version = 1

    def consider(self, situation: Situation) -> Consideration | None:
        parties = (situation.caller, situation.callee)
        if not situation.sharesPublicAddress:
            return None
        if not all(any(map(isShareableHost, party.offer.hosts)) for party in parties):
            return None
        return Consideration(LEAD, PATIENCE)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        other = situation.callee if attempt.isCaller else situation.caller
        hosts = [host for host in other.offer.hosts if isShareableHost(host)]
        attempt.note("dials the other's own addresses on this network")
        # Nothing filters inside a network, so whoever dials first meets a listener.
        return attempt.race(attempt.heldPort(), hosts, listening=True, retries=RETRIES)
