"""
The assist service: it tells a peer under which address it sees the port that the peer calls from.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import IncompatibleVersions, ProtocolViolation
from punchd.server.gate import Gate
from punchd.server.limits import Complaints, Strangers
from punchd.server.observations import Observation, Observations
from punchd.values.addresses import Address, showAddress
from punchd.wire.observing import QUESTION_LENGTH, Question, checkBeginning, packAnswer
from punchd.wire.versions import ASSIST_VERSION, checkVersion

#: Seconds from the accepted connection to the whole question.
QUESTION_PATIENCE = 5.0

#: Seconds that the connection may stay open after the answer: longer than any punch takes.
OPEN_PATIENCE = 60.0

# Where in the question its version stands.
_VERSION_AT = 6


class AssistConnection(Protocol):
    """
    One question and one answer. The peer keeps the connection open, and with it its NAT's mapping,
    until it needs that no longer.
    """

    # A TCP connection, with more than ITransport says.
    transport: Any

    def __init__(self, gate: AssistGate, address: Address) -> None:
        self._gate = gate
        self._address = address
        self._received = b""
        self._observation: Observation | None = None
        self._isAnswered = False
        self._deadline = gate.now() + QUESTION_PATIENCE

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        if self._isAnswered:
            self._drop("speaks after its question was answered")
            return
        self._received += data
        try:
            checkBeginning(self._received)
            if len(self._received) > _VERSION_AT:
                checkVersion("assist protocol", self._received[_VERSION_AT], ASSIST_VERSION)
            if len(self._received) >= QUESTION_LENGTH:
                self._answer(Question.unpack(self._received))
        except IncompatibleVersions as error:
            self._gate.complain(self._address, str(error))
            # The answer's head says which version is spoken here.
            self._isAnswered = True
            self.transport.write(packAnswer(None, b""))
            self.transport.loseConnection()
        except ProtocolViolation as violation:
            self._drop(str(violation))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._observation is not None:
            self._observation.isOpen = False
        self._gate.left(self, self._address)

    def sweep(self, now: float) -> None:
        """
        See L{Guest.sweep<punchd.server.gate.Guest>}.
        """
        if self._observation is not None and self._observation.isDropped:
            self.abort()
        elif now >= self._deadline:
            if not self._isAnswered:
                self._gate.complain(
                    self._address, f"no whole question within {QUESTION_PATIENCE:.0f} s"
                )
            self.abort()

    def close(self, reason: str) -> None:
        """
        See L{Guest.close<punchd.server.gate.Guest>}.
        """
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        See L{Guest.abort<punchd.server.gate.Guest>}.
        """
        self.transport.abortConnection()

    def _answer(self, question: Question) -> None:
        self._isAnswered = True
        self._received = b""
        self._observation = self._gate.observations.show(question.token, self._address)
        if self._observation is None:
            self.transport.write(packAnswer(None, question.mask))
            self.transport.loseConnection()
            return
        self._deadline = self._gate.now() + OPEN_PATIENCE
        self._gate.isKnown(self, self._address)
        self.transport.write(packAnswer(self._address, question.mask))

    def _drop(self, why: str) -> None:
        self._gate.complain(self._address, why)
        self._isAnswered = True
        self.abort()


class AssistGate(Gate):
    """
    The factory of assist connections.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        observations: Observations,
        strangers: Strangers,
        complaints: Complaints,
    ) -> None:
        super().__init__(clock=clock, strangers=strangers, complaints=complaints)
        self.observations = observations

    def makeGuest(self, address: Address) -> tuple[AssistConnection, AssistConnection]:
        connection = AssistConnection(self, address)
        return connection, connection

    def now(self) -> float:
        """
        Seconds on the server's clock.
        """
        return self._clock.seconds()

    def complain(self, address: Address, why: str) -> None:
        """
        A line for the log about a connection.
        """
        self._complaints.say(f"{showAddress(address)}: assist: {why:.200}")
