"""
Introductions that we ask for: the caller's side, from the question to the servers to the end of
the meeting.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve, frozen
from twisted.internet.task import deferLater

from punchd.errors import (
    NoPath,
    Overlapping,
    PunchdError,
    Refused,
    UnknownPeer,
    Unreachable,
)
from punchd.link.path import Path
from punchd.peer.conversation import inTime
from punchd.peer.master import MasterClient
from punchd.peer.meeting import Meeting
from punchd.peer.origin import Origin, freshOrigin, originFor
from punchd.peer.punches import Punches
from punchd.peer.relaying import relayDialler
from punchd.values.addresses import showAddress
from punchd.values.parties import Party, Situation
from punchd.values.peers import PeerID
from punchd.wire.commands import OWN, Introduce, offerArguments, offerFrom
from punchd.wire.limiting import limitFrom
from punchd.wire.preamble import Side

#: Introductions that may be tried for one meeting: a second one from a fresh port, when the server
#: says that the first would meet another of the same two ports.
_TRIES = 3

#: Seconds for which a request waits while there is no server: reconnecting after a server's restart
#: takes about one. And how often it looks.
_PATIENCE = 1.5
_GLANCE = 0.05


@frozen
class Wanted:
    """
    Who is to be met, and what for.

    @ivar peer: the name under which C{peerID} is pinned.
    @ivar found: called with each path that there is, and the meeting that has found it.
    @ivar relaying: whether a path through the relay will do, too.
    @ivar notPunching: why no direct path is looked for, if so, for people: the relay must do.
    """

    peer: str
    peerID: PeerID
    found: Callable[[Path, Meeting], None]
    relaying: bool = True
    notPunching: str = ""


@define(eq=False)
class Dialling:
    """
    Asks the servers, one after the other, for introductions. Lives as long as the peer.
    """

    _clients: list[MasterClient]
    _punches: Punches

    async def meet(self, wanted: Wanted) -> Meeting:
        """
        Be introduced, and look for paths.

        @return: when the meeting is over, and has found one.
        @raise punchd.errors.PunchdError: UnknownPeer, NoPath, Refused, Unreachable.
        """
        connected = await self.connected()
        errors: list[PunchdError] = []
        for client in connected:
            try:
                return await self._through(client, wanted)
            except (UnknownPeer, Unreachable, NoPath) as error:
                errors.append(error)
                if isinstance(error, NoPath) and error.limit is None:
                    break
                if client is not connected[-1]:
                    # Another one may know the peer, or be there, or relay.
                    self._punches.note(f"{client.join.where}: {error}")
        raise _mostTelling(errors)

    def doubt(self) -> None:
        """
        A path has been lost, and perhaps the connections to the servers with it.
        """
        for client in self._clients:
            client.doubt()

    async def connected(self) -> list[MasterClient]:
        """
        The servers that can be asked; if there is none, one may come back soon.

        @raise Unreachable: when none does.
        """
        if not self._clients:
            raise Unreachable("this peer has no server that could introduce it")
        clock = self._clients[0].clock
        until = clock.seconds() + _PATIENCE
        while True:
            connected = [client for client in self._clients if client.isConnected]
            if connected:
                return connected
            if clock.seconds() >= until:
                problems = "; ".join(
                    f"{client.join.where}: {client.problem or 'still connecting'}"
                    for client in self._clients
                )
                raise Unreachable(f"not connected to any server ({problems})")
            await deferLater(clock, _GLANCE)

    async def _through(self, client: MasterClient, wanted: Wanted) -> Meeting:
        asking = originFor(client, wanted.peerID, not wanted.notPunching)
        for left in reversed(range(_TRIES)):
            origin = await asking
            try:
                return await self._from(client, origin, wanted)
            except Overlapping:
                if not left:
                    raise
            finally:
                origin.release()
            asking = freshOrigin(client)
        raise AssertionError("the last try returns or raises")

    async def _from(self, client: MasterClient, origin: Origin, wanted: Wanted) -> Meeting:
        peerID, ipv6 = wanted.peerID, origin.ipv6
        offer = self._punches.offerTo(peerID, client, origin.port)
        if wanted.notPunching:
            offer = evolve(offer, strategies=())
        if not wanted.relaying:
            offer = evolve(offer, takesRelay=False)
        began = client.clock.seconds()
        with origin.used(peerID) as use:
            asking = client.ask(
                Introduce,
                peer=peerID,
                token=origin.port.token,
                ipv6token=None if ipv6 is None else ipv6.token,
                **offerArguments(offer),
            )
            answer = await inTime(asking, client.clock)
            other = Party(answer["reflexive"], offerFrom(answer))
            if not client.policy.allowsReflexive(other.reflexive):
                raise Refused(
                    f"the server sends us to {showAddress(other.reflexive)}, which is no address "
                    "for us to dial"
                )
            # What the other side was told of us; both must plan from the same values.
            own = Party(answer["own"], offerFrom(answer, OWN))
            situation, session = Situation(own, other), answer["session"]
            punch = self._punches.make(
                client, Side.CALLER, session, peerID, wanted.peer, situation, origin.port
            )
            if wanted.notPunching:
                punch.plan = evolve(punch.plan, reason=wanted.notPunching)
            use.hasDialled = bool(punch.plan.attempts)
            dialRelay = relayDialler(client, answer["relay"])
            meeting = Meeting(
                client.clock,
                punch,
                wanted.found,
                self._punches,
                dialRelay,
                began,
                limitFrom(answer),
            )
            try:
                await meeting.run()
            finally:
                use.path = meeting.direct
                client.report(session, punch.wonBy, punch.seconds)
        if meeting.noPath is not None:
            raise meeting.noPath
        return meeting


def _mostTelling(errors: list[PunchdError]) -> PunchdError:
    """
    That a relay has reached a limit, and of such the one that waits least; else the last.
    """
    limited = {
        error.limit.seconds: error
        for error in errors
        if isinstance(error, NoPath) and error.limit is not None
    }
    return limited[min(limited)] if limited else errors[-1]
