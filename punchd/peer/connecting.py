"""
Streams to other peers' services.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.identity.pins import Pins
from punchd.interfaces import IStreamOpener
from punchd.link.stream import Stream
from punchd.peer.dialling import Dialling
from punchd.peer.keeping import Link
from punchd.peer.links import Links

_T = TypeVar("_T")


@implementer(IStreamOpener)
@define(eq=False)
class Connecting:
    """
    Opens streams on the link to the peer whose service is wanted. Lives as long as our peer.
    """

    _pins: Pins
    _links: Links
    _dialling: Dialling
    _pending: set[Deferred[Any]] = field(factory=set, init=False)

    def openStream(self, peer: str, service: str) -> Deferred[Any]:
        return self._whilePending(self._open(peer, service))

    async def _open(self, peer: str, service: str) -> Stream:
        link = await self._reached(peer)
        return link.openStream(service)

    def reach(self, peer: str, again: bool) -> Deferred[Link]:
        """
        The link to a peer, on the best path that there is for now.

        @param again: whether to look for a path as if there had been none.
        @raise PunchdError: as L{openStream}.
        """
        return self._whilePending(self._settled(peer, again))

    async def _settled(self, peer: str, again: bool) -> Link:
        if again:
            peerID = self._pins.idOf(peer)
            # Without a server there would be no other path, and the present one may be good.
            await self._dialling.connected()
            self._links.to(peer, peerID).renew()
        link = await self._reached(peer)
        await link.settle()
        if link.session.path is None:
            # Lost meanwhile.
            await link.reach()
        return link

    async def _reached(self, peer: str) -> Link:
        peerID = self._pins.idOf(peer)
        try:
            link = self._links.to(peer, peerID)
            try:
                await link.reach()
            except PunchdError:
                if not (link.wasThere and link.session.isOver):
                    raise
                # The other end knows nothing of it any more: it may have been restarted.
                link = self._links.to(peer, peerID)
                await link.reach()
        except PunchdError as error:
            self._links.factsOf(peer, peerID).failed(error)
            raise
        return link

    def _whilePending(self, coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        opening = Deferred.fromCoroutine(coroutine)
        self._pending.add(opening)

        def done(result: _T) -> _T:
            self._pending.discard(opening)
            return result

        return opening.addBoth(done)

    def stop(self) -> None:
        """
        Give up on everything that is not open yet.
        """
        for opening in list(self._pending):
            opening.cancel()
