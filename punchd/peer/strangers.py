"""
Accepting connections of strangers to a published service, and of the server that looks whether it
is really ours.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.net.splicing import SpliceEnd, Splices, tuneLocal
from punchd.peer.exposure import Exposure
from punchd.values.addresses import endsOf
from punchd.wire.proving import CHALLENGE_LENGTH, Challenge, mayBegin

_log = Logger()

#: Connections to one published service at a time: anybody may come, and each takes two sockets.
MOST_CONNECTIONS = 256

#: Seconds for which who comes while a server is expected may say nothing before it is taken for a
#: stranger that waits for the service to speak first. A server speaks at once.
SILENCE = 0.5

#: Bytes to read at a time from a socket that is spliced with another.
_READ_SIZE = 65536


class PublishedFactory(Factory):
    """
    Accepts strangers, and leads each to the service.

    @ivar secrets: what servers know that are expected to look for us here.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        service: str,
        exposure: Exposure,
        splices: Splices | None = None,
    ) -> None:
        """
        @param splices: those that the connections are to belong to.
        """
        self._splices = Splices() if splices is None else splices
        self.secrets: set[bytes] = set()
        self._clock = clock
        self._service = service
        self._exposure = exposure
        self._strangers: set[SpliceEnd | Visitor] = set()

    def buildProtocol(self, addr: IAddress | None) -> SpliceEnd | Visitor | None:
        if len(self._strangers) >= MOST_CONNECTIONS:
            return None
        if not self.secrets:
            return self.makeStranger()
        visitor = Visitor(self._clock, self)
        self._strangers.add(visitor)
        return visitor

    def makeStranger(self) -> SpliceEnd:
        """
        A connection's end that leads to the service.
        """
        stranger, local = self._splices.pair()
        self._strangers.add(stranger)
        stranger.whenConnected = lambda: self._connect(stranger, local)
        return stranger

    def _connect(self, stranger: SpliceEnd, local: SpliceEnd) -> None:
        tuneLocal(stranger.transport, _READ_SIZE)
        connecting = self._exposure.connect(local, endsOf(stranger.transport), None)

        def lost() -> None:
            self._strangers.discard(stranger)
            connecting.cancel()

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError) is not None:
                return
            _log.info(
                "the published service {service} does not answer: {error}",
                service=self._service,
                error=failure.getErrorMessage(),
            )
            stranger.transport.abortConnection()

        stranger.whenLost = lost
        connecting.addCallbacks(lambda _: tuneLocal(local.transport, _READ_SIZE), failed)

    def left(self, visitor: Visitor) -> None:
        """
        C{visitor} is gone, or a stranger.
        """
        self._strangers.discard(visitor)

    def abort(self) -> None:
        """
        End all connections.
        """
        for stranger in list(self._strangers):
            stranger.transport.abortConnection()


@implementer(IHalfCloseableProtocol)
class Visitor(Protocol):
    """
    A connection that came while a server is expected: it is the server's, if it begins with a
    challenge that we can answer; else a stranger's, to whom it makes no difference but for a moment
    of waiting.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, factory: PublishedFactory) -> None:
        self._published = factory
        self._received = b""
        self._isServer = False
        self._stranger: SpliceEnd | None = None
        self._silence: IDelayedCall = clock.callLater(SILENCE, self._letIn)

    def dataReceived(self, data: bytes) -> None:
        if self._stranger is not None:
            self._stranger.dataReceived(data)
            return
        self._received += data
        if not mayBegin(self._received):
            self._letIn()
        elif len(self._received) >= CHALLENGE_LENGTH and not self._isServer:
            self._answer(self._received)

    def _answer(self, packed: bytes) -> None:
        try:
            answer = Challenge.unpack(packed).answer(self._published.secrets)
        except PunchdError:
            answer = None
        if answer is None:
            self._letIn()
            return
        self._isServer = True
        self._stopWaiting()
        self.transport.write(answer)
        # The server has nothing more to say.
        self.transport.loseConnection()

    def _letIn(self) -> None:
        self._stopWaiting()
        received, self._received = self._received, b""
        self._published.left(self)
        self._stranger = self._published.makeStranger()
        self._stranger.makeConnection(self.transport)
        if received:
            self._stranger.dataReceived(received)

    def readConnectionLost(self) -> None:
        if self._stranger is None and not self._isServer:
            self._letIn()
        if self._stranger is not None:
            self._stranger.readConnectionLost()

    def writeConnectionLost(self) -> None:
        if self._stranger is not None:
            self._stranger.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stopWaiting()
        self._published.left(self)
        if self._stranger is not None:
            self._stranger.connectionLost(reason)

    def _stopWaiting(self) -> None:
        if self._silence.active():
            self._silence.cancel()
