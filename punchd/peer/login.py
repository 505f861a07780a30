"""
Connecting to a server and logging in, as one step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define
from OpenSSL.SSL import Context
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.identity.tls import ConnectionCreator, Judge, Verdict, onlyHost, onlyPeer
from punchd.net.held import HeldPort
from punchd.peer.conversation import Conversation
from punchd.values.addresses import makeAddress
from punchd.values.joining import JoinAddress

#: Seconds for TCP to the server.
CONNECT_TIMEOUT = 10.0


@implementer(IStreamClientEndpoint)
@define(repr=False)
class LoggingIn:
    """
    Connects and logs in, so that the client service sees only connections that the server lets in:
    it does not expect one to end before, and would not close one that was refused.
    """

    _where: str
    _endpoint: IStreamClientEndpoint
    _converse: Callable[[], Conversation]
    _login: Callable[[Conversation], Awaitable[None]]

    def __repr__(self) -> str:
        # The client service puts this into the log.
        return f"the server at {self._where}"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        conversation = self._converse()
        factory = Factory.forProtocol(lambda: conversation.protocol)
        factory.noisy = False
        await self._endpoint.connect(factory)
        transport: Any = conversation.protocol.transport
        session = protocolFactory.buildProtocol(transport.getPeer())
        assert session is not None
        try:
            await self._login(conversation)
        except BaseException:
            conversation.abort()
            raise
        session.makeConnection(transport)
        conversation.whenOver().addCallback(
            lambda _: session.connectionLost(Failure(ConnectionDone()))
        )
        return session


def secured(join: JoinAddress, context: Context, port: HeldPort) -> IStreamClientEndpoint:
    """
    An endpoint that connects from C{port} to a server, in TLS, and to nobody else.
    """
    judge: Judge = onlyHost(join.host)
    if join.pin is not None:
        judge = onlyPeer(join.pin, f"the server at {join.where}")
    creator = ConnectionCreator(context, lambda: Verdict(judge), _nameOf(join.host))
    endpoint: IStreamClientEndpoint = wrapClientTLS(
        creator, port.toHost(join.host, join.port, CONNECT_TIMEOUT)
    )
    return endpoint


def _nameOf(host: str) -> str | None:
    # Literal addresses are not sent as server names (RFC 6066, 3).
    try:
        makeAddress(host, 0)
    except ValueError:
        return host
    return None
