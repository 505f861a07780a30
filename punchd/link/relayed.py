"""
A connection to the other peer by way of the server's relay.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import PunchdError, Unreachable
from punchd.wire.relaying import AnswerReader, Opening

#: Seconds for TCP to the relay.
CONNECT_TIMEOUT = 10

#: Seconds from the open connection to the relay's answer: longer than the relay waits for the other
#: peer, so that its reason is heard.
ANSWER_PATIENCE = 25.0


class _RelayOpening(Protocol):
    """
    Shows the token, and takes the answer off. Then the connection belongs to another protocol.

    @ivar opened: fires when it does.
    """

    # A TCP connection, with more than ITransport says.
    transport: Any

    def __init__(self, clock: IReactorTime, token: bytes, connection: IProtocol) -> None:
        self.opened: Deferred[None] = Deferred(lambda _: self._stop())
        self._clock = clock
        self._token = token
        self._connection = connection
        self._reader = AnswerReader()
        self._deadline: IDelayedCall | None = None
        self._isDone = False

    def connectionMade(self) -> None:
        if self._isDone:
            self.transport.abortConnection()
            return
        self.transport.setTcpNoDelay(True)
        self._deadline = self._clock.callLater(
            ANSWER_PATIENCE, self.fail, Unreachable("the relay does not answer")
        )
        self.transport.write(Opening(self._token).pack())

    def dataReceived(self, data: bytes) -> None:
        if self._isDone:
            return
        try:
            rest = self._reader.read(data)
        except PunchdError as error:
            self.fail(error)
            return
        if rest is not None:
            self._stopWaiting()
            transport, connection = self.transport, self._connection
            transport.protocol = connection
            connection.makeConnection(transport)
            if rest:
                connection.dataReceived(rest)
            self.opened.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.fail(Unreachable("the relay closed the connection without an answer"))

    def fail(self, error: Exception) -> None:
        """
        There will be no path, if there is none yet.
        """
        if not self._isDone:
            self._stop()
            self.opened.errback(Failure(error))

    def _stop(self) -> None:
        self._stopWaiting()
        if self.transport is not None:
            self.transport.abortConnection()

    def _stopWaiting(self) -> None:
        self._isDone = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None


def relayedConnection(
    reactor: Any,
    host: str,
    port: int,
    token: bytes,
    connection: IProtocol,
    bindAddress: tuple[str, Any] | None = None,
) -> Deferred[None]:
    """
    Connect C{connection} to the other peer of an introduction, through the server's relay. The
    other peer must do so too, with its own token, within the relay's patience.

    C{connection} gets the transport (C{makeConnection}) when both are there, and then what the
    other peer sends, as if it had been dialled: a L{PunchedConnection
    <punchd.link.punched.PunchedConnection>} of L{Way.RELAYED<punchd.values.outcomes.Way>} with its
    ticket says its preamble at that moment. Its C{connectionLost} comes only after that.

    @param host: the relay's, as a name or an address: where the welcome says nothing of it, that of
        the master connection.
    @param token: of this side, from the introduction; good once.
    @return: fires when C{connection} is connected, and everything that came with the relay's answer
        was given to it. It may be cancelled until then, which ends the connection to the relay.
        Fails with L{Refused<punchd.errors.Refused>} and the relay's reason, with L{Unreachable} if
        the relay is not to be had or says nothing in time, and with other L{PunchdError}s if what
        answers is no relay that we understand.
    """
    opening = _RelayOpening(reactor, token, connection)
    factory = Factory.forProtocol(lambda: opening)
    factory.noisy = False
    endpoint = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    connecting = endpoint(reactor, host, port, CONNECT_TIMEOUT, bindAddress).connect(factory)

    def failed(failure: Failure) -> None:
        if not failure.check(CancelledError):
            reason = failure.getErrorMessage()
            opening.fail(Unreachable(f"the relay cannot be reached: {reason}"))

    connecting.addErrback(failed)

    def over(result: Any) -> Any:
        # Nobody may want it any more while TCP still waits for an answer.
        connecting.cancel()
        return result

    return opening.opened.addBoth(over)
