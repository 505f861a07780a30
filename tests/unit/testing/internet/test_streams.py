"""
What happens on a connection of the in-memory internet once it is open.
"""

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTCP, IReactorTime
from twisted.internet.protocol import Factory
from zope.interface import Interface, implementer
from zope.interface.verify import verifyObject

from punchd.testing.internet import Internet
from punchd.testing.internet.network import VirtualClock
from tests.unit.testing.internet.ends import Recording, World


def connected(**options: float) -> tuple[World, Recording, Recording]:
    world = World("port-restricted", "public", **options)
    world.bob.port.listen()
    dialled = world.alice.dial(world.addressOf(world.bob))
    assert world.run(lambda: bool(dialled.protocol and world.bob.accepted), 30.0)
    return world, dialled.protocol, world.bob.accepted[0]


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_bytesArriveInOrder(loss: float) -> None:
    world, one, two = connected(loss=loss, jitter=0.01)
    sent = bytes(range(256)) * 400
    one.transport.write(sent)
    two.transport.write(sent[::-1])
    world.run(lambda: len(one.received) == len(two.received) == len(sent), 600.0)
    assert two.received == sent
    assert one.received == sent[::-1]


def test_anEndIsOrderly() -> None:
    world, one, two = connected()
    one.transport.write(b"last words")
    one.transport.loseConnection()
    world.run(limit=1.0)
    assert two.received == b"last words"
    assert one.lost is not None
    assert one.lost.check(ConnectionDone)
    assert two.lost is not None
    assert two.lost.check(ConnectionDone)
    assert len(world.alice.host.stack.sockets) == 1


@implementer(IHalfCloseableProtocol)
class Half(Recording):
    ended = False

    def readConnectionLost(self) -> None:
        self.ended = True

    def writeConnectionLost(self) -> None:
        pass


def test_halvesEndOneByOne() -> None:
    world = World()
    halves: list[Half] = []

    def build() -> Half:
        halves.append(Half())
        return halves[-1]

    world.bob.port.acceptor = Factory.forProtocol(build)
    world.bob.port.listen()
    dialled = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=0.5)
    dialled.protocol.transport.loseWriteConnection()
    world.run(limit=0.5)
    assert halves[0].ended
    halves[0].transport.write(b"still here")
    world.run(limit=0.5)
    assert dialled.protocol.received == b"still here"


def test_anAbortIsAReset() -> None:
    world, one, two = connected()
    one.transport.write(b"never mind")
    one.transport.abortConnection()
    world.run(limit=1.0)
    assert two.lost is not None
    assert two.lost.check(ConnectionLost)


def test_nobodyReadsWhileItsProtocolPauses() -> None:
    world, one, two = connected()
    two.transport.pauseProducing()
    one.transport.write(b"patience")
    world.run(limit=1.0)
    assert two.received == b""
    two.transport.resumeProducing()
    world.run(limit=0.1)
    assert two.received == b"patience"


def test_aLineThatIsCutEndsAConnectionSometime() -> None:
    world, one, _ = connected()
    world.cutLink(world.alice.host)
    one.transport.write(b"hello?")
    world.run(limit=200.0)
    assert one.lost is not None


def test_aLineThatIsPutBackDeliversWhatWaited() -> None:
    world, one, two = connected()
    world.cutLink(world.alice.host)
    one.transport.write(b"hello?")
    world.run(limit=2.0)
    assert two.received == b""
    world.restoreLink(world.alice.host)
    world.run(limit=5.0)
    assert two.received == b"hello?"


def test_delaysAreThoseOfBothSites() -> None:
    world = World("public", "public", alice={"delay": 0.005}, bob={"delay": 0.120})
    world.bob.port.listen()
    dialled = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=1.0)
    assert dialled.seconds == pytest.approx(0.25)


def test_jitterComesOnTop() -> None:
    seconds = []
    for seed in range(20):
        world = World(jitter=0.01)
        world.network.random.seed(seed)
        world.bob.port.listen()
        dialled = world.alice.dial(world.addressOf(world.bob))
        world.run(limit=1.0)
        seconds.append(dialled.seconds)
    assert all(one is not None and 0.05 <= one <= 0.07 for one in seconds)
    assert len(set(seconds)) > 10


def test_theClockEndsWhenNothingHappens() -> None:
    clock = VirtualClock()
    clock.callLater(3.0, lambda: None)
    assert clock.run(limit=10.0) is False
    assert clock.seconds() == 10.0


def test_theClockNoticesWhoRunsInCircles() -> None:
    clock = VirtualClock()

    def again() -> None:
        clock.callLater(0, again)

    again()
    with pytest.raises(RuntimeError, match="no end"):
        clock.run()


@pytest.mark.parametrize("interface", [IReactorTCP, IReactorTime])
def test_aHostsReactorIsOne(interface: type[Interface]) -> None:
    verifyObject(interface, World().alice.host.reactor)


def test_aHostHasOneName() -> None:
    internet = Internet()
    internet.addPublic("bob")
    with pytest.raises(ValueError, match="already"):
        internet.addHost("bob", "random")


def test_whoHasNoAddressOfAFamilyCannotDialIt() -> None:
    world = World()
    socket = world.alice.host.reactor.makeSocket(10)
    assert socket.connect_ex(("2001:db8::1", 80)) != 0
    socket.close()
