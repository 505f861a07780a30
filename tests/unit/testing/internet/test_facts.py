"""
What was measured of real NATs and kernels is what the in-memory internet does: the measurements are
in docs/explanation/hole-punching.rst and nat-behaviour.rst.
"""

import errno
from itertools import product

import pytest
from twisted.internet.error import ConnectionRefusedError

from punchd.testing.internet import Complaint, Segment
from punchd.values.addresses import makeAddress
from tests.unit.testing.internet.ends import World

R = 0.05

CONES = ["full-cone", "restricted", "port-restricted", "shifted", "reset", "icmp", "carrier"]
SYMMETRIC = ["counting", "by-address", "random"]

# NATs.


@pytest.mark.parametrize(("one", "other"), list(product(CONES, repeat=2)))
def test_crossingSynsConnectConesInOneRoundTrip(one: str, other: str) -> None:
    world = World(one, other)
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    first, second = world.alice.dial(seenBob), world.bob.dial(seenAlice)
    world.run(limit=1.0)
    assert (first.seconds, second.seconds) == pytest.approx((R, R))
    assert (first.error, second.error) == (None, None)


@pytest.mark.parametrize("symmetric", SYMMETRIC)
@pytest.mark.parametrize("open_", ["public", "full-cone", "restricted"])
def test_theListenerTakesAConnectionFromASymmetricNat(symmetric: str, open_: str) -> None:
    world = World(symmetric, open_)
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    world.bob.port.listen()
    dialled = world.alice.dial(seenBob)
    world.bob.dial(seenAlice)
    world.run(limit=1.0)
    assert dialled.protocol is not None
    assert len(world.bob.accepted) == 1


@pytest.mark.parametrize("symmetric", ["counting", "random"])
@pytest.mark.parametrize("closed", ["port-restricted", "shifted", *SYMMETRIC])
def test_aSymmetricNatNeverMeetsOneThatFiltersPorts(symmetric: str, closed: str) -> None:
    world = World(symmetric, closed)
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    for end, remote in ((world.alice, seenBob), (world.bob, seenAlice)):
        end.port.listen()
        end.dial(remote)
    world.run(limit=6.0)
    assert world.alice.accepted == world.bob.accepted == []


def test_aCrossingSynGoesToTheSocketThatDials() -> None:
    world = World()
    for end in (world.alice, world.bob):
        end.port.listen()
    first = world.alice.dial(world.addressOf(world.bob))
    second = world.bob.dial(world.addressOf(world.alice))
    world.run(limit=1.0)
    assert first.protocol is not None
    assert second.protocol is not None
    assert world.alice.accepted == world.bob.accepted == []


def spoilt() -> World:
    """
    Alice's socket is gone, her listener is not, when Bob's SYN comes through her NAT.
    """
    world = World("port-restricted", "port-restricted")
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    world.alice.port.listen()
    first = world.alice.dial(seenBob)
    world.run(limit=R / 2)
    first.connecting.cancel()
    world.run(limit=R)
    world.bob.dial(seenAlice)
    world.run(limit=2 * R)
    return world


def test_aListenersAnswerGoesOutUntranslated() -> None:
    world = spoilt()
    assert world.bob.accepted == world.alice.accepted == []
    strays = {stray.source.host for stray in world.network.strays}
    assert strays == {world.alice.host.address}


def test_theLeftoverOfAListenerHoldsTheFourTupleUntilItIsDropped() -> None:
    world = spoilt()
    bob = makeAddress(world.bob.host.outside, world.bob.port.number)
    again = world.alice.dial(bob)
    world.run(limit=0.01)
    assert again.error.osError == errno.EADDRNOTAVAIL
    world.alice.port.unlisten()
    world.run(limit=0.01)
    third = world.alice.dial(bob)
    world.run(limit=1.0)
    assert third.seconds is not None
    assert third.error is None


