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
from punchd.link.path import Path
from punchd.link.punched import PunchedConnection
from punchd.link.session import Session
from punchd.link.stream import Stream
from punchd.link.tickets import Ticket
from punchd.values.outcomes import Way
from punchd.wire.frames import Join
from punchd.wire.preamble import Side
from punchd.wire.versions import LINK_ALPN
from tests.unit.identity.making import makeIdentity
from tests.unit.net.memory import HERE, THERE, Pair

SESSION = b"s" * 16
LINK = b"l" * 16

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
        assert not self.inputEnded
        assert self.lost is None
        self.received += data

    def readConnectionLost(self) -> None:
        assert not self.inputEnded
        self.inputEnded = True

    def writeConnectionLost(self) -> None:
        self.outputEnded = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None
        self.lost = reason


@define
class Owner:
    """
    Has a session, and remembers who asked for what.
    """

    asks: list[Stream] = field(factory=list)

    @property
    def services(self) -> list[str]:
        return [stream.service for stream in self.asks]

    def asked(self, stream: Stream, service: str) -> None:
        self.asks.append(stream)

    def pathChanged(self, session: Session) -> None:
        pass


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
        self.callee.path.onJoin = self._joined
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

    def _joined(self, path: Path, join: Join) -> None:
        path.decline("nobody expects a link here")

    def end(self) -> None:
        """
        Break the connection, and expect that nothing is left to be done.
        """
        self.wire.one.abortConnection()
        self.flush()
        assert self.clock.getDelayedCalls() == []


class Linked(Sides):
    """
    A caller and a callee whose sessions have joined over a connection.

    @ivar callerSession: the initiator's; C{calleeSession}: the other one's.
    """

    def __init__(self, callerDials: bool = True) -> None:
        super().__init__(callerDials)
        self.callerOwner, self.calleeOwner = Owner(), Owner()
        self.callerSession = Session(self.clock, LINK, True, BOB.peerID, self.callerOwner)
        self.calleeSession = Session(self.clock, LINK, False, ALICE.peerID, self.calleeOwner)
        self.problems: list[object] = []
        self.callerSession.join(self.caller.path).addErrback(
            lambda failure: self.problems.append(failure.value)
        )
        self.flush()

    def _joined(self, path: Path, join: Join) -> None:
        self.calleeSession.joined(path, join)

    def flush(self) -> None:
        super().flush()
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)
            super().flush()

    def end(self) -> None:
        """
        End the sessions, then the connection, and expect that nothing is left to be done.
        """
        self.callerSession.abort("done")
        self.flush()
        self.calleeSession.abort("done")
        super().end()


class Streaming(Linked):
    """
    A stream that was asked for and agreed on, with a user at each end.

    @ivar opened: the caller's end; C{answered}: the callee's.
    """

    def __init__(self, callerDials: bool = True, service: str = "ssh") -> None:
        super().__init__(callerDials)
        self.callerUser, self.calleeUser = User(), User()
        self.opened = self.callerSession.openStream(service)
        self.flush()
        [self.answered] = self.calleeOwner.asks
        self.answered.agree()
        self.answered.carry(self.calleeUser)
        self.opened.carry(self.callerUser)
        self.flush()
