"""
The reactor of one host in the in-memory internet.

Twisted's own transports run on it, over simulated sockets; so a protocol meets the same events in
the same order as on a real network.
"""

from __future__ import annotations

import socket as real
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IHalfCloseableDescriptor,
    IListeningPort,
    IProtocolFactory,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.testing.internet.sockets import Socket
from punchd.testing.internet.stacks import Stack


@implementer(IReactorTCP, IReactorTime)
class SimulatedReactor:
    """
    Made for each host; all of an internet's have one clock.

    @ivar stack: the host's TCP.
    """

    def __init__(self, clock: Clock, stack: Stack) -> None:
        self.stack = stack
        self._clock = clock
        self._calls: list[IDelayedCall] = []
        # Beyond these, it is worth while to look which are over.
        self._mostCalls = 64
        self._sockets: dict[int, Socket] = {}
        self._readers: dict[int, Any] = {}
        self._writers: dict[int, Any] = {}
        self._looking: set[int] = set()
        # A closed descriptor has no number any more.
        self._numbers: dict[Any, int] = {}

    # Time.

    def seconds(self) -> float:
        now: float = self._clock.seconds()
        return now

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        call = self._clock.callLater(delay, callable, *args, **kwargs)
        self._calls.append(call)
        if len(self._calls) > self._mostCalls:
            self._calls = self.getDelayedCalls()
            self._mostCalls = 2 * len(self._calls) + 64
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """
        Those that were asked for on this host, and are still to come.
        """
        return [one for one in self._calls if one.active()]

    # TCP.

    def makeSocket(self, family: int = real.AF_INET, type: int = real.SOCK_STREAM) -> Socket:
        """
        What C{socket.socket} is to a program on this host.
        """
        assert type == real.SOCK_STREAM, "there is nothing but TCP in this internet"
        made = Socket(self.stack, family)
        self.watch(made)
        return made

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> IConnector:
        connector = _Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenTCP(
        self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        listening = _Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    # Descriptors.

    def addReader(self, reader: Any) -> None:
        self._add(self._readers, reader)

    def addWriter(self, writer: Any) -> None:
        self._add(self._writers, writer)

    def removeReader(self, reader: Any) -> None:
        self._remove(self._readers, reader)

    def removeWriter(self, writer: Any) -> None:
        self._remove(self._writers, writer)

    def removeAll(self) -> list[Any]:
        everything = self.getReaders() + self.getWriters()
        self._readers.clear()
        self._writers.clear()
        return everything

    def getReaders(self) -> list[Any]:
        return list(self._readers.values())

    def getWriters(self) -> list[Any]:
        return list(self._writers.values())

    def _add(self, descriptors: dict[int, Any], descriptor: Any) -> None:
        number = self._numbers[descriptor] = descriptor.fileno()
        descriptors[number] = descriptor
        self._look(number)

    def _remove(self, descriptors: dict[int, Any], descriptor: Any) -> None:
        descriptors.pop(self._numbers.get(descriptor, -1), None)

    def watch(self, socket: Socket) -> None:
        """
        From now on, hear of what happens to C{socket}.
        """
        socket.watcher = self
        self._sockets[socket.fileno()] = socket

    def changed(self, socket: Socket) -> None:
        """
        A socket may be ready for something.
        """
        self._look(socket.fileno())

    def _look(self, number: int) -> None:
        if number not in self._looking and number in self._sockets:
            self._looking.add(number)
            self._clock.callLater(0, self._turn, number)

    def _turn(self, number: int) -> None:
        self._looking.discard(number)
        socket = self._sockets[number]
        if socket.fileno() < 0:
            del self._sockets[number]
            self._readers.pop(number, None)
            self._writers.pop(number, None)
            self._numbers = {one: at for one, at in self._numbers.items() if at != number}
            return
        for descriptors, isReady, do in (
            (self._readers, lambda: socket.isReadable, "doRead"),
            (self._writers, lambda: socket.isWritable, "doWrite"),
        ):
            descriptor = descriptors.get(number)
            if descriptor is not None and socket.fileno() >= 0 and isReady():
                why = getattr(descriptor, do)()
                if why:
                    self._disconnect(descriptor, why, isRead=do == "doRead")
                self._look(number)

    def _disconnect(self, descriptor: Any, why: Exception, isRead: bool) -> None:
        # As C{twisted.internet.posixbase} does it.
        self.removeReader(descriptor)
        isDone = isinstance(why, ConnectionDone)
        if isDone and isRead and IHalfCloseableDescriptor.providedBy(descriptor):
            descriptor.readConnectionLost(Failure(why))
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))


class _Client(tcp.Client):
    reactor: Any

    def createInternetSocket(self) -> Any:
        return self._made.makeSocket(self.addressFamily)

    def __init__(
        self, host: str, port: int, bindAddress: Any, connector: Any, reactor: SimulatedReactor
    ) -> None:
        self._made = reactor
        super().__init__(host, port, bindAddress, connector, reactor)


class _Connector(tcp.Connector):
    reactor: Any

    def _makeTransport(self) -> _Client:
        return _Client(self.host, self.port, self.bindAddress, self, self.reactor)


class _Port(tcp.Port):
    reactor: Any
    _reuseAddress: bool
    _reusePort: bool

    def createInternetSocket(self) -> Any:
        made = self.reactor.makeSocket(self.addressFamily)
        for wanted, option in (
            (self._reuseAddress, real.SO_REUSEADDR),
            (self._reusePort, real.SO_REUSEPORT),
        ):
            if wanted:
                made.setsockopt(real.SOL_SOCKET, option, 1)
        return made
