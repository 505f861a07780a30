"""
One local port that leads to all services of all peers, by SOCKS 5: the client asks for the name
C{SERVICE.PEER}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
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

from punchd.errors import NoPath, ProtocolViolation, PunchdError, Refused, UnknownPeer, Unreachable
from punchd.identity.pins import Pins
from punchd.interfaces import IStreamOpener
from punchd.net.splicing import SpliceEnd, Splices, tuneLocal
from punchd.peer.forwarding import ForwardFactory, Target
from punchd.values.peers import NAME
from punchd.wire.frames import GOOD_READ
from punchd.wire.socks import Greeted, Reply, Requested, SocksReader, packReply

_log = Logger()

#: Seconds within which a client must have asked.
ASKING = 10.0

#: Bytes that a client may send before it has its answer, which it should await.
MOST_EARLY = 65536

_REPLIES: list[tuple[type[PunchdError], Reply]] = [
    (UnknownPeer, Reply.HOST_UNREACHABLE),
    (NoPath, Reply.HOST_UNREACHABLE),
    (Unreachable, Reply.NETWORK_UNREACHABLE),
    (Refused, Reply.REFUSED),
]


def targetOf(name: str, pins: Pins) -> Target:
    """
    Whom C{SERVICE.PEER} means. Both may have dots in them; the longest name of a pin counts.
    Browsers write names in small letters, so capitals do not matter unless they tell two pins
    apart.

    @raise UnknownPeer: when no pin's name is the end of it.
    """
    names = [pin.name for pin in pins]
    parts = name.removesuffix(".").split(".")
    for at in range(1, len(parts)):
        service, peer = ".".join(parts[:at]), ".".join(parts[at:])
        if NAME.match(service) is None:
            continue
        alike = [known for known in names if known.lower() == peer.lower()]
        if peer in alike or len(alike) == 1:
            return Target(peer if peer in alike else alike[0], service)
    raise UnknownPeer(f"{name[:80]!r} is not SERVICE.PEER of any peer that is pinned here")


@implementer(IHalfCloseableProtocol)
class SocksConnection(Protocol):
    """
    One client, which gets one stream.
    """

    transport: Any

    def __init__(
        self, clock: IReactorTime, opener: IStreamOpener, pins: Pins, splices: Splices
    ) -> None:
        self._clock = clock
        self._opener = opener
        self._pins = pins
        self._splices = splices
        self._reader = SocksReader()
        self._deadline: IDelayedCall | None = None
        self._opening: Deferred[None] | None = None
        self._spliced: SpliceEnd | None = None
        self._early = b""
        self._inputEnded = False
        self._isOver = False

    def connectionMade(self) -> None:
        tuneLocal(self.transport, GOOD_READ)
        self._deadline = self._clock.callLater(ASKING, self.transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        if self._spliced is not None:
            self._spliced.dataReceived(data)
        elif self._opening is not None:
            self._early += data
            if len(self._early) > MOST_EARLY:
                self.transport.pauseProducing()
        elif not self._isOver:
            try:
                for message in self._reader.read(data):
                    self._heard(message)
            except ProtocolViolation as violation:
                _log.debug("a client of the SOCKS port: {error}", error=violation)
                self._end()

    def _heard(self, message: Greeted | Requested) -> None:
        if isinstance(message, Greeted):
            self.transport.write(message.answer)
            if not message.isWelcome:
                self._end()
        elif message.refusal is not None:
            self._refuse(message.refusal)
        else:
            self._stopDeadline()
            self._early = self._reader.rest
            self._opening = Deferred.fromCoroutine(self._open(message.name))
            self._opening.addErrback(self._failed, message.name)

    async def _open(self, name: str) -> None:
        target = targetOf(name, self._pins)
        stream: Any = await self._opener.openStream(target.peer, target.service)
        try:
            await stream.opened
        except BaseException:
            stream.abortConnection()
            raise
        self.transport.write(packReply(Reply.SUCCEEDED))
        local, remote = self._splices.pair()
        self._spliced = local
        early, self._early = self._early, b""
        local.makeConnection(self.transport)
        stream.carry(remote)
        if early:
            local.dataReceived(early)
        if self._inputEnded:
            local.readConnectionLost()

    def _failed(self, failure: Failure, name: str) -> None:
        if failure.check(CancelledError) is not None:
            return
        if failure.check(PunchdError) is None:
            _log.failure("while opening a stream", failure)
        else:
            _log.warn("SOCKS to {name}: {error}", name=name[:80], error=failure.value)
        replies = (reply for kind, reply in _REPLIES if failure.check(kind) is not None)
        self._refuse(next(replies, Reply.FAILED))

    def _refuse(self, reply: Reply) -> None:
        self.transport.write(packReply(reply))
        self._end()

    def _end(self) -> None:
        # Section 6: the connection ends within ten seconds of the answer; who does not take it is
        # not waited for any longer.
        self._isOver = True
        self._stopDeadline()
        self._deadline = self._clock.callLater(ASKING, self.transport.abortConnection)
        self.transport.loseConnection()

    def _stopDeadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def readConnectionLost(self) -> None:
        self._inputEnded = True
        if self._spliced is not None:
            self._spliced.readConnectionLost()
        elif self._opening is None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        if self._spliced is not None:
            self._spliced.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stopDeadline()
        if self._spliced is not None:
            self._spliced.connectionLost(reason)
        elif self._opening is not None:
            self._opening.cancel()


class SocksFactory(Factory):
    """
    Made for each C{--forward socks:...}.
    """

    noisy = False

    def __init__(
        self, clock: IReactorTime, opener: IStreamOpener, pins: Pins, splices: Splices | None = None
    ) -> None:
        """
        @param splices: those that the connections are to belong to.
        """
        self._clock = clock
        self._opener = opener
        self._pins = pins
        self._splices = Splices() if splices is None else splices

    def buildProtocol(self, addr: IAddress | None) -> SocksConnection:
        return SocksConnection(self._clock, self._opener, self._pins, self._splices)


def makeForward(
    clock: IReactorTime,
    opener: IStreamOpener,
    pins: Pins,
    target: Target | None,
    splices: Splices | None = None,
) -> Factory:
    """
    What listens for one C{--forward}: to C{target}, or to whatever SOCKS clients ask for.
    """
    if target is None:
        return SocksFactory(clock, opener, pins, splices)
    return ForwardFactory(opener, target, splices)
