"""
Connecting to a server and logging in, as one step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.peer.conversation import Conversation
from punchd.values.addresses import makeAddress


@implementer(IStreamClientEndpoint)
@define(repr=False)
class LoggingIn:
    """
    Connects and logs in, so that the L{ClientService} sees only connections that the server lets
    in: it does not expect one to end before, and would not close one that was refused.
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


def nameOf(host: str) -> str | None:
    """
    The name by which a TLS client calls C{host}, if it is one: literal addresses are not sent as
    server names (RFC 6066, 3).
    """
    try:
        makeAddress(host, 0)
    except ValueError:
        return host
    return None
