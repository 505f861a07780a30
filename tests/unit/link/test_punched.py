"""
Tests for L{punchd.link.punched}: both sides on one connection in memory.
"""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import (
    IncompatibleVersions,
    NotTrusted,
    ProtocolViolation,
    PunchdError,
    Unreachable,
)
from punchd.identity.certificates import selfSigned
from punchd.identity.tls import makeContext
from punchd.link.punched import DEADLINE, USER_TIMEOUT, PunchedConnection
from punchd.link.tickets import Ticket
from punchd.values.outcomes import Way
from punchd.wire.preamble import PREAMBLE_LENGTH, Preamble, Side
from punchd.wire.versions import LINK_ALPN, MASTER_ALPN
from tests.unit.identity.making import makeIdentity
from tests.unit.link.pairs import ALICE, BOB, SESSION, Sides, makeTicket
from tests.unit.net.memory import HERE, THERE, MemoryTransport, lost

BOTH_WAYS = pytest.mark.parametrize("callerDials", [True, False], ids=["called", "reversed"])


@BOTH_WAYS
def test_bothSidesSettleWhicheverDialled(callerDials: bool) -> None:
    sides = Sides(callerDials)
    assert sorted(sides.settled) == [Side.CALLER, Side.CALLEE]
    sides.end()


@BOTH_WAYS
def test_theAcceptingSideFindsItsTicketBySession(callerDials: bool) -> None:
    sides = Sides(callerDials)
    assert sides.found == [SESSION]
    sides.end()


def test_whereBothHaveDialledBothKnowTheirTicket() -> None:
    sides = Sides(acceptedKnowsTicket=True)
    assert sorted(sides.settled) == [Side.CALLER, Side.CALLEE]
    sides.end()


@pytest.mark.parametrize("acceptedKnowsTicket", [True, False])
def test_anyChunkingSettles(acceptedKnowsTicket: bool) -> None:
    sides = Sides(acceptedKnowsTicket=acceptedKnowsTicket, greet=False)
    for _ in range(4000):
        sides.clock.advance(0)
        for one in (sides.wire.one, sides.wire.two):
            sent, one.stream = b"".join(one.stream), []
            assert one.other is not None
            if sent:
                one.other.protocol.dataReceived(sent[:1])
                one.stream = [sent[1:], *one.stream]
        if len(sides.settled) == 2:
            break
    assert sorted(sides.settled) == [Side.CALLER, Side.CALLEE]
    sides.end()


@BOTH_WAYS
def test_aKeyThatWasNotExpectedIsNotTrusted(callerDials: bool) -> None:
    mallory = makeIdentity()
    context = makeContext(selfSigned(mallory), LINK_ALPN)
    sides = Sides(callerDials, callee=makeTicket(Side.CALLEE, mallory, ALICE, context=context))
    error = sides.errors[Side.CALLER]
    assert isinstance(error, NotTrusted)
    assert "bob has key" in str(error)
    assert sides.clock.getDelayedCalls() == []


@BOTH_WAYS
def test_theCalleeToldAnotherCallerDoesNotSettle(callerDials: bool) -> None:
    mallory = makeIdentity()
    context = makeContext(selfSigned(mallory), LINK_ALPN)
    sides = Sides(callerDials, caller=makeTicket(Side.CALLER, mallory, BOB, context=context))
    assert isinstance(sides.errors[Side.CALLEE], NotTrusted)
    assert "alice has key" in str(sides.errors[Side.CALLEE])


def test_whoWasNotTrustedIsDisconnected() -> None:
    mallory = makeIdentity()
    context = makeContext(selfSigned(mallory), LINK_ALPN)
    sides = Sides(caller=makeTicket(Side.CALLER, mallory, BOB, context=context))
    assert not sides.wire.isOpen
    assert sides.clock.getDelayedCalls() == []


def test_anotherProtocolInsideTLSIsRefused() -> None:
    context = makeContext(selfSigned(BOB), MASTER_ALPN)
    sides = Sides(callee=makeTicket(Side.CALLEE, context=context))
    assert isinstance(sides.errors[Side.CALLER], PunchdError)
    assert sides.settled == []


def test_aConnectionToOurselvesIsNoticed() -> None:
    ticket = makeTicket(Side.CALLER)
    sides = Sides(callee=ticket, caller=ticket, acceptedKnowsTicket=True)
    assert "to ourselves" in str(sides.errors[Side.CALLER])


def test_aDialledConnectionOfAnotherSessionIsRefused() -> None:
    other = makeTicket(Side.CALLEE, session=b"o" * 16)
    sides = Sides(callee=other, acceptedKnowsTicket=True)
    assert "another introduction" in str(sides.errors[Side.CALLER])


def test_anAcceptedConnectionOfNoSessionIsRefused() -> None:
    sides = Sides(callee=makeTicket(Side.CALLEE, session=b"o" * 16))
    assert "no introduction that is under way" in str(sides.errors[Side.CALLEE])


