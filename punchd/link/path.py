"""
A path: the plaintext side of a connection between two peers that has proven both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Typing

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ProtocolViolation, PunchdError
from punchd.link.occasion import Occasion
from punchd.link.sequence import Pieces
from punchd.values.addresses import Ends
from punchd.values.peers import PeerID
from punchd.wire.frames import FrameReader, Join, Kind, packEnd
from punchd.wire.versions import LINK_ALPN

_log = Logger()

#: Seconds that a path which is left may take to send what was written, and to end in order.
LEAVING = 3.0

#: Seconds after which frames that have come wait for the next turn of the reactor, so that other
#: connections have theirs: a read may hold tens of thousands of small ones.
TURN = 0.002


class PathUser(Typing):
    """
    Who gets what comes over a path.
    """

    def frameReceived(self, path: Any, kind: Kind, stream: int, payload: bytes) -> None:
        """A frame; may raise L{ProtocolViolation}."""

    def batchReceived(self, path: Any) -> None:
        """There are no more frames for now."""

    def violated(self, path: Any, violation: ProtocolViolation) -> None:
        """The other end has broken the rules; nothing more comes."""

    def pathLost(self, path: Any, why: str) -> None:
        """The path is gone."""


def _declineAll(path: Path, join: Join) -> None:
    path.decline("nobody here waits for this path")


@implementer(IHandshakeListener)
class Path(Protocol):
    """
    Made with its connection; C{whenProven} is called when TLS has proven the other end. Then the
    caller gives it to L{Session.join<punchd.link.session.Session.join>}; at the callee C{onJoin} is
    called when it has done so, and gives the path to a session, or calls L{decline}.

    @ivar isDirect: whether nobody is in between.
    @ivar ends: between which addresses it is, once that is known; of one that is not direct, where
        the server sees both peers.
    @ivar peerID: who is at the other end.
    @ivar onJoin: called with this path and the L{Join}.
    @ivar join: what the caller has said, once it has.
    @ivar reader: what has come.
    @ivar violation: what the other end did wrong, if it did.
    """

    transport: Any
    peerID: PeerID

    def __init__(
        self, clock: IReactorTime, whenProven: Callable[[], None], isDirect: bool = True
    ) -> None:
        self.isDirect = isDirect
        self.ends: Ends | None = None
        self.isLost = False
        self.onJoin: Callable[[Path, Join], None] = _declineAll
        self.join: Join | None = None
        self.reader = FrameReader()
        self.violation: PunchdError | None = None
        self._clock = clock
        self._whenProven = whenProven
        self._user: PathUser | None = None
        self._isDeaf = False
        self._leaving: IDelayedCall | None = None
        self._goingOn: IDelayedCall | None = None
        self._whyLost = ""
        self._gone: Occasion[None] = Occasion()

    def handshakeCompleted(self) -> None:
        if self.transport.negotiatedProtocol != LINK_ALPN:
            self.violation = ProtocolViolation(
                f"the other end does not speak {LINK_ALPN.decode()}: update the older one"
            )
            self._isDeaf = True
            self.abort()
        else:
            self._whenProven()

    def attach(self, user: Any) -> None:
        """
        Give what comes from now on to C{user}; to nobody, if it is C{None}.
        """
        self._user = user
        self._isDeaf = user is None

    def dataReceived(self, data: bytes | memoryview) -> None:
        if self._isDeaf:
            return
        clock, reader = self._clock, self.reader
        until = clock.seconds() + TURN
        try:
            for kind, stream, payload in reader.read(data):
                if self._user is not None:
                    self._user.frameReceived(self, kind, stream, payload)
                else:
                    self._joinReceived(kind, payload)
                if self._hasEnough():
                    return
                if clock.seconds() > until:
                    reader.stop()
        except ProtocolViolation as violation:
            self._violated(violation)
        else:
            if self._user is not None:
                self._user.batchReceived(self)
            if reader.hasMore:
                self._goOnLater()

    def _goOnLater(self) -> None:
        """
        Others have their turn first.
        """
        if self._goingOn is None:
            if not self.isLost:
                self.transport.pauseProducing()
            self._goingOn = self._clock.callLater(0, self._goOn)

    def _goOn(self) -> None:
        self._goingOn = None
        self.dataReceived(b"")
        if self._goingOn is None:
            if self.isLost:
                self._tellLost()
            else:
                self.transport.resumeProducing()

    def _hasEnough(self) -> bool:
        # The frame just read may have ended everything.
        return self._isDeaf

    def _joinReceived(self, kind: Kind, payload: bytes) -> None:
        if kind is not Kind.JOIN or self.join is not None:
            raise ProtocolViolation(f"{kind.name} where none is allowed")
        self.join = Join.unpack(payload)
        self.onJoin(self, self.join)

    def _violated(self, violation: ProtocolViolation) -> None:
        user, self._user = self._user, None
        self._isDeaf = True
        self.violation = violation
        _log.warn("a peer broke the protocol: {violation}", violation=violation)
        if user is None:
            self.abort()
        else:
            user.violated(self, violation)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isLost = True
        self._whyLost = reason.getErrorMessage()
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        # What has come is handed on first.
        if self._goingOn is None:
            self._tellLost()

    def _tellLost(self) -> None:
        self._isDeaf = True
        user, self._user = self._user, None
        if user is not None:
            user.pathLost(self, self._whyLost)
        self._gone.come(None)

    def whenLost(self) -> Deferred[None]:
        """
        Fires when the connection is gone.
        """
        return self._gone.wait()

    # Writing.

    def write(self, pieces: Pieces) -> None:
        """
        Send whole frames.
        """
        if self._leaving is None and not self.isLost:
            self.transport.writeSequence(pieces)

    @property
    def portion(self) -> int:
        """
        Bytes that may be sent at once: what comes next waits for them.
        """
        portion: int = self.transport.portion
        return portion

    def hurry(self, seconds: float) -> None:
        """
        Hand on at once what comes in the next C{seconds}, however much comes beside it.
        """
        if not self.isLost:
            self.transport.hurry(seconds)

    def otherEndIsNear(self) -> None:
        """
        The round trip is below L{NEAR<punchd.net.spacing.NEAR>}: what is sent need not be spaced.
        """
        if not self.isLost:
            self.transport.spaceLess()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """
        Tell C{producer} when the connection can take no more.
        """
        if not self.isLost:
            self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        The producer is done.
        """
        if not self.isLost:
            self.transport.unregisterProducer()

    # Ending.

    def decline(self, why: str, isUnknown: bool = False) -> None:
        """
        Callee: answer a L{Join}; this path is of no use.

        @param isUnknown: whether there is no such link here, so that the other end gives it up.
        """
        self.write([packEnd(Kind.DECLINED, isUnknown, why)])
        self.leave()

    def leave(self) -> None:
        """
        Nobody needs the path any more: end it after what was written, in order if that is possible
        soon. A TCP reset would leave in the other's NAT the entry of a connection that was reset.
        One that is made of Linux then takes our next SYN on these two ports for invalid, and if it
        answers such SYNs, nobody connects until the entry is forgotten, 10 s later.
        """
        self._user = None
        self._isDeaf = True
        if self._leaving is not None or self.isLost:
            return
        self._leaving = self._clock.callLater(LEAVING, self.transport.abortConnection)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        End the path now.
        """
        if not self.isLost:
            self.transport.abortConnection()
