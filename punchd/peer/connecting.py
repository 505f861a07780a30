"""
Streams to other peers' services: the caller's side of introductions.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from punchd.errors import Overlapping, PunchdError, Refused, UnknownPeer, Unreachable
from punchd.identity.pins import Pins
from punchd.interfaces import IStreamOpener
from punchd.link.stream import Stream
from punchd.net.held import HeldPort
from punchd.peer.links import Links
from punchd.peer.master import MasterClient
from punchd.peer.punches import Punches
from punchd.values.addresses import showAddress
from punchd.values.parties import Party, Situation
from punchd.values.peers import PeerID
from punchd.wire.commands import OWN, Introduce, offerArguments, offerFrom
from punchd.wire.preamble import Side

#: Introductions that may be tried for one stream: a second one from a fresh port, when the server
#: says that the first would meet another of the same two ports.
_TRIES = 3

#: Seconds for which a request waits while there is no server: reconnecting after a server's restart
#: takes about one. And how often it looks.
_PATIENCE = 1.5
_GLANCE = 0.05


@implementer(IStreamOpener)
@define(eq=False)
class Connecting:
    """
    Opens streams. Each has an introduction and a punched connection of its own, until links carry
    several: nobody outside this class knows.
    """

    _pins: Pins
    _clients: list[MasterClient]
    _punches: Punches
    _links: Links
    _pending: set[Deferred[Stream]] = field(factory=set, init=False)

    def openStream(self, peer: str, service: str) -> Deferred[Any]:
        opening = Deferred.fromCoroutine(self._open(peer, service))
        self._pending.add(opening)

        def done(result: object) -> object:
            self._pending.discard(opening)
            return result

        return opening.addBoth(done)

    def stop(self) -> None:
        """
        Give up on everything that is not open yet.
        """
        for opening in list(self._pending):
            opening.cancel()

    async def _open(self, peer: str, service: str) -> Stream:
        peerID = self._pins.idOf(peer)
        link = self._links.to(peer, peerID)
        try:
            return await self._throughAnyServer(peer, peerID, service)
        except PunchdError as error:
            link.failed(error)
            raise

    async def _throughAnyServer(self, peer: str, peerID: PeerID, service: str) -> Stream:
        connected = await self._connected()
        if not connected:
            problems = "; ".join(
                f"{client.join.where}: {client.problem or 'still connecting'}"
                for client in self._clients
            )
            raise Unreachable(f"not connected to any server ({problems})")
        for client in connected[:-1]:
            try:
                return await self._through(client, peer, peerID, service)
            except UnknownPeer:
                continue
        return await self._through(connected[-1], peer, peerID, service)

    async def _connected(self) -> list[MasterClient]:
        clock = self._clients[0].clock
        until = clock.seconds() + _PATIENCE
        while True:
            connected = [client for client in self._clients if client.isConnected]
            if connected or clock.seconds() >= until:
                return connected
            await deferLater(clock, _GLANCE)

    async def _through(
        self, client: MasterClient, peer: str, peerID: PeerID, service: str
    ) -> Stream:
        for left in reversed(range(_TRIES)):
            fresh = left < _TRIES - 1 or client.usedToward[peerID] > 0
            port, ipv6 = await _freshPorts(client) if fresh else (client.port, client.ipv6.port)
            try:
                return await self._from(client, port, ipv6, peer, peerID, service)
            except Overlapping:
                if not left:
                    raise
            finally:
                if fresh:
                    client.release(port)
                    if ipv6 is not None:
                        client.release(ipv6)
        raise AssertionError("the last try returns or raises")

    async def _from(
        self,
        client: MasterClient,
        port: HeldPort,
        ipv6: HeldPort | None,
        peer: str,
        peerID: PeerID,
        service: str,
    ) -> Stream:
        offer = self._punches.offerTo(peerID, client, port)
        if port is client.port:
            client.usedToward[peerID] += 1
        stream = None
        began = client.clock.seconds()
        try:
            answer = await client.ask(
                Introduce,
                peer=peerID,
                token=port.token,
                ipv6token=None if ipv6 is None else ipv6.token,
                **offerArguments(offer),
            )
            other = Party(answer["reflexive"], offerFrom(answer))
            if not client.policy.allowsReflexive(other.reflexive):
                raise Refused(
                    f"the server sends us to {showAddress(other.reflexive)}, which is no address "
                    "for us to dial"
                )
            # What the other side was told of us; both must plan from the same values.
            own = Party(answer["own"], offerFrom(answer, OWN))
            punch = self._punches.make(
                client, Side.CALLER, answer["session"], peerID, peer, Situation(own, other), port
            )
            punch.service = service
            try:
                stream = await self._punches.run(punch)
            finally:
                client.report(punch.ticket.session, punch.wonBy, punch.seconds)
            link = self._links.to(peer, peerID)
            link.opened(stream, punch)
            link.seconds = {
                "connected": (punch.connectedAt or 0.0) - began,
                "elected": client.clock.seconds() - began,
            }
            if port is client.port:
                stream.whenOver().addCallback(lambda _: client.free(peerID))
            return stream
        finally:
            if port is client.port and stream is None:
                client.free(peerID)


async def _freshPorts(client: MasterClient) -> tuple[HeldPort, HeldPort | None]:
    """
    A port that the server has just observed, and one at our IPv6 address if we have one: both are
    taken at the same time.
    """
    taking = client.ipv6.fresh()
    try:
        port = await client.freshPort()
        try:
            return port, await taking
        except BaseException:
            client.release(port)
            raise
    except BaseException:
        taking.addCallbacks(
            lambda ipv6: None if ipv6 is None else client.release(ipv6), lambda failure: None
        )
        taking.cancel()
        raise
