"""
C{punchd demo}: a server and two peers in one process on loopback, and everything they say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.identity.folder import StateFolder
from punchd.interfaces import IObserver
from punchd.peer.exposure import Exposure
from punchd.peer.forwarding import Target
from punchd.peer.service import PunchdPeer
from punchd.plugin import loadStrategies, strategyMakers
from punchd.server.service import PunchdServer, registryFor
from punchd.values.happenings import Happening
from punchd.values.joining import JoinAddress

#: How much is sent to the service and back.
_BYTES = 8 * 1024 * 1024

#: Seconds after which the demonstration has failed.
_PATIENCE = 15.0

_LOOPBACK = "127.0.0.1"


@implementer(IObserver)
@define
class Timeline:
    """
    Prints what happens, as it happens, in milliseconds since the beginning.
    """

    _clock: Any
    _began: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self._clock.seconds()

    def happened(self, happening: Happening) -> None:
        self.say(happening.who, happening.step)

    def say(self, who: str, step: str) -> None:
        """
        Print one line.
        """
        milliseconds = (self._clock.seconds() - self._began) * 1000
        sys.stdout.write(f"{milliseconds:7.0f} ms  {who:<7} {step}\n")
        sys.stdout.flush()


class _Echo(Protocol):
    """
    The service that is reached: says back what it hears.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class _Client(Protocol):
    """
    An ordinary client: sends a lot, and checks what comes back.
    """

    transport: Any

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self._digest = sha256()
        self._left = len(sent)
        self.finished: Deferred[str] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._sent)

    def dataReceived(self, data: bytes) -> None:
        self._digest.update(data)
        self._left -= len(data)
        if self._left <= 0:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._left == 0 and self._digest.digest() == sha256(self._sent).digest():
            self.finished.callback(self._digest.hexdigest())
        else:
            self.finished.errback(PunchdError(f"{self._left} bytes did not come back"))


def demo() -> int:
    """
    Run it.

    @return: the exit status.
    """
    with TemporaryDirectory(prefix="punchd-demo-") as folder:
        try:
            react(_run, [Path(folder)])
        except SystemExit as ended:
            return int(ended.code or 0)


def _run(reactor: Any, folder: Path) -> Deferred[None]:
    timeline = Timeline(reactor)
    running = Deferred.fromCoroutine(_demonstrate(reactor, folder, timeline))
    running.addTimeout(_PATIENCE, reactor)

    def failed(failure: Failure) -> None:
        timeline.say("demo", f"failed: {failure.getErrorMessage() or failure.value!r}")
        raise SystemExit(1)

    return running.addErrback(failed)


async def _demonstrate(reactor: Any, folder: Path, timeline: Timeline) -> None:
    def endpoint() -> TCP4ServerEndpoint:
        return TCP4ServerEndpoint(reactor, 0, interface=_LOOPBACK)

    echo = await endpoint().listen(Factory.forProtocol(_Echo))
    timeline.say("demo", f"an echo service listens on {_LOOPBACK}:{echo.getHost().port}: bob's")
    server = PunchdServer(
        reactor=reactor,
        folder=StateFolder.at(str(folder / "server")),
        hosts=[_LOOPBACK],
        masterEndpoint=endpoint(),
        assistEndpoints=[endpoint(), endpoint()],
        registry=registryFor("memory:", reactor),
        observer=timeline,
    )
    server.startService()
    await server.whenListening()
    join = cast(JoinAddress, server.joinAddress)
    timeline.say("server", f"listens; peers join with {join.where}#{str(join.pin)[:12]}…")
    bob = _peer(
        reactor,
        folder,
        timeline,
        "bob",
        join,
        exposures={"echo": Exposure(TCP4ClientEndpoint(reactor, _LOOPBACK, echo.getHost().port))},
    )
    forward = _Listening(endpoint())
    target = Target("bob", "echo")
    alice = _peer(reactor, folder, timeline, "alice", join, forwards=[("a port", forward, target)])
    alice.pins.trust("bob", bob.identity.peerID)
    bob.pins.trust("alice", alice.identity.peerID)
    timeline.say("demo", "alice and bob have told each other their IDs, and trust them")
    for peer in (bob, alice):
        peer.startService()
    try:
        await _until(reactor, lambda: alice.isReady and bob.isReady)
        port = forward.port.getHost().port
        timeline.say("demo", f"a client connects to alice's forward on {_LOOPBACK}:{port}")
        began = reactor.seconds()
        client = _Client(Random(0).randbytes(_BYTES))
        await connectProtocol(TCP4ClientEndpoint(reactor, _LOOPBACK, port), client)
        digest = await client.finished
        seconds = reactor.seconds() - began
        timeline.say(
            "demo",
            f"{_BYTES >> 20} MiB went to bob's service and came back whole (SHA-256 "
            f"{digest[:12]}…) in {seconds * 1000:.0f} ms, {2 * _BYTES / seconds / 1e6:.0f} MB/s",
        )
        await alice.opener.reach("bob", again=False)
        link = alice.describe()["links"]["bob"]
        timeline.say(
            "demo", f"alice's path to bob: {link['path']} by {link['strategy']}; all is well"
        )
    finally:
        for peer in (alice, bob):
            await peer.stopService()
        await server.stopService()
        await echo.stopListening()


class _Listening:
    """
    A server endpoint that remembers its port.
    """

    def __init__(self, endpoint: TCP4ServerEndpoint) -> None:
        self._endpoint = endpoint
        self.port: Any = None

    def listen(self, factory: Factory) -> Deferred[Any]:
        """
        As the endpoint that it wraps.
        """

        def listening(port: Any) -> Any:
            self.port = port
            return port

        listened: Deferred[Any] = self._endpoint.listen(factory)
        return listened.addCallback(listening)


def _peer(
    reactor: Any, folder: Path, timeline: Timeline, name: str, join: Any, **more: Any
) -> PunchdPeer:
    return PunchdPeer(
        reactor=reactor,
        folder=StateFolder.at(str(folder / name)),
        name=name,
        servers=[join],
        strategies=loadStrategies(strategyMakers()),
        observer=timeline,
        **more,
    )


async def _until(reactor: Any, condition: Callable[[], bool]) -> None:
    while not condition():
        await deferLater(reactor, 0.01, lambda: None)
