"""
Tests for L{punchd.peer.families}.
"""

from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import Unreachable
from punchd.net.held import HeldPort
from punchd.peer.families import (
    FRESH_PATIENCE,
    GLANCE,
    PATIENCE,
    IPv6Candidate,
    hostCandidates,
)
from punchd.peer.ports import FreshPorts
from punchd.values.addresses import Address, makeAddress
from punchd.wire.commands import MOST_HOSTS
from tests.unit.net.ports import FakePort

ASSIST = makeAddress("2001:db8::53", 7764)
HOME, AWAY = "2001:db8:1::1", "2001:db8:2::1"


def test_theHostTowardTheServerComesFirst() -> None:
    others = ["10.0.0.1", "192.168.1.7", "172.16.0.9"]
    assert hostCandidates("192.168.1.7", others) == ("192.168.1.7", "10.0.0.1", "172.16.0.9")


def test_otherHostsAreToldOnlyIfTheyArePrivate() -> None:
    others = ["127.0.0.1", "169.254.1.1", "203.0.113.9", "10.0.0.1", "224.0.0.1"]
    assert hostCandidates("203.0.113.1", others) == ("203.0.113.1", "10.0.0.1")


def test_noMoreAreToldThanTheWireTakes() -> None:
    others = [f"10.0.0.{number}" for number in range(1, 100)]
    assert len(hostCandidates("192.168.1.7", others)) == MOST_HOSTS


def test_towardAServerOfIPv6ThereIsOne() -> None:
    assert hostCandidates(HOME, ["10.0.0.1"]) == (HOME,)


@define(eq=False)
class Ports:
    """
    Fresh ports that the assist service sees when the test says so.
    """

    clock: Clock
    asked: list[tuple[Address, str, Deferred[FakePort]]] = field(factory=list)
    released: list[object] = field(factory=list)

    def take(self, assist: Address, interface: str = "") -> Deferred[FakePort]:
        self.asked.append((assist, interface, Deferred()))
        return self.asked[-1][2]

    def release(self, port: object) -> None:
        self.released.append(port)


