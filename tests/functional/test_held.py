"""
Tests for L{punchd.net.held} and what races on it, on real sockets of the loopback interface.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import Unreachable
from punchd.net.held import HeldPort
from punchd.net.racing import RaceLost, RacingEndpoint
from punchd.peer.arrivals import MOST_STRANGERS, Arrivals
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Result
from tests.functional.clients import Wire, dial
from tests.functional.processes import sleep


class Met(Protocol):
    """
    A connection, and whether it is gone.
    """

    transport: Any
    isLost = False

    def connectionMade(self) -> None:
        self.ended: list[Deferred[None]] = []

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isLost = True
        for one in self.ended:
            one.callback(None)

    async def end(self) -> None:
        if not self.isLost:
            self.ended.append(Deferred())
            self.transport.abortConnection()
            await self.ended[-1]


class Meeting(Factory):
    """
    Remembers what it made.
    """

    noisy = False

    def __init__(self) -> None:
        self.met: list[Met] = []

    def buildProtocol(self, addr: object) -> Met:
        self.met.append(Met())
        return self.met[-1]


@define
class Ports:
    """
    Held ports that are closed at the test's end, with all their connections.
    """

    ports: list[HeldPort] = field(factory=list)
    factories: list[Meeting] = field(factory=list)

    def take(self, number: int = 0, acceptor: Any = None, interface: str = "") -> HeldPort:
        from twisted.internet import reactor

        port = HeldPort.take(reactor, acceptor or self.factory(), number, interface)
        self.ports.append(port)
        return port

    def factory(self) -> Meeting:
        self.factories.append(Meeting())
        return self.factories[-1]

    async def close(self) -> None:
        for port in self.ports:
            await port.close()
        for factory in self.factories:
            for met in factory.met:
                if met.transport is not None:
                    await met.end()


@pytest_twisted.async_yield_fixture
async def ports() -> AsyncIterator[Ports]:
    ports = Ports()
    yield ports
    await ports.close()


def at(port: HeldPort) -> Address:
    return makeAddress("127.0.0.1", port.number)


@ensureDeferred
async def test_severalConnectionsShareThePort(ports: Ports) -> None:
    one, two, three = ports.take(), ports.take(), ports.take()
    two.listen()
    three.listen()
    factory = ports.factory()
    for other in (two, three):
        await one.to(at(other)).connect(factory)
    assert {met.transport.getHost().port for met in factory.met} == {one.number}


@ensureDeferred
async def test_thePortListensAndDialsAtOnce(ports: Ports) -> None:
    one, two = ports.take(), ports.take()
    one.listen()
    two.listen()
    await one.to(at(two)).connect(ports.factory())
    assert one.isListening


@ensureDeferred
async def test_itListensUntilEverybodyHasStopped(ports: Ports) -> None:
    port = ports.take()
    port.listen()
    port.listen()
    await port.unlisten()
    await (await dial(port.number)).close()
    await port.unlisten()
    assert not port.isListening
    with pytest.raises(Exception, match=r"[Rr]efused"):
        await dial(port.number)


@ensureDeferred
async def test_nobodyListensAtFirst(ports: Ports) -> None:
    with pytest.raises(Exception, match=r"[Rr]efused"):
        await dial(ports.take().number)


@ensureDeferred
async def test_connectionsOutliveTheHolder(ports: Ports) -> None:
    one, two = ports.take(), ports.take()
    two.listen()
    factory = ports.factory()
    await one.to(at(two)).connect(factory)
    await one.close()
    await sleep(0.01)
    assert not factory.met[0].isLost


@ensureDeferred
async def test_aPortThatIsTakenIsUnreachable(ports: Ports) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(Unreachable, match="cannot take a local TCP port"):
            ports.take(taken.getsockname()[1])


@ensureDeferred
async def test_aHeldPortIsNobodyElses(ports: Ports) -> None:
    port = ports.take()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", port.number))


@ensureDeferred
async def test_afterItsEndThePortIsFree(ports: Ports) -> None:
    port = ports.take()
    await port.close()
    with socket.socket() as other:
        other.bind(("", port.number))


def race(
    port: HeldPort, remotes: list[Address], factory: Factory, **options: Any
) -> tuple[RacingEndpoint, Deferred[Any]]:
    from twisted.internet import reactor

    clock: Any = reactor
    endpoint = RacingEndpoint(
        clock, port, remotes, Random(1), lambda protocol: succeed(None), **options
    )
    return endpoint, endpoint.connect(factory)


@ensureDeferred
async def test_twoRacesMeet(ports: Ports) -> None:
    one, two = ports.take(), ports.take()
    factory = ports.factory()
    _, first = race(one, [at(two)], factory, listening=True, retries=50)
    _, second = race(two, [at(one)], factory, listening=True, retries=50)
    await first
    second.addErrback(lambda failure: None)
    second.cancel()


@ensureDeferred
async def test_whereNobodyListensTheRaceIsLost(ports: Ports) -> None:
    one, two = ports.take(), ports.take()
    endpoint, racing = race(one, [at(two)], ports.factory(), retries=3)
    with pytest.raises(RaceLost):
        await racing
    assert [each.result for each in endpoint.tries] == [Result.REFUSED] * 3


@ensureDeferred
async def test_anEndedRaceLeavesNoListener(ports: Ports) -> None:
    one, two = ports.take(), ports.take()
    _, racing = race(one, [at(two)], ports.factory(), listening=True, retries=3)
    racing.addErrback(lambda failure: None)
    racing.cancel()
    assert not one.isListening


def hasIPv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not hasIPv6(), reason="this machine has no IPv6, not even on loopback")
class TestIPv6:
    """
    Ports at an IPv6 address.
    """

    @ensureDeferred
    async def test_twoRacesMeet(self, ports: Ports) -> None:
        one, two = ports.take(interface="::1"), ports.take(interface="::1")
        factory = ports.factory()
        _, first = race(one, [self.at(two)], factory, listening=True, retries=50)
        _, second = race(two, [self.at(one)], factory, listening=True, retries=50)
        await first
        second.addErrback(lambda failure: None)
        second.cancel()

    @ensureDeferred
    async def test_severalConnectionsShareThePort(self, ports: Ports) -> None:
        one, two, three = (ports.take(interface="::1") for _ in range(3))
        two.listen()
        three.listen()
        factory = ports.factory()
        for other in (two, three):
            await one.to(self.at(other)).connect(factory)
        assert {met.transport.getHost() for met in factory.met} == {self.at(one)}

    @ensureDeferred
    async def test_itIsNotInTheWayOfIPv4(self, ports: Ports) -> None:
        """
        The same number may be somebody else's there.
        """
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = ports.take(other.getsockname()[1], interface="::1")
            port.listen()
            target = ports.take(interface="::1")
            target.listen()
            await port.to(self.at(target)).connect(ports.factory())

    @ensureDeferred
    async def test_itReachesItsOwnFamilyAlone(self, ports: Ports) -> None:
        four, six = ports.take(), ports.take(interface="::1")
        assert four.reaches(at(four))
        assert six.reaches(self.at(six))
        assert not four.reaches(self.at(six))
        assert not six.reaches(at(four))

    @ensureDeferred
    async def test_anAddressThatIsNotOursCannotBeTaken(self, ports: Ports) -> None:
        with pytest.raises(Unreachable, match="cannot take a local TCP port"):
            ports.take(interface="2001:db8::dead")

    def at(self, port: HeldPort) -> Address:
        return makeAddress("::1", port.number)


class TestStrangers:
    """
    A held port that listens, where nobody is expected.
    """

    @pytest.mark.parametrize(
        "data",
        [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01" + bytes(500), b"\xff" * 100_000],
        ids=["HTTP", "TLS", "noise"],
    )
    @ensureDeferred
    async def test_garbageIsDisconnectedAtOnce(self, ports: Ports, data: bytes) -> None:
        port = ports.take(acceptor=self.arrivals())
        port.listen()
        wire = await dial(port.number, data)
        assert await wire.ended() == b""

    @ensureDeferred
    async def test_manySilentOnesAreBounded(self, ports: Ports) -> None:
        port = ports.take(acceptor=self.arrivals())
        port.listen()
        wires = [await dial(port.number) for _ in range(MOST_STRANGERS + 10)]
        for wire in wires[MOST_STRANGERS:]:
            await wire.ended()
        assert sum(wire.isLost for wire in wires) == 10
        for wire in wires:
            await wire.close()

    @ensureDeferred
    async def test_whenTheyAreGoneOthersMayCome(self, ports: Ports) -> None:
        port = ports.take(acceptor=self.arrivals())
        port.listen()
        wires: list[Wire] = [await dial(port.number) for _ in range(MOST_STRANGERS)]
        for wire in wires:
            await wire.close()
        await sleep(0.05)
        last = await dial(port.number)
        await sleep(0.05)
        assert not last.isLost
        await last.close()

    def arrivals(self) -> Arrivals:
        from twisted.internet import reactor

        clock: Any = reactor
        return Arrivals(clock, lambda session: None)
