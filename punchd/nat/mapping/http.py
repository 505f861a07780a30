"""
One question by HTTP to the router, with bounds on what comes back and how long it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from punchd.errors import Unreachable
from punchd.nat.mapping.igd import LONGEST_DOCUMENT, Place

#: Seconds for one question; small routers take two.
_PATIENCE = 6.0

#: Bytes of one answer with its head.
_MOST_BYTES = LONGEST_DOCUMENT + 16384

_NO_HEADERS: Mapping[str, str] = {}


async def fetch(
    reactor: Any,
    router: str,
    place: Place,
    headers: Mapping[str, str] = _NO_HEADERS,
    question: bytes | None = None,
) -> bytes:
    """
    The document at C{place} of the router, or its answer to C{question}; whatever the status is,
    because a SOAP fault comes with status 500.

    @raise Unreachable: when there is no answer in time.
    """
    agent = Agent.usingEndpointFactory(reactor, _OnlyTheRouter(reactor, router, place.port))
    reading = _Reading()
    asking: Deferred[Any] = agent.request(
        b"GET" if question is None else b"POST",
        f"http://{router}:{place.port}{place.target}".encode("ascii"),
        Headers({name: [value] for name, value in headers.items()}),
        None if question is None else _Body(question),
    )
    asking.addCallback(reading.begin)
    asking.addTimeout(_PATIENCE, reactor)
    try:
        document: bytes = await _cancellable(asking)
    except CancelledError:
        raise
    except Exception as error:  # every way in which HTTP can fail
        raise Unreachable(
            f"the router's UPnP service does not answer: {type(error).__name__}"
        ) from None
    return document


def _cancellable(asking: Deferred[Any]) -> Deferred[Any]:
    """
    What fires as C{asking} does, but with L{CancelledError} when it is cancelled: an HTTP client
    has errors of its own for that.
    """

    def cancel(answered: Deferred[Any]) -> None:
        answered.errback(Failure(CancelledError()))
        asking.cancel()

    def told(result: Any) -> None:
        if not answered.called:
            answered.callback(result)

    answered: Deferred[Any] = Deferred(cancel)
    asking.addBoth(told)
    return answered


@implementer(IBodyProducer)
@define
class _Body:
    _body: bytes

    @property
    def length(self) -> int:
        return len(self._body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        pass

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass


class _Reading(Protocol):
    """
    The body of an answer.
    """

    transport: Any = None

    def __init__(self) -> None:
        self._received: list[bytes] = []
        self._whole: Deferred[bytes] = Deferred(lambda _: self._stop())

    def begin(self, response: Any) -> Deferred[bytes]:
        """
        Read it; fires when it is there.
        """
        response.deliverBody(self)
        return self._whole

    def dataReceived(self, data: bytes) -> None:
        self._received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A connection that ends where no length was told is an end, too.
        if not self._whole.called:
            self._whole.callback(b"".join(self._received))

    def _stop(self) -> None:
        if self.transport is not None:
            # Twisted gives a proxy of the transport here, which cannot abort.
            self.transport.loseConnection()


@implementer(IAgentEndpointFactory)
@define
class _OnlyTheRouter:
    """
    Whatever a URL says, one place is dialled.
    """

    _reactor: Any
    _router: str
    _port: int

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return _BoundedEndpoint(
            TCP4ClientEndpoint(self._reactor, self._router, self._port, timeout=_PATIENCE)
        )


@implementer(IStreamClientEndpoint)
@define
class _BoundedEndpoint:
    """
    Connections that are aborted when too much comes.
    """

    _endpoint: IStreamClientEndpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = _BoundedFactory(protocolFactory)
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(lambda bounded: bounded.inner)


class _BoundedFactory(Factory):
    noisy = False

    def __init__(self, inner: IProtocolFactory) -> None:
        self._inner = inner

    def buildProtocol(self, addr: IAddress | None) -> _Bounded | None:
        inner = self._inner.buildProtocol(addr)  # type: ignore[arg-type]
        return None if inner is None else _Bounded(inner)


class _Bounded(Protocol):
    transport: Any

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._left = _MOST_BYTES

    def connectionMade(self) -> None:
        self.inner.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.transport.abortConnection()
        else:
            self.inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.inner.connectionLost(reason)
