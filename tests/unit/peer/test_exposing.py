"""
Tests for L{punchd.peer.exposing}: what a peer serves, and to whom.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import Refused
from punchd.peer.access import AllowList
from punchd.peer.exposing import Exposures
from punchd.peer.exposure import Exposure
from punchd.values.addresses import Ends, makeAddress
from punchd.wire.proxying import ProxyVersion
from tests.unit.link.pairs import ALICE, User
from tests.unit.net.memory import HERE, MemoryTransport, Pair
from tests.unit.peer.clients import makePins
from tests.unit.peer.streams import Sides


@implementer(IStreamClientEndpoint)
class Local:
    """
    A local service: connects, or not, when the test says.
    """

    def __init__(self) -> None:
        self.factories: list[IProtocolFactory] = []
        self.connecting: list[Deferred[Any]] = []
        self.cancelled = 0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.factories.append(protocolFactory)
        self.connecting.append(Deferred(self._cancel))
        return self.connecting[-1]

    def _cancel(self, connecting: object) -> None:
        self.cancelled += 1

    def answer(self, clock: Clock) -> tuple[User, Pair]:
        user = User()
        protocol: Any = self.factories[0].buildProtocol(HERE)
        pair = Pair(clock, protocol, user)
        self.connecting[0].callback(protocol)
        return user, pair


class Served:
    """
    A caller's stream to a callee that exposes one service, C{web}; Alice, who calls, is pinned.
    """

    def __init__(
        self,
        folder: Path,
        service: str,
        rules: tuple[str, ...] = (),
        connect: Callable[[IProtocolFactory], Any] | None = None,
        version: ProxyVersion | None = None,
        ends: Ends | None = None,
    ) -> None:
        self.local = Local()
        if connect is not None:
            setattr(self.local, "connect", connect)  # noqa: B010
        pins = makePins(folder, alice=ALICE.peerID)
        policy = AllowList.parse(pins, list(rules))
        exposures = Exposures({"web": Exposure(self.local, version)}, policy)
        self.sides = Sides(lambda stream, service: exposures.serve(stream, ALICE.peerID, ends))
        self.user = User()
        self.errors: list[object] = []
        stream = self.sides.open(service)
        stream.opened.addErrback(lambda failure: self.errors.append(failure.value))
        stream.carry(self.user)
        self.sides.flush()

    @property
    def refusal(self) -> str:
        (error,) = self.errors
        assert isinstance(error, Refused)
        return str(error)


def test_anExposedServiceIsConnected(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    user, pair = served.local.answer(served.sides.clock)
    served.sides.caller.write(b"question")
    served.sides.flush()
    pair.flush()
    assert user.received == b"question"
    served.sides.end()


def test_whatTheServiceSaysReachesTheCaller(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    user, pair = served.local.answer(served.sides.clock)
    user.transport.write(b"answer")
    pair.flush()
    served.sides.flush()
    assert served.user.received == b"answer"
    served.sides.end()


ENDS = Ends(makeAddress("192.0.2.7", 4000), makeAddress("198.51.100.1", 5000))


@pytest.mark.parametrize("version", ProxyVersion)
def test_aServiceThatWantsToIsToldFirstWhoComes(tmp_path: Path, version: ProxyVersion) -> None:
    served = Served(tmp_path, "web", version=version, ends=ENDS)
    served.sides.caller.write(b"question")
    served.sides.flush()
    user, pair = served.local.answer(served.sides.clock)
    served.sides.flush()
    pair.flush()
    caller: Any = served.sides.callee.getPeer()
    assert user.received == version.pack(ENDS, caller) + b"question"
    served.sides.end()


def test_aServiceThatIsNotExposedIsRefused(tmp_path: Path) -> None:
    assert Served(tmp_path, "ftp").refusal == "the service 'ftp' is not exposed there"


def test_aServiceThatIsNotAllowedIsRefused(tmp_path: Path) -> None:
    served = Served(tmp_path, "web", ("alice=other",))
    assert served.refusal == "the service 'web' is not allowed to this peer"
    assert served.local.connecting == []


def test_aServiceThatDoesNotAnswerIsRefused(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    served.local.connecting[0].errback(Failure(ConnectionRefusedError()))
    served.sides.flush()
    assert "does not answer there" in served.refusal


def test_aCallerThatGoesAwayEndsTheConnecting(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    served.sides.end()
    assert served.local.cancelled == 1


def test_aServiceThatConnectsTooLateIsDisconnected(tmp_path: Path) -> None:
    served = Served(tmp_path, "web")
    protocol: Any = served.local.factories[0].buildProtocol(HERE)
    transport = MemoryTransport(protocol, False)
    protocol.makeConnection(transport)
    # An endpoint may succeed when it is told to stop.
    served.local._cancel = lambda connecting: None  # type: ignore[method-assign]
    served.local.connecting[0]._canceller = lambda connecting: connecting.callback(protocol)
    served.sides.end()
    assert transport.isAborted


def raises(*arguments: object) -> Any:
    raise ZeroDivisionError("a bug")


def test_aBugOfAServiceEndsItsStreamOnly(
    tmp_path: Path, flushLoggedErrors: Callable[..., list[Any]]
) -> None:
    served = Served(tmp_path, "web", connect=raises)
    assert served.refusal == "a bug in the service 'web': ZeroDivisionError"
    assert served.sides.link.alice.path is not None
    assert len(flushLoggedErrors(ZeroDivisionError)) == 1
    served.sides.end()


@pytest.mark.parametrize("agrees", [False, True])
def test_aBugOfATakerEndsItsStreamOnly(
    tmp_path: Path, agrees: bool, flushLoggedErrors: Callable[..., list[Any]]
) -> None:
    def take(stream: Any) -> None:
        if agrees:
            stream.agree()
        raises()

    exposures = Exposures({}, AllowList.parse(makePins(tmp_path, alice=ALICE.peerID), []))
    exposures.expose("mine", take)
    sides = Sides(lambda stream, service: exposures.serve(stream, ALICE.peerID))
    user = User()
    stream = sides.open("mine")
    stream.opened.addErrback(lambda failure: None)
    stream.carry(user)
    sides.flush()
    assert user.lost is not None
    assert sides.link.alice.path is not None
    assert len(flushLoggedErrors(ZeroDivisionError)) == 1
    sides.end()
