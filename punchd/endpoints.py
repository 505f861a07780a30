"""
Other peers' services, and this peer's own, as Twisted's endpoints: whatever a Twisted program does
over TCP, it does over punchd. Protocols learn from C{transport.getPeer()}, and factories from
C{buildProtocol}'s argument, who is at the other end: a L{PeerAddress}.

What opens and exposes is a L{PunchdPeer<punchd.peer.service.PunchdPeer>} in this process, or a
L{RunningPeer<punchd.peer.running.RunningPeer>} in another one. The strings C{punchd:bob/ssh} and
C{punchd:ssh} are read by L{punchd.parsers}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import Refused
from punchd.identity.folder import StateFolder
from punchd.interfaces import IStreamExposer, IStreamOpener
from punchd.peer.running import RunningPeer
from punchd.peer.service import PunchdPeer
from punchd.plugin import loadStrategies, strategyMakers
from punchd.values.joining import JoinAddress
from punchd.values.peers import PeerAddress

_log = Logger()


def makePeer(
    reactor: Any, state: str, name: str, servers: Sequence[JoinAddress], **more: Any
) -> PunchdPeer:
    """
    A peer of this process, with everything that is installed. It runs from C{startService} to
    C{stopService}.

    @param state: the folder with its key and pins, which is made if it is not there.
    @param more: as L{PunchdPeer} takes it.
    @raise ConfigurationError: when something of this is not usable.
    """
    strategies = loadStrategies(strategyMakers())
    return PunchdPeer(
        reactor=reactor,
        folder=StateFolder.at(state),
        name=name,
        servers=servers,
        strategies=strategies,
        **more,
    )


@implementer(IStreamClientEndpoint)
@frozen
class PunchdClientEndpoint:
    """
    A service of another peer.

    C{connect} fires when the service itself has agreed, so that a refusal is its failure. It fails
    with a L{PunchdError<punchd.errors.PunchdError>}: C{UnknownPeer}, C{NoPath} (which has all that
    was tried), C{Unreachable}, C{Refused}; with C{CancelledError} when it is cancelled. The
    connection ends with C{ConnectionDone} when both sides have ended it in order, with
    C{ConnectionAborted} for who breaks it, and with C{ConnectionLost} in all other cases.

    @ivar peer: the name of a pin.
    """

    opener: IStreamOpener
    peer: str
    service: str

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        opening = Deferred.fromCoroutine(self._connect(protocolFactory))

        def cancel(connecting: Deferred[IProtocol]) -> None:
            # Not left to what is cancelled below, which may have words of its own for it.
            connecting.errback(CancelledError())
            opening.cancel()

        connecting: Deferred[IProtocol] = Deferred(cancel)

        def failed(failure: Failure) -> None:
            if not connecting.called:
                connecting.errback(failure)

        opening.addCallbacks(connecting.callback, failed)
        return connecting

    async def _connect(self, factory: Any) -> IProtocol:
        stream: Any = await self.opener.openStream(self.peer, self.service)
        try:
            await stream.opened
            factory.doStart()
            stream.whenOver().addCallback(lambda _: factory.doStop())
            protocol: Any = factory.buildProtocol(stream.getPeer())
            if protocol is None:
                raise Refused(f"the factory has no protocol for {self.peer}/{self.service}")
        except BaseException:
            stream.abortConnection()
            raise
        stream.carry(protocol)
        made: IProtocol = protocol
        return made


@implementer(IStreamServerEndpoint)
@frozen
class PunchdServerEndpoint:
    """
    A service of this peer. It is exposed while a port listens: to those whom the peer's access
    rules let in, and to nobody else.

    C{listen} fails with a L{PunchdError<punchd.errors.PunchdError>}: C{Refused} when the name is
    exposed already, C{Unreachable} when no peer runs. When the running peer is started anew, the
    service is exposed by it again.
    """

    exposer: IStreamExposer
    service: str

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, factory: Any) -> IListeningPort:
        taker = _Taker(self.service, factory)
        remove = await self.exposer.expose(self.service, taker.take)
        factory.doStart()
        return ServicePort(self.exposer.address, factory, remove)


@frozen
class _Taker:
    """
    Gives each stream a protocol.
    """

    _service: str
    _factory: Any

    def take(self, stream: Any) -> None:
        """
        Agree to a stream and carry it, or refuse it.
        """
        try:
            protocol = self._factory.buildProtocol(stream.getPeer())
        except Exception:
            _log.failure("the factory of the service {service}", service=self._service)
            protocol = None
        if protocol is None:
            stream.refuse(f"the service {self._service!r} takes nobody there now")
        else:
            stream.agree()
            stream.carry(protocol)


@implementer(IListeningPort)
@define(eq=False)
class ServicePort:
    """
    A service that is exposed, until it is told to stop; connections that run then go on.
    """

    _host: PeerAddress
    _factory: Any
    _remove: Callable[[], Deferred[None]]
    _stopped: bool = field(default=False, init=False)

    def startListening(self) -> None:
        """
        It listens from the beginning, and cannot begin again.
        """
        if self._stopped:
            raise CannotListenError(None, None, OSError("the port was stopped; make a new one"))

    def stopListening(self) -> Deferred[None]:
        if self._stopped:
            return succeed(None)
        self._stopped = True
        self._factory.doStop()
        return self._remove()

    def getHost(self) -> PeerAddress:
        return self._host


__all__ = ["PunchdClientEndpoint", "PunchdServerEndpoint", "RunningPeer", "ServicePort", "makePeer"]
