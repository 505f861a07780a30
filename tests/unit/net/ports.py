"""
Held ports without sockets: what becomes of a dialled connection is up to the test.
"""

from typing import Any

from attrs import define, field
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.values.addresses import Address
from tests.unit.net.memory import MemoryTransport


@define(eq=False)
class Dialling:
    """
    One socket that dials: what becomes of it is up to the test.
    """

    remote: Address
    factory: IProtocolFactory
    at: float
    isCancelled: bool = False
    connecting: Deferred[IProtocol] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connecting = Deferred(self._cancel)

    def _cancel(self, connecting: object) -> None:
        self.isCancelled = True

    def succeed(self) -> MemoryTransport:
        protocol: Any = self.factory.buildProtocol(self.remote)
        transport = MemoryTransport(protocol, False)
        protocol.makeConnection(transport)
        self.connecting.callback(protocol)
        return transport

    def fail(self, error: Exception) -> None:
        self.connecting.errback(Failure(error))


@implementer(IStreamClientEndpoint)
@define
class Endpoint:
    port: "FakePort"
    remote: Address

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        dialling = Dialling(self.remote, protocolFactory, self.port.clock.seconds())
        self.port.dials.append(dialling)
        return dialling.connecting


@define(eq=False)
class FakePort:
    """
    A held port without sockets.
    """

    clock: Clock
    dials: list[Dialling] = field(factory=list)
    number: int = 1001
    listening: int = 0
    isTaken: bool = False
    token: bytes | None = None
    observed: Address | None = None
    isClosed: bool = False
    interface: str = ""

    def reaches(self, remote: Address) -> bool:
        return isinstance(remote, IPv6Address) == bool(self.interface)

    def to(self, remote: Address) -> IStreamClientEndpoint:
        return Endpoint(self, remote)

    def listen(self) -> None:
        if self.isTaken:
            raise CannotListenError("", 1, OSError())
        self.listening += 1

    def unlisten(self) -> None:
        self.listening -= 1

    def close(self) -> None:
        self.isClosed = True
