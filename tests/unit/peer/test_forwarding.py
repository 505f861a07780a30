"""
Tests for L{punchd.peer.forwarding}.
"""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.errors import ConfigurationError, NoPath
from punchd.interfaces import IStreamOpener
from punchd.peer.forwarding import ForwardFactory, Target, describeForward, parseForward
from tests.unit.link.pairs import User
from tests.unit.net.memory import HERE, Pair
from tests.unit.peer.streams import Sides

BOB_SSH = Target("bob", "ssh")

FORWARDS = [
    ("2222=bob/ssh", "tcp:2222:interface=127.0.0.1"),
    ("0=bob/ssh", "tcp:0:interface=127.0.0.1"),
    ("0.0.0.0:2222=bob/ssh", "tcp:2222:interface=0.0.0.0"),
    ("localhost:2222=bob/ssh", "tcp:2222:interface=localhost"),
    ("[::1]:2222=bob/ssh", r"tcp:2222:interface=\:\:1"),
    ("tcp:2222=bob/ssh", "tcp:2222"),
    ("tcp:port=2222=bob/ssh", "tcp:port=2222"),
    ("tcp:2222:interface=10.0.0.1=bob/ssh", "tcp:2222:interface=10.0.0.1"),
    ("unix:/run/x.sock:mode=660=bob/ssh", "unix:/run/x.sock:mode=660"),
    ("systemd:domain=INET:index=0=bob/ssh", "systemd:domain=INET:index=0"),
    ("tcp6:2222=bob/ssh", "tcp6:2222"),
]


@pytest.mark.parametrize(("text", "endpoint"), FORWARDS)
def test_shortFormsBecomeEndpoints(text: str, endpoint: str) -> None:
    assert parseForward(text) == (endpoint, BOB_SSH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2222",
        "=bob/ssh",
        "2222=",
        "2222=bob",
        "2222=bob/",
        "2222=/ssh",
        "2222=b b/ssh",
        "2222=bob/ssh/x",
        "65536=bob/ssh",
        "99999999999999999999=bob/ssh",
        "9" * 5000 + "=bob/ssh",
    ],
)
def test_whatIsNoForwardIsAConfigurationError(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parseForward(text)


@given(st.text() | st.text().map(lambda listen: f"{listen}=bob/ssh"))
def test_anyTextIsAForwardOrRefused(text: str) -> None:
    try:
        endpoint, target = parseForward(text)
    except ConfigurationError:
        return
    assert endpoint
    assert target is None or (target.peer and target.service)


SOCKS = [
    ("socks:1080", "tcp:1080:interface=127.0.0.1"),
    ("socks:127.0.0.1:1080", "tcp:1080:interface=127.0.0.1"),
    ("socks:0.0.0.0:1080", "tcp:1080:interface=0.0.0.0"),
    ("socks:[::1]:1080", r"tcp:1080:interface=\:\:1"),
]


@pytest.mark.parametrize(("text", "endpoint"), SOCKS)
def test_aSocksPortHasNoTarget(text: str, endpoint: str) -> None:
    assert parseForward(text) == (endpoint, None)


@pytest.mark.parametrize(
    "text", ["socks", "socks:", "socks:x", "socks:65536", "socks:1080=bob/ssh", "socks:unix:/x"]
)
def test_whatIsNoSocksPortIsAConfigurationError(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parseForward(text)


def test_forwardsAreDescribed() -> None:
    assert describeForward("2222", BOB_SSH) == {"listen": "2222", "peer": "bob", "service": "ssh"}
    nobody = {"listen": "socks:1080", "peer": None, "service": None}
    assert describeForward("socks:1080", None) == nobody


@pytest.mark.parametrize("digits", ["²", "٣"])
def test_digitsOfOtherScriptsAreNoPort(digits: str) -> None:
    try:
        endpoint, _ = parseForward(f"{digits}=bob/ssh")
    except ConfigurationError:
        return
    assert not endpoint.startswith("tcp:")


@implementer(IStreamOpener)
@define
class Opener:
    """
    Opens streams when the test says.
    """

    asked: list[tuple[str, str]] = field(factory=list)
    opening: list[Deferred[Any]] = field(factory=list)
    cancelled: int = 0

    def openStream(self, peer: str, service: str) -> Deferred[Any]:
        self.asked.append((peer, service))
        self.opening.append(Deferred(self._cancel))
        return self.opening[-1]

    def _cancel(self, opening: object) -> None:
        self.cancelled += 1


class Forwarding:
    """
    A client on a forwarded port, and the stream behind it.
    """

    def __init__(self) -> None:
        self.opener = Opener()
        self.factory = ForwardFactory(self.opener, BOB_SSH)
        self.sides = Sides()
        self.client = User()
        end: Any = self.factory.buildProtocol(HERE)
        self.pair = Pair(self.sides.clock, self.client, end)
        self.service = User()

    def open(self) -> None:
        self.opener.opening[0].callback(self.sides.open("ssh"))
        self.sides.flush()

    def agree(self) -> None:
        self.sides.callee.agree()
        self.sides.callee.carry(self.service)
        self.flush()

    def flush(self) -> None:
        for _ in range(4):
            self.pair.flush()
            self.sides.flush()

    def end(self) -> None:
        self.sides.end()
        self.pair.one.abortConnection()
        self.flush()


def test_itIsAFactory() -> None:
    verifyObject(IProtocolFactory, ForwardFactory(Opener(), BOB_SSH))


def test_eachConnectionWantsAStream() -> None:
    forwarding = Forwarding()
    assert forwarding.opener.asked == [("bob", "ssh")]
    forwarding.pair.one.abortConnection()
    forwarding.flush()


def test_bytesGoBothWays() -> None:
    forwarding = Forwarding()
    forwarding.open()
    forwarding.agree()
    forwarding.client.transport.write(b"question")
    forwarding.service.transport.write(b"answer")
    forwarding.flush()
    assert (forwarding.service.received, forwarding.client.received) == (b"question", b"answer")
    forwarding.end()


def test_whatTheClientSaysBeforeThereIsAPathIsNotLost() -> None:
    forwarding = Forwarding()
    forwarding.client.transport.write(b"early")
    forwarding.flush()
    forwarding.open()
    forwarding.flush()
    forwarding.agree()
    assert forwarding.service.received == b"early"
    forwarding.end()


def test_theClientIsDisconnectedWhenThereIsNoPath() -> None:
    forwarding = Forwarding()
    forwarding.opener.opening[0].errback(Failure(NoPath("bob", ())))
    forwarding.flush()
    assert forwarding.pair.two.isAborted


def test_theClientIsDisconnectedWhenTheServiceIsRefused() -> None:
    forwarding = Forwarding()
    forwarding.open()
    forwarding.sides.callee.refuse("not exposed there")
    forwarding.flush()
    assert forwarding.client.lost is not None


def test_aClientThatGoesAwayEndsTheOpening() -> None:
    forwarding = Forwarding()
    forwarding.pair.one.abortConnection()
    forwarding.flush()
    assert forwarding.opener.cancelled == 1


def test_aBugInOpeningIsLogged(flushLoggedErrors: Any) -> None:
    forwarding = Forwarding()
    forwarding.opener.opening[0].errback(Failure(ValueError("a bug")))
    forwarding.flush()
    assert forwarding.pair.two.isAborted
    assert flushLoggedErrors(ValueError)
