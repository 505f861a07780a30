"""
Both sides of a punched connection, in memory.
"""

from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.identity.certificates import selfSigned
from punchd.identity.keys import Identity
from punchd.identity.tls import makeContext
from punchd.link.punched import PunchedConnection
from punchd.link.stream import Stream
from punchd.link.tickets import Ticket
from punchd.values.outcomes import Way
from punchd.wire.preamble import Side
from punchd.wire.versions import LINK_ALPN
from tests.unit.identity.making import makeIdentity
from tests.unit.net.memory import HERE, THERE, Pair

SESSION = b"s" * 16

ALICE = makeIdentity()
BOB = makeIdentity()

CONTEXTS = {
    identity.peerID: makeContext(selfSigned(identity), LINK_ALPN) for identity in (ALICE, BOB)
}


def makeTicket(
    side: Side,
    own: Identity | None = None,
    other: Identity | None = None,
    session: bytes = SESSION,
    nonce: bytes | None = None,
    context: Any = None,
) -> Ticket:
    """
    Alice, who calls Bob; or Bob, whom Alice calls.
    """
    isCaller = side is Side.CALLER
    own = own or (ALICE if isCaller else BOB)
    other = other or (BOB if isCaller else ALICE)
    return Ticket(
        session,
        side,
        nonce or (b"a" if isCaller else b"b") * 16,
        other.peerID,
        "bob" if isCaller else "alice",
        context or CONTEXTS[own.peerID],
    )


@implementer(IHalfCloseableProtocol)
class User(Protocol):
    """
    Whoever has the stream, and remembers what came.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.inputEnded = False
        self.outputEnded = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.inputEnded = True

    def writeConnectionLost(self) -> None:
        self.outputEnded = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@define
class Asked:
    """
    Remembers who asked the callee for what.
    """

    services: list[str] = field(factory=list)

    def __call__(self, stream: Stream, service: str) -> None:
        self.services.append(service)


class Sides:
    """
    A caller and a callee on one TCP connection.

    @ivar errors: why the caller's or the callee's connection did not settle.
    """

    def __init__(
        self,
        callerDials: bool = True,
        caller: Ticket | None = None,
        callee: Ticket | None = None,
        acceptedKnowsTicket: bool = False,
        greet: bool = True,
    ) -> None:
        self.clock = Clock()
        tickets = {
            Side.CALLER: caller or makeTicket(Side.CALLER),
            Side.CALLEE: callee or makeTicket(Side.CALLEE),
        }
        dialling = Side.CALLER if callerDials else Side.CALLEE
        self.dialled = PunchedConnection(self.clock, Way.DIALLED, THERE, tickets[dialling])
        self.found: list[bytes] = []

        def find(session: bytes) -> Ticket | None:
            self.found.append(session)
            ticket = tickets[dialling.other]
            return ticket if ticket.session == session else None

        known = tickets[dialling.other] if acceptedKnowsTicket else None
        self.accepted = PunchedConnection(self.clock, Way.ACCEPTED, HERE, known, find)
        self.caller, self.callee = self.dialled, self.accepted
        if not callerDials:
            self.caller, self.callee = self.callee, self.caller
        self.asked = Asked()
        self.callee.stream.onAsked = self.asked
        self.settled: list[Side] = []
        self.errors: dict[Side, PunchdError] = {}
        for side, connection in ((Side.CALLER, self.caller), (Side.CALLEE, self.callee)):
            connection.whenSettled().addCallbacks(
                lambda _, side: self.settled.append(side),
                self._failed,
                callbackArgs=(side,),
                errbackArgs=(side,),
            )
        self.wire = Pair(self.clock, self.dialled, self.accepted, greet=greet)

    def _failed(self, failure: Failure, side: Side) -> None:
        failure.trap(PunchdError)
        assert isinstance(failure.value, PunchdError)
        self.errors[side] = failure.value

    def flush(self) -> None:
        self.wire.flush()

    def end(self) -> None:
        """
        Break the connection, and expect that nothing is left to be done.
        """
        self.wire.one.abortConnection()
        self.flush()
        assert self.clock.getDelayedCalls() == []


class Streaming(Sides):
    """
    A stream that was asked for and agreed on, with a user at each end.
    """

    def __init__(self, callerDials: bool = True) -> None:
        super().__init__(callerDials)
        self.callerUser, self.calleeUser = User(), User()
        self.caller.stream.elect("ssh")
        self.flush()
        self.callee.stream.agree()
        self.callee.stream.carry(self.calleeUser)
        self.caller.stream.carry(self.callerUser)
        self.flush()