def retrying(pauses: list[float], skew: float) -> float | None:
    """
    Two NATs that reset; each side dials anew after each failure.

    @return: when they were connected.
    """
    world = World("reset", "reset")
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    began = world.clock.seconds()
    connected: list[float] = []
    chance = world.chance("pauses")

    def dial(end: object, remote: object) -> None:
        dialled = end.dial(remote)  # type: ignore[attr-defined]
        dialled.connecting.addCallback(lambda _: over(dialled, end, remote))

    def over(dialled: object, end: object, remote: object) -> None:
        if dialled.error is None:  # type: ignore[attr-defined]
            connected.append(world.clock.seconds() - began)
        else:
            world.clock.callLater(chance.uniform(*pauses), dial, end, remote)

    dial(world.alice, seenBob)
    world.clock.callLater(skew, dial, world.bob, seenAlice)
    world.run(lambda: len(connected) == 2, 6.0)
    return connected[0] if connected else None


def test_natsThatResetNeverMeetInStep() -> None:
    assert retrying([0.34, 0.34], skew=0.25 + 0.34 / 2) is None


def test_natsThatResetMeetWithRandomPauses() -> None:
    met = retrying([0.0, 0.06], skew=0.25)
    assert met is not None
    assert met < 1.0


def test_natsThatResetMeetAtOnceWithOneStart() -> None:
    assert retrying([0.0, 0.06], skew=0.0) == pytest.approx(R)


def test_aResetClosesTheMappingUntilTheInsideDialsAgain() -> None:
    world = World("port-restricted", "reset")
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    refused = world.alice.dial(seenBob)
    world.run(limit=1.5 * R)
    assert isinstance(refused.error, ConnectionRefusedError)
    world.alice.port.listen()
    world.bob.dial(seenAlice)
    world.run(limit=0.5)
    assert world.alice.accepted == []


def test_anIcmpErrorEndsTheDiallingButNotTheMapping() -> None:
    world = World("port-restricted", "icmp")
    seenAlice, seenBob = world.seen(world.alice), world.seen(world.bob)
    refused = world.alice.dial(seenBob)
    world.run(limit=1.1 * R)
    assert isinstance(refused.error, ConnectionRefusedError)
    assert any(isinstance(packet, Complaint) for packet in world.packets)
    # Bob's SYN comes in; nobody dials there, so it is Alice's own kernel that resets it.
    dialled = world.bob.dial(seenAlice)
    world.run(limit=0.5)
    assert isinstance(dialled.error, ConnectionRefusedError)


def test_aSynThatDiesOnTheWayEndsTheDialling() -> None:
    world = World("port-restricted", "public")
    socket = world.alice.host.reactor.makeSocket()
    socket.setsockopt(0, 2, 1)  # IPPROTO_IP, IP_TTL
    assert socket.connect_ex((world.bob.host.address, 7000)) == errno.EINPROGRESS
    world.run(limit=0.1)
    assert socket.getsockopt(1, 4) == errno.EHOSTUNREACH  # SOL_SOCKET, SO_ERROR
    socket.close()


# Sockets on one port.


def test_aPortThatIsHeldCannotBeTakenByOthers() -> None:
    world = World()
    stranger = world.alice.host.reactor.makeSocket()
    with pytest.raises(OSError, match="in use"):
        stranger.bind(("", world.alice.port.number))
    stranger.close()


def test_twoListenersOnOnePortShareTheSyns() -> None:
    world = World()
    world.bob.port.listen()
    forgotten = world.bob.host.reactor.makeSocket()
    for option in (2, 15):  # SO_REUSEADDR, SO_REUSEPORT
        forgotten.setsockopt(1, option, 1)
    forgotten.bind(("", world.bob.port.number))
    forgotten.listen(100)
    for _ in range(40):
        world.alice.port = type(world.alice.port).take(world.alice.host.reactor, None)  # type: ignore[arg-type]
        world.alice.dial(world.addressOf(world.bob))
    world.run(limit=1.0)
    assert 5 < len(world.bob.accepted) < 35
    forgotten.close()


@pytest.mark.parametrize("skew", [0.3 * R, 0.45 * R])
def test_aSynWithinHalfARoundTripCrosses(skew: float) -> None:
    world = World()
    world.alice.port.listen()
    first = world.bob.dial(world.addressOf(world.alice))
    tries = world.alice.dialLater(skew, world.addressOf(world.bob))
    world.run(limit=1.0)
    assert first.protocol is not None
    assert tries[0].protocol is not None
    assert world.alice.accepted == []


