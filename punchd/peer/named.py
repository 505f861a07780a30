"""
Streams that know whom they lead to, for protocols that ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.link.stream import Stream
from punchd.values.peers import PeerAddress


@implementer(ITransport, IConsumer, IPushProducer)
class NamedStream:
    """
    A L{Stream} whose C{getPeer} names the peer, and which is to any Twisted protocol what a TCP
    transport is. Made by a peer for each stream that this process itself uses.

    @ivar opened: as the stream's.
    @ivar disconnecting: whether the protocol has said that it wants no more; some of Twisted's
        protocols look.
    @ivar isAborted: whether it has broken the stream.
    """

    def __init__(self, stream: Stream, peer: PeerAddress, host: PeerAddress) -> None:
        self.disconnecting = False
        self.isAborted = False
        self._stream = stream
        self._peer = peer
        self._host = host

    @property
    def opened(self) -> Deferred[None]:
        return self._stream.opened

    @property
    def isOver(self) -> bool:
        """
        Whether nothing will come or go any more.
        """
        return self._stream.isOver

    def agree(self) -> None:
        """
        Callee: there is a service.
        """
        self._stream.agree()

    def refuse(self, why: str) -> None:
        """
        Callee: there will be no stream.
        """
        self._stream.refuse(why)

    def carry(self, protocol: Any) -> None:
        """
        Be C{protocol}'s transport.
        """
        isHalfCloseable = IHalfCloseableProtocol.providedBy(protocol)
        passing = _HalfCloseable if isHalfCloseable else _Passing
        self._stream.carry(passing(self, protocol))

    def whenOver(self) -> Deferred[None]:
        """
        Fires when the stream is over.
        """
        return self._stream.whenOver()

    def getPeer(self) -> PeerAddress:
        return self._peer

    def getHost(self) -> PeerAddress:
        return self._host

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self._stream.writeSequence(iovec)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._stream.loseConnection()

    def loseWriteConnection(self) -> None:
        """
        Nothing more will be written; reading goes on.
        """
        self._stream.loseWriteConnection()

    def abortConnection(self) -> None:
        """
        Break the stream.
        """
        self.disconnecting = self.isAborted = True
        self._stream.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._stream.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._stream.unregisterProducer()

    def pauseProducing(self) -> None:
        self._stream.pauseProducing()

    def resumeProducing(self) -> None:
        self._stream.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()


class _Passing(Protocol):
    """
    Stands between the stream and its user, so that the user sees the L{NamedStream}.
    """

    def __init__(self, named: NamedStream, user: Any) -> None:
        self._named = named
        self._user = user

    def connectionMade(self) -> None:
        self._user.makeConnection(self._named)

    def dataReceived(self, data: bytes) -> None:
        self._user.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._named.isAborted:
            # As Twisted's TCP says it to who has done it.
            reason = Failure(ConnectionAborted())
        self._user.connectionLost(reason)


@implementer(IHalfCloseableProtocol)
class _HalfCloseable(_Passing):
    """
    For a user that can tell the end of input from the end of everything.
    """

    def readConnectionLost(self) -> None:
        self._user.readConnectionLost()

    def writeConnectionLost(self) -> None:
        self._user.writeConnectionLost()