class Stranger:
    """
    An accepted connection whose other end is the test.
    """

    def __init__(self, ticket: Ticket | None = None) -> None:
        self.clock = Clock()
        self.connection = PunchedConnection(
            self.clock, Way.ACCEPTED, HERE, ticket, lambda session: CALLEE
        )
        self.errors: list[PunchdError] = []
        self.connection.whenSettled().addErrback(self._failed)
        self.transport = MemoryTransport(self.connection, True, THERE, HERE)
        self.connection.makeConnection(self.transport)

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, PunchdError)
        self.errors.append(failure.value)

    def finish(self) -> PunchdError:
        assert self.transport.isAborted
        self.connection.connectionLost(lost())
        assert self.clock.getDelayedCalls() == []
        (error,) = self.errors
        return error


CALLEE = makeTicket(Side.CALLEE)


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0"])
def test_aStrangerIsDisconnectedAtItsFirstBytes(greeting: bytes) -> None:
    stranger = Stranger()
    stranger.connection.dataReceived(greeting)
    assert isinstance(stranger.finish(), ProtocolViolation)


def test_aStrangerHearsNothingOfOurs() -> None:
    stranger = Stranger()
    stranger.connection.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    assert stranger.transport.sent == b""


@given(st.binary(min_size=1, max_size=200))
def test_garbageAfterThePreambleIsNotTrusted(garbage: bytes) -> None:
    stranger = Stranger()
    preamble = Preamble(Side.CALLER, SESSION, b"n" * 16).pack()
    stranger.connection.dataReceived(preamble + b"\xff" + garbage)
    stranger.clock.advance(DEADLINE)
    stranger.connection.connectionLost(lost())
    assert len(stranger.errors) == 1
    assert stranger.clock.getDelayedCalls() == []


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5))
def test_anyGarbageSettlesAsAnErrorOfOurs(pieces: list[bytes]) -> None:
    stranger = Stranger()
    for piece in pieces:
        stranger.connection.dataReceived(piece)
    stranger.clock.advance(DEADLINE)
    stranger.connection.connectionLost(lost())
    (error,) = stranger.errors
    assert isinstance(error, PunchdError)


def test_anotherVersionIsRefusedNamingBoth() -> None:
    stranger = Stranger()
    stranger.connection.dataReceived(b"PUNCHD\x02" + bytes(33))
    assert isinstance(stranger.finish(), IncompatibleVersions)


@pytest.mark.parametrize("length", [0, 1, 6, PREAMBLE_LENGTH - 1, PREAMBLE_LENGTH])
def test_whoSaysNoMoreIsDisconnectedAtTheDeadline(length: int) -> None:
    stranger = Stranger()
    preamble = Preamble(Side.CALLER, SESSION, b"n" * 16).pack()
    for byte in preamble[:length]:
        stranger.connection.dataReceived(bytes([byte]))
        stranger.clock.advance(0.01)
    stranger.clock.advance(DEADLINE)
    error = stranger.finish()
    assert isinstance(error, Unreachable)
    assert "in time" in str(error)


def test_slowBytesDoNotPutTheDeadlineOff() -> None:
    stranger = Stranger()
    preamble = Preamble(Side.CALLER, SESSION, b"n" * 16).pack()
    for byte in preamble[:10]:
        stranger.connection.dataReceived(bytes([byte]))
        stranger.clock.advance(DEADLINE / 10)
    assert stranger.transport.isAborted
    stranger.finish()


def test_whoIsProvenHasNoDeadline() -> None:
    sides = Sides()
    sides.wire.advance(DEADLINE * 2)
    assert sides.wire.isOpen
    sides.end()


def test_aConnectionThatEndsBeforeIsUnreachable() -> None:
    stranger = Stranger()
    stranger.connection.connectionLost(lost())
    (error,) = stranger.errors
    assert isinstance(error, Unreachable)


def test_whoAsksLateHearsWhatWasSettled() -> None:
    sides = Sides()
    found: list[PunchedConnection] = []
    sides.caller.whenSettled().addCallback(found.append)
    assert found == [sides.caller]
    sides.end()


def test_whoAsksLateHearsTheError() -> None:
    stranger = Stranger()
    stranger.connection.connectionLost(lost())
    found: list[object] = []
    stranger.connection.whenSettled().addErrback(lambda failure: found.append(failure.value))
    assert found == stranger.errors


def test_idleConnectionsAreKeptAlive() -> None:
    stranger = Stranger()
    names = {option[1] for option in stranger.transport.options}
    assert names >= {socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has these options")
def test_whatIsInFlightIsNotWaitedForLong() -> None:
    stranger = Stranger()
    options = {option[1]: option[2] for option in stranger.transport.options}
    assert options[socket.TCP_USER_TIMEOUT] == USER_TIMEOUT


def test_theCallerSendsItsTLSGreetingWithThePreamble() -> None:
    clock = Clock()
    connection = PunchedConnection(clock, Way.DIALLED, THERE, makeTicket(Side.CALLER))
    transport = MemoryTransport(connection, False)
    connection.makeConnection(transport)
    # A TLS record of type handshake (RFC 8446, 5.1).
    assert transport.sent[PREAMBLE_LENGTH] == 22
    connection.connectionLost(lost())
