"""
The callee's side of introductions.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from punchd.errors import Refused
from punchd.identity.pins import Pins
from punchd.interfaces import IAccessPolicy
from punchd.link.path import Path
from punchd.peer.conversation import Call
from punchd.peer.links import Links
from punchd.peer.master import MasterClient
from punchd.peer.meeting import Meeting
from punchd.peer.punches import Punches
from punchd.peer.relaying import relayDialler
from punchd.values.addresses import Address, showAddress
from punchd.values.parties import Situation
from punchd.wire.preamble import Side


@define(eq=False)
class Answering:
    """
    What a peer does when a server of its own introduces somebody. Made for each L{MasterClient}.
    """

    _client: MasterClient
    _pins: Pins
    _policy: IAccessPolicy
    _punches: Punches
    _links: Links

    def called(self, call: Call) -> None:
        client, peerID = self._client, call.caller
        peer = self._pins.nameOf(peerID)
        if peer is None or not self._policy.admits(peerID):
            self._punches.note(f"declines to be introduced to {peerID.short}…: not trusted here")
            raise Refused("this peer does not trust that one")
        if not client.policy.allowsReflexive(call.other.reflexive):
            self._punches.note(
                f"declines to be introduced to {peer}: {showAddress(call.other.reflexive)} is no "
                "address for us to dial"
            )
            raise Refused("that is no address for this peer to dial")
        if self._punches.find(call.session) is not None:
            raise Refused("that introduction is under way")
        punch = self._punches.make(
            client,
            Side.CALLEE,
            call.session,
            peerID,
            peer,
            Situation(caller=call.other, callee=call.own),
            client.port,
        )
        meeting = Meeting(
            client.clock,
            punch,
            self._joined,
            self._punches,
            relayDialler(client, call.relay),
            client.clock.seconds(),
            call.limit,
        )
        met = Deferred.fromCoroutine(self._meet(meeting)).addErrback(_cancelled)
        self._links.answer(met)

    def _joined(self, path: Path, meeting: Meeting) -> None:
        peerID = meeting.punch.ticket.expected
        peer = self._pins.nameOf(peerID)
        if peer is None:
            # It was until now.
            path.decline("this peer does not trust that one", isUnknown=True)
        else:
            self._links.joined(peer, peerID, path, meeting)

    async def _meet(self, meeting: Meeting) -> None:
        client, peerID = self._client, meeting.punch.ticket.expected
        with client.usage.toward(peerID) as use:
            use.hasDialled = bool(meeting.punch.plan.attempts)
            try:
                await meeting.run()
            finally:
                use.path = meeting.direct
        peer = self._pins.nameOf(peerID)
        if peer is not None:
            self._links.factsOf(peer, peerID).learn(meeting)

    def told(self, session: bytes, strategy: str, body: bytes, observed: Address | None) -> None:
        self._punches.told(session, strategy, body, observed)

    def backAgain(self) -> None:
        self._links.doubt()

    def relayNoted(self, session: bytes, reason: str, isOver: bool) -> None:
        what = "the relayed path ends" if isOver else "the relayed path is slowed down"
        self._punches.note(f"{what}: {reason}", session)
        self._links.relayNoted(session, f"{what}: {reason}")


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
