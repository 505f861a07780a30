"""
A peer's way through the relay: L{punchd.link.relayed}.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as anyReactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from punchd.errors import IncompatibleVersions, ProtocolViolation, PunchdError, Refused, Unreachable
from punchd.link.punched import PunchedConnection
from punchd.link.relayed import ANSWER_PATIENCE, relayedConnection
from punchd.server.relaypairs import MEETING_PATIENCE
from punchd.values.outcomes import Way
from punchd.wire.preamble import Side
from punchd.wire.relaying import OPENING_LENGTH, packAcceptance
from tests.functional.relays import End, Relaying, until
from tests.unit.link.pairs import makeTicket

reactor: Any = anyReactor


@pytest_twisted.async_yield_fixture
async def relay() -> AsyncIterator[Relaying]:
    made = Relaying()
    yield made
    await made.close()


def connect(relay: Relaying, token: bytes, end: Any) -> Deferred[None]:
    return relayedConnection(reactor, "127.0.0.1", relay.port, token, end)


@ensureDeferred
async def test_twoProtocolsMeet(relay: Relaying) -> None:
    ends = End(), End()
    relay.ends.extend(ends)
    tokens = relay.introduce()
    await gatherResults([connect(relay, *one) for one in zip(tokens, ends, strict=True)])
    ends[0].transport.write(b"hello")
    # The relay's answer is not for them.
    await until(lambda: ends[1].received == b"hello")


@ensureDeferred
async def test_theRelaysReasonIsHeard(relay: Relaying) -> None:
    with pytest.raises(Refused, match="used, too old or forged"):
        await connect(relay, b"f" * 16, End())


@ensureDeferred
async def test_theRelaysPatienceIsShorterThanOurs(relay: Relaying) -> None:
    assert MEETING_PATIENCE < ANSWER_PATIENCE
    connecting = connect(relay, relay.introduce()[0], End())
    await until(lambda: len(relay.pairs) == 1)
    relay.advance(MEETING_PATIENCE)
    with pytest.raises(Refused, match="has not come to the relay"):
        await connecting


@ensureDeferred
async def test_whoDoesNotWantItAnyMoreLeaves(relay: Relaying) -> None:
    end = End()
    connecting = connect(relay, relay.introduce()[0], end)
    await until(lambda: len(relay.pairs) == 1)
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    await until(lambda: len(relay.pairs) == 0)
    assert end.transport is None


@ensureDeferred
async def test_itMayBeCancelledBeforeItIsConnected(relay: Relaying) -> None:
    connecting = connect(relay, relay.introduce()[0], End())
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    assert len(relay.tokens) == 2


@ensureDeferred
async def test_anUnmodifiedPunchedConnectionRunsOnIt(relay: Relaying) -> None:
    ends = [
        PunchedConnection(reactor, Way.RELAYED, None, makeTicket(side))
        for side in (Side.CALLER, Side.CALLEE)
    ]
    settled = gatherResults([end.whenSettled() for end in ends])
    tokens = relay.introduce()
    await gatherResults([connect(relay, *one) for one in zip(tokens, ends, strict=True)])
    await settled
    for end in ends:
        end.abort()
    await until(lambda: len(relay.pairs) == 0)


@define(eq=False)
class Pretender:
    """
    Something that listens, and answers an opening with what it is given.
    """

    answer: bytes | None
    port: Any = field(init=False)
    heard: bytearray = field(factory=bytearray)

    def __attrs_post_init__(self) -> None:
        world = self

        class Answering(Protocol):
            def dataReceived(self, data: bytes) -> None:
                world.heard += data
                if len(world.heard) >= OPENING_LENGTH and world.answer is not None:
                    transport: Any = self.transport
                    transport.write(world.answer)
                    transport.loseConnection()

        factory = Factory.forProtocol(Answering)
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def number(self) -> int:
        number: int = self.port.getHost().port
        return number


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", ProtocolViolation),
        (b"PUNCHR\x09\x00", IncompatibleVersions),
        (b"PUNCHR", Unreachable),
        (b"", Unreachable),
    ],
)
@ensureDeferred
async def test_whatIsNoRelayIsAnErrorOfOurs(answer: bytes, error: type[PunchdError]) -> None:
    pretender = Pretender(answer)
    try:
        with pytest.raises(error):
            await relayedConnection(reactor, "127.0.0.1", pretender.number, bytes(16), End())
    finally:
        await pretender.port.stopListening()


@ensureDeferred
async def test_whatComesWithTheAnswerIsTheOtherEnds() -> None:
    pretender, end = Pretender(packAcceptance() + b"at once"), End()
    await relayedConnection(reactor, "127.0.0.1", pretender.number, bytes(16), end)
    assert end.received == b"at once"
    await until(lambda: end.inputEnded)
    end.transport.abortConnection()
    await until(lambda: end.lost is not None)
    await pretender.port.stopListening()


@ensureDeferred
async def test_whereNobodyListensIsUnreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(Unreachable, match="the relay cannot be reached"):
        await relayedConnection(reactor, "127.0.0.1", port, bytes(16), End())


class _OtherTime:
    """
    The reactor's connections, with the test's time.
    """

    def __init__(self, clock: Clock) -> None:
        self.callLater = clock.callLater
        self.connectTCP = IReactorTCP(reactor).connectTCP


@ensureDeferred
async def test_aRelayThatSaysNothingIsGivenUp() -> None:
    pretender, clock = Pretender(None), Clock()
    connecting = relayedConnection(
        _OtherTime(clock), "127.0.0.1", pretender.number, bytes(16), End()
    )
    await until(lambda: len(pretender.heard) == OPENING_LENGTH)
    clock.advance(ANSWER_PATIENCE)
    with pytest.raises(Unreachable, match="the relay does not answer"):
        await connecting
    assert clock.getDelayedCalls() == []
    await pretender.port.stopListening()
