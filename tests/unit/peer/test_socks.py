"""
Tests for L{punchd.peer.socks}.
"""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import NoPath, Refused, UnknownPeer, Unreachable
from punchd.peer.forwarding import ForwardFactory, Target
from punchd.peer.socks import ASKING, MOST_EARLY, SocksFactory, makeForward, targetOf
from punchd.wire.socks import Reply, packReply
from tests.unit.link.pairs import BOB, User
from tests.unit.net.memory import HERE, Pair
from tests.unit.peer.clients import makePins
from tests.unit.peer.streams import Sides
from tests.unit.peer.test_forwarding import Opener
from tests.unit.wire.test_socks import GREETING, request


class Asking:
    """
    A client of a SOCKS port, whose peer has pinned Bob.
    """

    def __init__(self, folder: Path) -> None:
        self.sides = Sides()
        self.clock = self.sides.clock
        self.opener = Opener()
        self.factory = SocksFactory(self.clock, self.opener, makePins(folder, bob=BOB.peerID))
        self.client = User()
        self.connection: Any = self.factory.buildProtocol(HERE)
        self.pair = Pair(self.clock, self.client, self.connection)
        self.service = User()

    def say(self, data: bytes) -> None:
        self.client.transport.write(data)
        self.flush()

    def open(self) -> None:
        self.opener.opening[0].callback(self.sides.open("ssh"))
        self.flush()

    def agree(self) -> None:
        self.sides.callee.agree()
        self.sides.callee.carry(self.service)
        self.flush()

    def flush(self) -> None:
        for _ in range(4):
            self.pair.flush()
            self.sides.flush()

    def answered(self, reply: Reply, *more: bytes) -> bool:
        self.flush()
        return self.client.received == b"\5\0" + packReply(reply) + b"".join(more)

    def end(self) -> None:
        self.pair.one.abortConnection()
        self.flush()
        self.sides.end()
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


def test_itIsAFactory(asking: Asking) -> None:
    verifyObject(IProtocolFactory, asking.factory)
    verifyObject(IHalfCloseableProtocol, asking.connection)
    asking.end()


@pytest.mark.parametrize("asked", [b"ssh.bob", b"ssh.BOB", b"ssh.bob."])
def test_theNameSaysServiceAndPeer(asking: Asking, asked: bytes) -> None:
    asking.say(GREETING)
    assert asking.client.received == b"\5\0"
    asking.say(request(asked, 9999))
    assert asking.opener.asked == [("bob", "ssh")]
    asking.open()
    assert asking.client.received == b"\5\0"
    asking.agree()
    assert asking.answered(Reply.SUCCEEDED)
    asking.say(b"question")
    asking.service.transport.write(b"answer")
    assert asking.answered(Reply.SUCCEEDED, b"answer")
    assert asking.service.received == b"question"
    asking.end()


def test_whatIsSaidTooEarlyIsNotLost(asking: Asking) -> None:
    asking.say(GREETING + request() + b"early")
    asking.say(b" bird")
    asking.client.transport.loseWriteConnection()
    asking.open()
    asking.agree()
    assert asking.service.received == b"early bird"
    assert asking.service.inputEnded
    asking.end()


def test_onlySoMuchIsTakenEarly(asking: Asking) -> None:
    asking.say(GREETING + request())
    paused = []
    for early in (bytes(MOST_EARLY), b"x"):
        asking.say(early)
        paused.append(asking.pair.two.isPaused)
    assert paused == [False, True]
    asking.open()
    asking.agree()
    assert len(asking.service.received) == MOST_EARLY + 1
    asking.end()


NAMES = [
    b"ssh.carol",
    b"bob",
    b"bob.",
    b".bob",
    b"ssh.",
    b"192.0.2.1",
    b"www.example.org",
    b"s h.bob",
]


@pytest.mark.parametrize("name", NAMES)
def test_otherNamesAreUnreachable(asking: Asking, name: bytes) -> None:
    asking.say(GREETING + request(name))
    assert asking.answered(Reply.HOST_UNREACHABLE)
    assert asking.opener.asked == []
    assert asking.client.lost is not None
    asking.end()