@define(eq=False)
class World:
    """
    A candidate, and the host and server around it.
    """

    clock: Clock = field(factory=Clock)
    source: str | None = HOME
    assist: Address | None = ASSIST
    changes: int = 0
    ports: Ports = field(init=False)
    candidate: IPv6Candidate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ports = Ports(self.clock)
        self.candidate = IPv6Candidate(
            self.clock,
            cast(FreshPorts, self.ports),
            lambda: self.assist,
            lambda remote: self.source,
            self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def answer(self, observed: str | None = None) -> Any:
        """
        Let the assist service see the port that was asked for last.
        """
        _, interface, taking = self.ports.asked[-1]
        seen = makeAddress(observed or interface, 4000 + len(self.ports.asked))
        port = FakePort(self.clock, observed=seen, token=b"t" * 16, interface=interface)
        taking.callback(port)
        return port

    def begun(self) -> "World":
        self.candidate.begin()
        return self


def test_thePortIsTakenAtOurAddressTowardTheServer() -> None:
    world = World().begun()
    assert world.ports.asked[0][:2] == (ASSIST, HOME)
    port = world.answer()
    assert (world.candidate.port, world.candidate.token) == (port, port.token)
    assert world.changes == 1


@pytest.mark.parametrize("source", [None, "fd00::1", "fe80::1", "::1", "2002:c000:201::1"])
def test_withoutAGlobalAddressThereIsNone(source: str | None) -> None:
    world = World(source=source).begun()
    assert world.ports.asked == []
    assert (world.candidate.port, world.candidate.token) == (None, None)


def test_withoutAnAssistServiceOfIPv6ThereIsNone() -> None:
    assert World(assist=None).begun().ports.asked == []


def test_aPortThatTheServerSeesElsewhereIsNotUsed() -> None:
    world = World().begun()
    port = world.answer("fd00::9")
    assert world.candidate.port is None
    assert world.ports.released == [port]


def test_anAddressThatStaysIsKept() -> None:
    world = World().begun()
    world.answer()
    world.clock.pump([GLANCE] * 5)
    assert (len(world.ports.asked), world.changes) == (1, 1)


def test_anotherAddressMakesAnotherCandidate() -> None:
    world = World().begun()
    old = world.answer()
    world.source = AWAY
    world.clock.advance(GLANCE)
    new = world.answer()
    assert (world.candidate.port, world.ports.released, world.changes) == (new, [old], 2)
    assert new.interface == AWAY


def test_anAddressThatGoesTakesTheCandidateWithIt() -> None:
    world = World().begun()
    old = world.answer()
    world.source = None
    world.clock.advance(GLANCE)
    assert (world.candidate.port, world.ports.released, world.changes) == (None, [old], 2)


def test_anAddressThatComesIsSeen() -> None:
    world = World(source=None).begun()
    world.source = HOME
    world.clock.advance(GLANCE)
    port = world.answer()
    assert world.candidate.port is port


def fail(world: World) -> None:
    world.ports.asked[-1][2].errback(Failure(Unreachable("the assist service does not answer")))


def test_anAssistServiceThatDoesNotAnswerIsNotAskedAllTheTime() -> None:
    world = World().begun()
    fail(world)
    world.clock.pump([GLANCE] * 5)
    assert len(world.ports.asked) == 1
    world.clock.advance(PATIENCE)
    assert len(world.ports.asked) == 2


def test_fromAnotherAddressItIsAskedAtOnce() -> None:
    world = World().begun()
    fail(world)
    world.source = AWAY
    world.clock.advance(GLANCE)
    assert len(world.ports.asked) == 2


def test_theEndOfTheConnectionEndsIt() -> None:
    world = World().begun()
    port = world.answer()
    world.candidate.end()
    assert (world.candidate.port, world.ports.released) == (None, [port])
    assert world.clock.getDelayedCalls() == []


def test_aPortThatComesAfterTheEndIsReleased() -> None:
    world = World().begun()
    world.candidate.end()
    port = world.answer()
    assert (world.candidate.port, world.ports.released, world.changes) == (None, [port], 0)


def test_anotherConnectionNeedsAnotherPort() -> None:
    world = World().begun()
    old = world.answer()
    world.candidate.begin()
    new = world.answer()
    assert (world.candidate.port, world.ports.released) == (new, [old])
    assert len(world.clock.getDelayedCalls()) == 1


def resultOf(taking: Deferred[HeldPort | None]) -> list[Any]:
    results: list[Any] = []
    taking.addBoth(results.append)
    return results


def test_aFreshPortIsAtTheSameAddress() -> None:
    world = World().begun()
    world.answer()
    fresh = resultOf(world.candidate.fresh())
    assert world.ports.asked[1][:2] == (ASSIST, HOME)
    port = world.answer()
    assert fresh == [port]
    assert world.candidate.port is not port


def test_whereThereIsNoCandidateThereAreNoFreshPorts() -> None:
    world = World(source=None).begun()
    assert resultOf(world.candidate.fresh()) == [None]
    assert world.ports.asked == []


def test_aFreshPortThatIsNotToBeHadIsNone() -> None:
    world = World().begun()
    world.answer()
    fresh = resultOf(world.candidate.fresh())
    fail(world)
    assert fresh == [None]


def test_nobodyWaitsLongForAFreshPort() -> None:
    world = World().begun()
    world.answer()
    fresh = resultOf(world.candidate.fresh())
    world.clock.advance(FRESH_PATIENCE)
    assert fresh == [None]


def test_askingForAFreshPortCanBeCancelled() -> None:
    world = World().begun()
    world.answer()
    taking = world.candidate.fresh()
    fresh = resultOf(taking)
    taking.cancel()
    assert fresh[0].check(CancelledError)
