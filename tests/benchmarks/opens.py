"""
How many streams two peers can open and close a second, and what that leaves behind.

Run it: C{python -m tests.benchmarks.opens [STREAMS]}. Two peers, each a process, with a link over
loopback: TLS, sockets and all. Alice opens a stream to a service that Bob's process has inside,
asks a byte, is answered, and both close; a hundred at once, and one after the other. Seconds are
those of the clock; processor time is that of both. What is left behind is told of each process:
what malloc has given out (mallinfo2(3)), and objects of Python's own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from punchd.endpoints import PunchdServerEndpoint, makePeer
from punchd.errors import PunchdError
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from punchd.peer.service import PunchdPeer
from punchd.server.registry.memory import MemoryRegistry
from punchd.server.service import PunchdServer
from punchd.values.joining import JoinAddress
from tests.benchmarks.memory import inUse

_AT_ONCE = 100
_PATIENCE = 30.0


class _Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.loseConnection()


class _Telling(Protocol):
    """
    Says what its process holds.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(json.dumps(_held()).encode())
        self.transport.loseConnection()


class _Asking(Protocol):
    """
    Asks a byte if it C{asks}; C{over} fires at the end, with what came.
    """

    transport: Any

    def __init__(self, asks: bool = True) -> None:
        self._asks = asks
        self._received = b""
        self.over: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        if self._asks:
            self.transport.write(b"?")

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(self._received)


def _held() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "bytes": inUse(),
        "blocks": sys.getallocatedblocks(),
        "seconds": usage.ru_utime + usage.ru_stime,
    }


async def _serve(reactor: Any, folder: str, join: str) -> None:
    """
    Bob, until he is ended.
    """
    peer = makePeer(reactor, folder, "bob", [JoinAddress.parse(join)])
    peer.startService()
    for service, protocol in (("echo", _Echo), ("held", _Telling)):
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        await PunchdServerEndpoint(peer, service).listen(factory)
    await Deferred()


async def _measure(reactor: Any, folder: Path, count: int) -> None:
    def endpoint() -> TCP4ServerEndpoint:
        return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

    server = PunchdServer(
        reactor=reactor,
        folder=StateFolder.at(str(folder / "server")),
        hosts=["127.0.0.1"],
        masterEndpoint=endpoint(),
        assistEndpoints=[endpoint(), endpoint()],
        registry=MemoryRegistry(),
    )
    await server.listen()
    server.startService()
    assert server.joinAddress is not None
    states = {name: StateFolder.at(str(folder / name)) for name in ("alice", "bob")}
    for name, other in (("alice", "bob"), ("bob", "alice")):
        Pins.inFolder(states[name]).trust(other, Identity.inFolder(states[other]).peerID)
    join = server.joinAddress
    argv = [sys.executable, "-m", "tests.benchmarks.opens", "bob", str(folder / "bob"), str(join)]
    bob = subprocess.Popen(argv)
    alice = makePeer(reactor, str(folder / "alice"), "alice", [join])
    alice.startService()
    try:
        await _reach(reactor, alice)
        for atOnce in (_AT_ONCE, 1):
            await _run(alice, count // 10, atOnce)
            await _tell(alice, count, atOnce)
    finally:
        bob.terminate()
        bob.wait()
        await alice.stopService()
        await server.stopService()


async def _reach(reactor: Any, alice: PunchdPeer) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            await alice.opener.reach("bob", again=False)
            return
        except PunchdError:
            if time.monotonic() > until:
                raise
            await deferLater(reactor, 0.1)


async def _tell(alice: PunchdPeer, count: int, atOnce: int) -> None:
    before = [_held(), await _heldByBob(alice)]
    began = time.monotonic()
    await _run(alice, count, atOnce)
    seconds = time.monotonic() - began
    after = [_held(), await _heldByBob(alice)]
    grown = [
        {what: there[what] - here[what] for what in here}
        for here, there in zip(before, after, strict=True)
    ]
    cpu = sum(one["seconds"] for one in grown)
    print(
        f"{count / seconds:6.0f} streams a second, {atOnce:3} at once; "
        f"{cpu / count * 1e6:4.0f} us of processor time each, of both ends"
    )
    for name, one in zip(("who opens", "who serves"), grown, strict=True):
        print(f"       {name}: {one['bytes']:+.0f} bytes, {one['blocks']:+.0f} objects after them")


async def _run(alice: PunchdPeer, count: int, atOnce: int) -> None:
    for _ in range(count // atOnce):
        answers = await gatherResults([_ask(alice, "echo") for _ in range(atOnce)])
        assert answers == [b"?"] * atOnce


def _ask(alice: PunchdPeer, service: str) -> Deferred[bytes]:
    asking = _Asking(service == "echo")

    def opened(stream: Any) -> Deferred[bytes]:
        stream.carry(asking)
        return asking.over

    return alice.opener.openStream("bob", service).addCallback(opened)


async def _heldByBob(alice: PunchdPeer) -> dict[str, float]:
    held: dict[str, float] = json.loads(await _ask(alice, "held"))
    return held


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """
    Measure, and print; or be Bob.
    """
    if arguments[:1] == ("bob",):
        return Deferred.fromCoroutine(_serve(reactor, *arguments[1:]))
    folder = tempfile.TemporaryDirectory()
    count = int(arguments[0]) if arguments else 10_000
    measuring = Deferred.fromCoroutine(_measure(reactor, Path(folder.name), count))

    def done(result: Any) -> Any:
        folder.cleanup()
        return result

    return measuring.addBoth(done)


if __name__ == "__main__":
    react(main, sys.argv[1:])
