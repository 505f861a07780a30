"""
The master service: TLS, and AMP inside, with each peer.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ProtocolViolation
from punchd.identity.certificates import Credentials
from punchd.identity.tls import (
    ConnectionCreator,
    SharedSession,
    Verdict,
    anybody,
    makeContext,
    verdictOf,
)
from punchd.net.pacing import Allowance
from punchd.server.conversation import Conversation, Exchange, Stage
from punchd.server.gate import CLOSING_PATIENCE, Gate
from punchd.server.limits import Complaints, Strangers
from punchd.values.addresses import Address, makeAddress, showAddress
from punchd.wire.boxes import BoundedAMP
from punchd.wire.commands import Farewell
from punchd.wire.versions import MASTER_ALPN

#: Boxes that one peer may send, per second and at once.
BOXES_PER_SECOND = 200.0
BOXES_AT_ONCE = 500.0


@implementer(IHandshakeListener, IPushProducer)
class MasterConnection(BoundedAMP):
    """
    One master connection, inside TLS. Made by the L{MasterGate} for each TCP connection.

    It is registered with its transport as a producer, so that it hears when the other end does not
    read what it is sent.
    """

    # A TLS connection, with more than ITransport says.
    transport: Any

    def __init__(self, gate: MasterGate, exchange: Exchange, address: Address) -> None:
        self._gate = gate
        self._address = address
        self._conversation = Conversation(exchange, self, address)
        self._boxes = Allowance(exchange.clock, BOXES_PER_SECOND, BOXES_AT_ONCE)
        self._closeBy: float | None = None
        super().__init__(self._conversation, self._violationCame, self._boxCame)

    def connectionMade(self) -> None:
        # A GO that waits for the acknowledgement of the last message comes too late.
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def handshakeCompleted(self) -> None:
        if self.transport.negotiatedProtocol != MASTER_ALPN:
            self._drop("speaks TLS, but not this protocol (ALPN)")
            return
        self._conversation.peerID = verdictOf(self.transport).peerID
        self._gate.session.replaceThatOf(self.transport.getHandle())
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._conversation.stage is Stage.STRANGER and not reason.check(ConnectionClosed):
            self._complain(f"TLS failed: {self._whyNoTLS(reason)}")
        super().connectionLost(reason)
        self._conversation.end("the connection was closed")
        self._gate.left(self, self._address)

    def sweep(self, now: float) -> None:
        """
        See L{Guest.sweep<punchd.server.gate.Guest>}.
        """
        if self._closeBy is not None:
            if now >= self._closeBy:
                self.abort()
            return
        why = self._conversation.lateness(now)
        if why is not None:
            self._drop(why)
        else:
            self._conversation.ping()

    def loggedIn(self) -> None:
        """
        See L{Line.loggedIn<punchd.server.sessions.Line>}.
        """
        self._gate.isKnown(self, self._address)

    def localHost(self) -> str:
        """
        See L{Line.localHost<punchd.server.sessions.Line>}.
        """
        # An IPv6 socket that takes IPv4 too has a form of its own for that.
        return makeAddress(self.transport.getHost().host, 0).host

    def close(self, reason: str) -> None:
        """
        See L{Guest.close<punchd.server.gate.Guest>}.
        """
        if self._closeBy is None and self.transport is not None:
            if self._conversation.stage is Stage.REGISTERED:
                self.callRemote(Farewell, reason=reason)
            self._leaving(reason)
            self.transport.loseConnection()

    def abort(self) -> None:
        """
        See L{Guest.abort<punchd.server.gate.Guest>}.
        """
        if self.transport is not None:
            self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """
        The other end does not take what it is sent, and the transport's buffer is full.
        """
        self._drop("does not read what it is sent")

    def resumeProducing(self) -> None:
        """
        Required of producers; never comes, as the connection is dropped.
        """

    def stopProducing(self) -> None:
        """
        Required of producers; L{connectionLost} follows.
        """

    def unhandledError(self, failure: Failure) -> Any:
        self._leaving("a command failed that wanted no answer")
        return super().unhandledError(failure)

    def _boxCame(self) -> None:
        if not self._boxes.take():
            raise ProtocolViolation(f"more than {BOXES_PER_SECOND:.0f} boxes a second")
        self._conversation.heard()

    def _violationCame(self, violation: ProtocolViolation) -> None:
        self._complain(str(violation))
        self._leaving("it broke the protocol")

    def _drop(self, why: str) -> None:
        self._complain(why)
        self._leaving(why)
        self.abort()

    def _leaving(self, why: str) -> None:
        """
        From now on the connection only ends, within a short time.
        """
        if self._closeBy is None:
            self._closeBy = self._gate.now() + CLOSING_PATIENCE
            self._conversation.end(why)
            if self.transport is not None:
                # TLS does not close while it has a producer.
                self.transport.unregisterProducer()

    def _complain(self, why: str) -> None:
        name = f" ({self._conversation.name})" if self._conversation.name else ""
        self._gate.complain(f"{showAddress(self._address)}{name}: {why:.200}")

    def _whyNoTLS(self, reason: Failure) -> str:
        verdict = verdictOf(self.transport)
        if verdict.refusal is not None:
            return str(verdict.refusal)
        error = reason.value
        if isinstance(error, SSL.Error) and error.args and error.args[0]:
            return str(error.args[0][-1][-1])
        return str(error) or type(error).__name__


class MasterGate(Gate):
    """
    The factory of master connections.

    @ivar session: what their TLS connections keep in place of their own.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        credentials: Credentials,
        exchange: Exchange,
        strangers: Strangers,
        complaints: Complaints,
    ) -> None:
        super().__init__(clock=clock, strangers=strangers, complaints=complaints)
        self._exchange = exchange
        self.session = SharedSession()
        creator = ConnectionCreator(makeContext(credentials, MASTER_ALPN, lean=True), _anyVerdict)
        self._tls = TLSMemoryBIOFactory(creator, False, Factory(), clock)

    def makeGuest(self, address: Address) -> tuple[MasterConnection, IProtocol]:
        connection = MasterConnection(self, self._exchange, address)
        # Not the buffering one, which is the factory's default: a box is one write already, and
        # must not wait for the reactor's next turn.
        return connection, TLSMemoryBIOProtocol(self._tls, connection)

    def now(self) -> float:
        """
        Seconds on the server's clock.
        """
        return self._clock.seconds()

    def complain(self, text: str) -> None:
        """
        A line for the log about a connection.
        """
        self._complaints.say(text)


def _anyVerdict() -> Verdict:
    return Verdict(anybody)
