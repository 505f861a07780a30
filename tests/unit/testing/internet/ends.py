"""
Two ends of what may become a connection, in the in-memory internet, without punchd's machinery.
"""

from typing import Any

from attrs import define, field
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.net.held import HeldPort
from punchd.testing.internet import Complaint, Host, Internet, Segment
from punchd.values.addresses import Address, makeAddress

#: Where the lookout listens that tells each end how it is seen.
LOOKOUT = 7000


class Recording(Protocol):
    """
    Remembers what came.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@define(eq=False)
class Dialled:
    """
    One try to connect.

    @ivar seconds: how long it took.
    """

    began: float
    seconds: float | None = None
    protocol: Any = None
    error: Any = None
    connecting: Any = None


@define(eq=False)
class End:
    """
    One end: a host, and a port that it holds.

    @ivar accepted: what came in.
    """

    internet: Internet
    host: Host
    accepted: list[Recording] = field(factory=list)
    port: HeldPort = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.port = HeldPort.take(self.host.reactor, self._accepting())

    def _accepting(self) -> Any:
        def build() -> Recording:
            self.accepted.append(Recording())
            return self.accepted[-1]

        factory: Any = Factory.forProtocol(build)
        factory.noisy = False
        return factory

    def dial(self, remote: Address) -> Dialled:
        now = self.internet.clock.seconds
        dialled = Dialled(now())
        factory = Factory.forProtocol(Recording)
        factory.noisy = False
        dialled.connecting = self.port.to(remote).connect(factory)

        def connected(protocol: Any) -> None:
            dialled.seconds, dialled.protocol = now() - dialled.began, protocol

        def failed(failure: Failure) -> None:
            dialled.seconds, dialled.error = now() - dialled.began, failure.value

        dialled.connecting.addCallbacks(connected, failed)
        return dialled

    def dialLater(self, delay: float, remote: Address) -> list[Dialled]:
        tries: list[Dialled] = []
        self.host.reactor.callLater(delay, lambda: tries.append(self.dial(remote)))
        return tries


class World(Internet):
    """
    Two ends, Alice and Bob, and how each is seen from outside.

    @ivar packets: what enters the public network.
    """

    def __init__(self, one: Any = "public", other: Any = "public", **options: Any) -> None:
        hosts = {name: options.pop(name, {}) for name in ("alice", "bob")}
        super().__init__(1, **options)
        self.packets: list[Segment | Complaint] = []
        self.watch(self.packets.append)
        self.alice = End(self, self.addHost("alice", one, **hosts["alice"]))
        self.bob = End(self, self.addHost("bob", other, **hosts["bob"]))
        self._seen: list[Address] = []
        self.lookOut(self.server.host.address, LOOKOUT)

    def lookOut(self, address: str, port: int) -> None:
        """
        Let the server tell at one more port how ends are seen.
        """
        world = self

        class Lookout(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Protocol:
                world._seen.append(addr)
                return Protocol()

        self.server.host.reactor.listenTCP(port, Lookout(), interface=address)

    def seen(self, end: End, port: int = LOOKOUT, address: str = "") -> Address:
        """
        How an end's port is seen. The connection stays open.
        """
        before = len(self._seen)
        end.dial(makeAddress(address or self.server.host.address, port))
        assert self.run(lambda: len(self._seen) > before, 5.0)
        return self._seen[-1]

    def addressOf(self, end: End) -> Address:
        """
        The end's own address.
        """
        return makeAddress(end.host.address, end.port.number)
