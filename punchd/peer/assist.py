"""
The peer's half of the assist service: how does the server see this port?
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import ProtocolViolation, PunchdError, Unreachable
from punchd.net.held import HeldPort
from punchd.values.addresses import Address
from punchd.wire.observing import (
    ANSWER_HEAD_LENGTH,
    Question,
    answerLength,
    checkBeginning,
    unpackAnswer,
)

#: Seconds for the connection and the answer together.
DEADLINE = 4.0


class Touch(Protocol):
    """
    One connection to an assist service. It stays open after the answer until L{close}: some NATs
    drop a mapping when the connection that made it ends.

    @ivar observed: fires with the address under which the server sees this connection.
    @ivar observedAddress: that address, once it is known.
    @ivar connecting: what will connect this protocol.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, question: Question) -> None:
        self.observed: Deferred[Address] = Deferred(lambda _: self._stop())
        self.observedAddress: Address | None = None
        self.connecting: Deferred[Any] | None = None
        self._question = question
        self._received = b""
        self._deadline: IDelayedCall | None = clock.callLater(
            DEADLINE, self.fail, Unreachable("the assist service does not answer")
        )

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.write(self._question.pack())

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None:
            return
        self._received += data
        try:
            checkBeginning(self._received)
            if len(self._received) < ANSWER_HEAD_LENGTH:
                return
            length = answerLength(self._received[:ANSWER_HEAD_LENGTH])
            if len(self._received) > length:
                raise ProtocolViolation("the assist service says more than it was asked")
            if len(self._received) == length:
                observed = unpackAnswer(self._received, self._question.mask)
                self._stopWaiting()
                self.observedAddress = observed
                self.observed.callback(observed)
        except PunchdError as error:
            self.fail(error)
        except ValueError as error:
            self.fail(ProtocolViolation(str(error)))

    def fail(self, error: Exception) -> None:
        """
        There will be no answer, if there was none yet.
        """
        if self._deadline is not None:
            self._stop()
            self.observed.errback(Failure(error))

    def cancel(self) -> None:
        """
        Nobody wants the answer any more, if there was none yet.
        """
        if self._deadline is not None:
            self.observed.cancel()

    def _stop(self) -> None:
        self._stopWaiting()
        self.close()

    def _stopWaiting(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.fail(Unreachable("the assist service closed the connection without an answer"))

    def close(self) -> None:
        """
        The mapping is not needed any more.
        """
        if self.transport is not None:
            # An orderly end would leave the four-tuple in TIME_WAIT.
            self.transport.abortConnection()
        elif self.connecting is not None:
            # Its time may be up while TCP still waits for an answer.
            self.connecting.cancel()


async def touch(clock: IReactorTime, port: HeldPort, remote: Address, question: Question) -> Touch:
    """
    Ask the assist service at C{remote} how it sees C{port}, which then knows it too (the first
    time).

    @raise PunchdError: when there is no answer.
    """
    asking = Touch(clock, question)
    factory = Factory.forProtocol(lambda: asking)
    factory.noisy = False
    asking.connecting = port.to(remote).connect(factory)
    try:
        await asking.connecting
    except (CancelledError, ConnectingCancelledError):
        # By whoever waits for this, or at the deadline, which tells so itself.
        asking.cancel()
    except Exception as error:  # every way in which connecting can fail
        asking.fail(Unreachable(f"the assist service cannot be reached: {error}"))
    observed = await asking.observed
    if port.token is None:
        port.observed, port.token = observed, question.token
    return asking