def test_aSynBeforeTheDiallingIsTheListenersAndTheFourTupleIsTaken() -> None:
    world = World()
    world.alice.port.listen()
    first = world.bob.dial(world.addressOf(world.alice))
    tries = world.alice.dialLater(0.6 * R, world.addressOf(world.bob))
    world.run(limit=1.0)
    assert tries[0].error.osError == errno.EADDRNOTAVAIL
    assert tries[0].seconds == 0.0
    assert first.protocol is not None
    assert len(world.alice.accepted) == 1


@pytest.mark.parametrize("milliseconds", range(-30, 31, 3))
def test_thereIsOneConnectionForAFourTupleWhateverTheSkew(milliseconds: int) -> None:
    world = World()
    early, late = (world.alice, world.bob) if milliseconds < 0 else (world.bob, world.alice)
    for end in (early, late):
        end.port.listen()
    first = early.dial(world.addressOf(late))
    tries = late.dialLater(abs(milliseconds) / 1000, world.addressOf(early))
    world.run(limit=2.0)
    assert first.protocol is not None
    assert (tries[0].protocol is not None) + len(late.accepted) == 1
    assert early.accepted == []


def test_aPortThatIsHeldAndNoMoreResets() -> None:
    world = World()
    refused = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=1.0)
    assert isinstance(refused.error, ConnectionRefusedError)
    assert refused.seconds == pytest.approx(R)


def test_redialingTooSoonResetsTheFirstAnswer() -> None:
    world = World()
    world.bob.port.listen()
    first = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=0.3 * R)
    first.connecting.cancel()
    second = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=5.0)
    # The answer to the first met the second, and cost it the time until the kernel repeats a SYN.
    assert second.error is None
    assert second.seconds is not None
    assert second.seconds > 2 * R


def test_aSynIsRepeatedAsLinuxDoes() -> None:
    world = World("public", "firewall")
    began = world.clock.seconds()
    moments: list[float] = []
    world.watch(lambda packet: moments.append(world.clock.seconds() - began))
    world.alice.dial(world.addressOf(world.bob))
    world.run(limit=12.0)
    assert moments == pytest.approx([0, 1, 2, 3, 4, 5, 7, 11])


def test_closingWhileDiallingSaysNothing() -> None:
    world = World("public", "firewall")
    dialled = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=0.1)
    before = len(world.packets)
    dialled.connecting.cancel()
    world.run(limit=5.0)
    assert len(world.packets) == before
    assert len(world.alice.host.stack.sockets) == 1


def test_anAbortedConnectionLeavesItsFourTupleFree() -> None:
    world = World()
    world.bob.port.listen()
    first = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=0.2)
    first.protocol.transport.abortConnection()
    world.run(limit=0.2)
    again = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=0.2)
    assert again.protocol is not None
    assert world.bob.accepted[0].lost is not None


def test_aPortThatDialsItselfMeetsItself() -> None:
    world = World()
    dialled = world.alice.dial(world.addressOf(world.alice))
    world.run(limit=0.1)
    dialled.protocol.transport.write(b"hello")
    world.run(limit=0.1)
    assert dialled.protocol.received == b"hello"


def test_whoNeverAnswersTimesOut() -> None:
    world = World("public", "firewall")
    dialled = world.alice.dial(world.addressOf(world.bob))
    world.run(limit=130.0)
    assert "timeout" in str(type(dialled.error)).lower() or dialled.error.osError == errno.ETIMEDOUT
    assert dialled.seconds == pytest.approx(60.0)


def test_nothingButSegmentsAndComplaintsIsOnTheWire() -> None:
    world = World("icmp", "reset")
    world.alice.dial(makeAddress(world.bob.host.outside, 1000))
    world.run(limit=1.0)
    assert {type(packet) for packet in world.packets} == {Segment}
    assert all(packet.line() for packet in world.packets)