REFUSALS = [
    (b"\5\2\0\3\7ssh.bob\0\x16", Reply.COMMAND_NOT_SUPPORTED),
    (b"\5\3\0\1\0\0\0\0\0\0", Reply.COMMAND_NOT_SUPPORTED),
    (b"\5\1\0\1\x7f\0\0\1\0\x16", Reply.ADDRESS_NOT_SUPPORTED),
    (b"\5\1\0\4" + bytes(18), Reply.ADDRESS_NOT_SUPPORTED),
]


@pytest.mark.parametrize(("said", "reply"), REFUSALS)
def test_whatIsNoConnectToANameIsRefused(asking: Asking, said: bytes, reply: Reply) -> None:
    asking.say(GREETING + said)
    assert asking.answered(reply)
    assert asking.client.lost is not None
    asking.end()


ERRORS = [
    (NoPath("bob", ()), Reply.HOST_UNREACHABLE),
    (UnknownPeer("not connected"), Reply.HOST_UNREACHABLE),
    (Unreachable("no server"), Reply.NETWORK_UNREACHABLE),
    (Refused("no"), Reply.REFUSED),
]


@pytest.mark.parametrize(("error", "reply"), ERRORS)
def test_theAnswerSaysWhyThereIsNoStream(asking: Asking, error: Exception, reply: Reply) -> None:
    asking.say(GREETING + request())
    asking.opener.opening[0].errback(Failure(error))
    assert asking.answered(reply)
    asking.end()


def test_aServiceThatRefusesIsRefused(asking: Asking) -> None:
    asking.say(GREETING + request())
    asking.open()
    asking.sides.callee.refuse("not exposed there")
    assert asking.answered(Reply.REFUSED)
    asking.end()


def test_aBugInOpeningIsLogged(asking: Asking, flushLoggedErrors: Any) -> None:
    asking.say(GREETING + request())
    asking.opener.opening[0].errback(Failure(ValueError("a bug")))
    assert asking.answered(Reply.FAILED)
    assert flushLoggedErrors(ValueError)
    asking.end()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\4\1\0\x16\0\0\0\1x\0", b"\5\1\2"])
def test_whoSpeaksAnotherProtocolIsDisconnected(asking: Asking, said: bytes) -> None:
    asking.say(said)
    assert asking.client.lost is not None
    assert asking.client.received in (b"", b"\5\xff")
    asking.end()


@pytest.mark.parametrize("said", [b"", b"\5", GREETING, GREETING + b"\5\1\0\3\7ssh"])
def test_whoAsksForNothingIsDisconnected(asking: Asking, said: bytes) -> None:
    asking.say(said)
    asking.clock.advance(ASKING)
    asking.flush()
    assert asking.pair.two.isAborted
    asking.end()


def test_whoGoesAwayEndsTheOpening(asking: Asking) -> None:
    asking.say(GREETING + request())
    asking.pair.one.abortConnection()
    asking.flush()
    assert asking.opener.cancelled == 1
    asking.end()


def test_anEndOfInputBeforeTheRequestEndsTheConnection(asking: Asking) -> None:
    asking.say(GREETING)
    asking.client.transport.loseWriteConnection()
    asking.flush()
    assert asking.client.lost is not None
    asking.end()


def test_namesMayHaveDots(tmp_path: Path) -> None:
    pins = makePins(tmp_path, c=BOB.peerID)
    assert targetOf("a.b.c", pins) == Target("c", "a.b")
    pins.trust("b.c", BOB.peerID)
    assert targetOf("a.b.c", pins) == Target("b.c", "a")


def test_capitalsTellPinsApart(tmp_path: Path) -> None:
    pins = makePins(tmp_path, bob=BOB.peerID)
    pins.trust("Bob", type(BOB.peerID)(b"x" * 32))
    assert targetOf("ssh.Bob", pins) == Target("Bob", "ssh")
    assert targetOf("ssh.bob", pins) == Target("bob", "ssh")
    with pytest.raises(UnknownPeer):
        targetOf("ssh.BOB", pins)


def test_aForwardIsToOneServiceOrToAll(asking: Asking, tmp_path: Path) -> None:
    pins = makePins(tmp_path / "more", bob=BOB.peerID)
    target = Target("bob", "ssh")
    one = makeForward(asking.clock, asking.opener, pins, target)
    assert isinstance(one, ForwardFactory)
    assert isinstance(makeForward(asking.clock, asking.opener, pins, None), SocksFactory)
    asking.end()
