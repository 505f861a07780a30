"""
Tests for L{punchd.server.limits}.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.logger import Logger

from punchd.server.limits import Complaints, Strangers, networkOf
from punchd.values.addresses import Address
from tests.unit.server.pretending import Journal


def v4(number: int) -> Address:
    return IPv4Address("TCP", f"192.0.2.{number}", 1000)


def test_oneNetworkHasItsShareOfStrangers() -> None:
    strangers = Strangers(Clock(), mostPerNetwork=3)
    assert [strangers.admit(v4(1)) is None for _ in range(4)] == [True, True, True, False]
    assert strangers.admit(v4(2)) is None


def test_whoLeavesMakesRoom() -> None:
    strangers = Strangers(Clock(), mostPerNetwork=1)
    strangers.admit(v4(1))
    strangers.leave(v4(1))
    assert strangers.admit(v4(1)) is None


def test_allTogetherAreLimited() -> None:
    strangers = Strangers(Clock(), most=2)
    strangers.admit(v4(1))
    strangers.admit(v4(2))
    assert "all together" in (strangers.admit(v4(3)) or "")


def test_connectionsPerSecondAreLimited() -> None:
    clock = Clock()
    strangers = Strangers(clock, rate=2, burst=3)

    def attempts(count: int) -> int:
        admitted = [strangers.admit(v4(1)) for _ in range(count)].count(None)
        for _ in range(admitted):
            strangers.leave(v4(1))
        return admitted

    assert attempts(5) == 3
    clock.advance(1)
    assert attempts(5) == 2


def test_refusedConnectionsAreNotCounted() -> None:
    strangers = Strangers(Clock(), most=1)
    strangers.admit(v4(1))
    for _ in range(10):
        strangers.admit(v4(2))
    strangers.leave(v4(1))
    assert strangers.admit(v4(2)) is None


def test_idleNetworksAreForgotten() -> None:
    clock = Clock()
    strangers = Strangers(clock)
    for number in range(100):
        strangers.admit(v4(number))
        strangers.leave(v4(number))
    clock.advance(60)
    strangers.forget()
    assert len(strangers._arrivals) == 0


def test_busyNetworksAreNotForgotten() -> None:
    strangers = Strangers(Clock(), burst=1)
    strangers.admit(v4(1))
    strangers.forget()
    assert strangers.admit(v4(1)) == "too many connections a second"


def test_anIPv6CustomerIsOneNetwork() -> None:
    first = IPv6Address("TCP", "2001:db8:0:1::1", 1)
    second = IPv6Address("TCP", "2001:db8:0:1:ffff::2", 2)
    other = IPv6Address("TCP", "2001:db8:0:2::1", 3)
    assert networkOf(first) == networkOf(second) != networkOf(other)


def test_aZoneIsNoPartOfTheNetwork() -> None:
    assert networkOf(IPv6Address("TCP", "fe80::1%eth0", 1)) == "fe80::/64"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=200))
def test_theCountIsThatOfThoseInside(steps: list[tuple[bool, int]]) -> None:
    strangers = Strangers(Clock(), mostPerNetwork=3, most=10)
    inside: list[int] = []
    for comes, number in steps:
        if comes:
            if strangers.admit(v4(number)) is None:
                inside.append(number)
        elif number in inside:
            inside.remove(number)
            strangers.leave(v4(number))
    assert strangers._total == len(inside) <= 10
    assert strangers._here == {v4(number).host: inside.count(number) for number in inside}


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def complaints(journal: Journal) -> Complaints:
    return Complaints(Logger(observer=journal), most=3)


def test_aFloodOfComplaintsIsCutShort(complaints: Complaints, journal: Journal) -> None:
    for number in range(1000):
        complaints.say(f"complaint {number}")
    complaints.sweep()
    assert [event.get("text", event.get("more")) for event in journal.events] == [
        "complaint 0",
        "complaint 1",
        "complaint 2",
        997,
    ]


def test_fewComplaintsAreAllWritten(complaints: Complaints, journal: Journal) -> None:
    for number in range(6):
        complaints.say(str(number))
        complaints.sweep()
    assert len(journal.events) == 6


def test_aComplaintIsNoFormat(complaints: Complaints, journal: Journal) -> None:
    complaints.say("{log_source}")
    assert journal.events[0]["log_format"] == "{text}"
