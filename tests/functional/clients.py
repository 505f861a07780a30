"""
The other end of the server's services, over real sockets.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL.SSL import Context
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from punchd.identity.certificates import selfSigned
from punchd.identity.keys import Identity
from punchd.identity.tls import ConnectionCreator, Verdict, makeContext, onlyPeer
from punchd.values.joining import JoinAddress
from punchd.values.peers import PeerID
from punchd.wire.boxes import BoundedAMP
from punchd.wire.commands import Farewell, Hello, Introduction, Ping, RelayNote, Told
from punchd.wire.versions import MASTER_ALPN
from tests.functional.processes import PATIENCE


def makeIdentity() -> Identity:
    return Identity.of(Ed25519PrivateKey.generate())


class Wire(Protocol):
    """
    A connection whose bytes are ours.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.isLost = False
        self._wanted: list[tuple[int, Deferred[bytes]]] = []
        self._ends: list[Deferred[bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for count, waiting in list(self._wanted):
            if len(self.received) >= count:
                self._wanted.remove((count, waiting))
                waiting.callback(self.received)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isLost = True
        for waiting in self._ends:
            waiting.callback(self.received)

    def has(self, count: int) -> Deferred[bytes]:
        """
        @return: fires when so many bytes have come.
        """
        from twisted.internet import reactor

        waiting: Deferred[bytes] = Deferred()
        self._wanted.append((count, waiting))
        self.dataReceived(b"")
        return waiting.addTimeout(PATIENCE, reactor)

    def ended(self) -> Deferred[bytes]:
        """
        @return: fires with everything that has come, when the connection is closed.
        """
        from twisted.internet import reactor

        waiting: Deferred[bytes] = Deferred()
        if self.isLost:
            waiting.callback(self.received)
        else:
            self._ends.append(waiting)
        return waiting.addTimeout(PATIENCE, reactor)

    async def close(self) -> None:
        if not self.isLost:
            self.transport.abortConnection()
            await self.ended()


async def dial(port: int, data: bytes = b"") -> Wire:
    """
    A TCP connection to a port of this machine, on which C{data} is sent.
    """
    from twisted.internet import reactor

    wire: Wire = await connectProtocol(
        TCP4ClientEndpoint(reactor, "127.0.0.1", port),
        Wire(),
    )
    wire.transport.write(data)
    return wire


async def dialTLS(
    join: JoinAddress, protocol: Any, identity: Identity, context: Context | None = None
) -> None:
    """
    Connect C{protocol} to a server, in TLS.
    """
    from twisted.internet import reactor

    assert join.pin is not None
    judge = onlyPeer(join.pin, "the server")
    creator = ConnectionCreator(
        context or makeContext(selfSigned(identity), MASTER_ALPN), lambda: Verdict(judge)
    )
    endpoint = TCP4ClientEndpoint(reactor, join.host, join.port)
    await connectProtocol(wrapClientTLS(creator, endpoint), protocol)


class _Responders(amp.CommandLocator):
    def __init__(self) -> None:
        self.farewells: list[str] = []
        self.introductions: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []

    @Farewell.responder
    def _farewell(self, reason: str) -> dict[str, Any]:
        self.farewells.append(reason)
        return {}

    @Introduction.responder
    def _introduction(self, **arguments: Any) -> dict[str, Any]:
        self.introductions.append(arguments)
        return {}

    @Told.responder
    def _told(self, **arguments: Any) -> dict[str, Any]:
        self.told.append(arguments)
        return {}

    @RelayNote.responder
    def _relayNote(self, **arguments: Any) -> dict[str, Any]:
        self.notes.append(arguments)
        return {}

    @Ping.responder
    def _ping(self) -> dict[str, Any]:
        return {}


class _Connection(BoundedAMP):
    def __init__(self, responders: _Responders) -> None:
        super().__init__(responders, lambda violation: None)
        self.ends: list[Deferred[None]] = []

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        for one in self.ends:
            one.callback(None)


@define(eq=False)
class MasterClient:
    """
    A peer's master connection, by hand.
    """

    identity: Identity = field(factory=makeIdentity)
    heard: _Responders = field(factory=_Responders)
    _connection: _Connection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = _Connection(self.heard)

    async def connect(self, join: JoinAddress) -> None:
        await dialTLS(join, self._connection, self.identity)

    async def logIn(
        self,
        join: JoinAddress,
        name: str,
        accepts: frozenset[PeerID] = frozenset(),
        **offer: Any,
    ) -> dict[str, Any]:
        """
        Connect, and say hello.
        """
        await self.connect(join)
        return await self.ask(
            Hello,
            version=1,
            oldest=1,
            name=name,
            accepts=accepts,
            hosts=[],
            mapping=None,
            strategies=[("lan", 1)],
            **offer,
        )

    async def ask(self, command: type[amp.Command], **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self._connection.callRemote(command, **arguments)
        return answer

    def ended(self) -> Deferred[None]:
        """
        @return: fires when the connection is closed.
        """
        from twisted.internet import reactor

        end: Deferred[None] = Deferred()
        if self._connection.transport is None:
            end.callback(None)
        else:
            self._connection.ends.append(end)
        return end.addTimeout(PATIENCE, reactor)

    async def close(self) -> None:
        transport: Any = self._connection.transport
        if transport is not None:
            transport.abortConnection()
            await self.ended()
