"""
The server's memory for each idle registered peer.

Run it with C{python -m tests.benchmarks.idle [PEERS]}: a real C{punchd-server} on loopback, and
PEERS TLS connections with their own keys that have logged in and answer pings, from a second
process. Prints the growth of the server's own memory (anonymous resident pages) per peer.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater, react

from punchd.identity.certificates import selfSigned
from punchd.identity.keys import Identity
from punchd.identity.tls import ConnectionCreator, Verdict, makeContext, onlyPeer
from punchd.peer.conversation import Call, Conversation, Greeting
from punchd.plugin import loadStrategies, strategyMakers
from punchd.strategies.planning import preferred
from punchd.testing.daemons import program
from punchd.values.addresses import Address, makeAddress
from punchd.values.joining import JoinAddress
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.versions import MASTER_ALPN

#: Logins under way at a time: fewer than the server allows strangers from one address.
_AT_ONCE = 32

#: Loopback addresses that the peers come from.
_SOURCES = 200


class _Nobody:
    """
    A peer that nobody calls.
    """

    def called(self, call: Call) -> None:
        raise AssertionError("nobody was to call")

    def told(self, session: bytes, strategy: str, body: bytes, observed: Address | None) -> None:
        raise AssertionError("nobody was to say anything")

    def relayNoted(self, session: bytes, reason: str, isOver: bool) -> None:
        raise AssertionError("nobody has a relayed path")

    def backAgain(self) -> None:
        """It was lost, which is counted where that matters."""


def main() -> None:
    """
    Measure, and print the figures.
    """
    peers = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        loopback = "interface=127.0.0.1"
        server = subprocess.Popen(
            [
                *(program("twistd"), "-n", "--pidfile=", "punchd-server"),
                *("--state", folder, "--host", "127.0.0.1", "--registry", "memory:"),
                *("--master", f"tcp:0:{loopback}", "--assist", f"tcp:0:{loopback}"),
                *("--relay", "off"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            join = Path(folder) / "join"
            while not join.exists():
                time.sleep(0.1)
            address = JoinAddress.parse(join.read_text())
            react(_fill, [server.pid, address, peers])
        finally:
            server.kill()
            server.wait()


def _fill(reactor: Any, pid: int, address: JoinAddress, peers: int) -> Deferred[None]:
    return Deferred.fromCoroutine(_measure(reactor, pid, address, peers))


async def _measure(reactor: Any, pid: int, address: JoinAddress, peers: int) -> None:
    conversations: list[Conversation] = []
    # One peer first, so that what the server loads for the first is not counted.
    conversations.append(await _login(reactor, address, 0))
    await deferLater(reactor, 2, lambda: None)
    before, began = _memory(pid), time.monotonic()
    for first in range(1, peers + 1, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, peers + 1))
        logins = [Deferred.fromCoroutine(_login(reactor, address, one)) for one in numbers]
        for _, conversation in await DeferredList(logins, fireOnOneErrback=True):
            conversations.append(conversation)
    seconds = time.monotonic() - began
    # A few rounds of pings: idle peers are not silent.
    await deferLater(reactor, 15, lambda: None)
    lost = sum(conversation.isOver for conversation in conversations)
    after = _memory(pid)
    print(f"{peers} peers logged in at {peers / seconds:.0f} a second; {lost} were lost")
    print(f"the server's memory: {before / 1024:.1f} MiB before, {after / 1024:.1f} MiB with them")
    print(f"{(after - before) / peers:.1f} KiB for each idle peer")
    for conversation in conversations:
        conversation.abort()
    await deferLater(reactor, 1, lambda: None)


async def _login(reactor: Any, address: JoinAddress, number: int) -> Conversation:
    identity = Identity.of(Ed25519PrivateKey.generate())
    context = makeContext(selfSigned(identity), MASTER_ALPN, lean=True)
    pin = address.pin
    if pin is None:
        raise ValueError("a join address without a pin")
    creator = ConnectionCreator(context, lambda: Verdict(onlyPeer(pin, "the server")))
    # The server lets only so many strangers a second in from one address.
    source = f"127.0.{number % _SOURCES + 1}.1"
    endpoint = TCP4ClientEndpoint(reactor, address.host, address.port, bindAddress=(source, 0))
    factory = Factory.forProtocol(lambda: Conversation(reactor, _Nobody()).protocol)
    factory.noisy = False
    protocol: Any = await wrapClientTLS(creator, endpoint).connect(factory)
    conversation: Conversation = protocol.conversation
    # What a peer of a small family says.
    friends = frozenset({PeerID(bytes([one] * 32)) for one in range(3)})
    offer = Offer(hosts=(makeAddress(source, 0),), strategies=_strategies())
    await conversation.login(lambda _: Greeting(f"peer{number}", friends, offer))
    return conversation


def _strategies() -> tuple[tuple[str, int], ...]:
    strategies = loadStrategies(strategyMakers())
    return tuple((name, strategies[name].version) for name in preferred(list(strategies)))


def _memory(pid: int) -> int:
    """
    Anonymous resident memory, in KiB.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} is gone")


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    main()
