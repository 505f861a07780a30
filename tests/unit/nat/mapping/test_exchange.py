"""
Tests for one question by UDP, and for routers' clocks.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import Refused, Unreachable
from punchd.nat.mapping.epoch import Epoch, natpmpHasLost, pcpHasLost
from punchd.nat.mapping.exchange import MOST_DATAGRAMS, exchange
from tests.unit.nat.routers import Datagrams

ROUTER = ("192.168.1.1", 5351)


def read(datagram: bytes) -> bytes | None:
    if datagram == b"no":
        raise Refused("it says no")
    return datagram if datagram.startswith(b"yes") else None


def ask(datagrams: Datagrams, isConnected: bool = True) -> Deferred[Any]:
    return exchange(datagrams, ROUTER, b"?", read, [1.0, 2.0], isConnected)


def failureOf(asking: Deferred[Any]) -> Failure:
    failures: list[Failure] = []
    asking.addErrback(failures.append)
    [failure] = failures
    return failure


def isOver(datagrams: Datagrams) -> bool:
    return datagrams.last.isClosed and not datagrams.getDelayedCalls()


def test_theAnswerIsRead() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    assert datagrams.last.sent == [(b"?", ROUTER)]
    assert datagrams.last.connected == ROUTER
    datagrams.last.answer(b"yes")
    assert asking.result == b"yes"
    assert isOver(datagrams)


def test_itIsAskedAgain() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    datagrams.advance(1)
    assert len(datagrams.last.sent) == 2
    datagrams.advance(1.9)
    assert not asking.called
    datagrams.advance(0.2)
    assert len(datagrams.last.sent) == 2
    assert failureOf(asking).check(Unreachable)
    assert isOver(datagrams)


def test_aRefusalIsAnAnswer() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    datagrams.last.answer(b"no")
    assert failureOf(asking).check(Refused)
    assert isOver(datagrams)


@pytest.mark.parametrize("addr", [("192.168.1.66", 5351), ("192.168.1.1", 5352)])
def test_othersAreNotHeard(addr: tuple[str, int]) -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    datagrams.last.answer(b"yes", addr)
    datagrams.last.answer(b"no", addr)
    assert not asking.called
    datagrams.last.answer(b"yes")
    assert asking.result == b"yes"


def test_aSearchIsAnsweredFromAnyPortOfTheRouter() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams, isConnected=False)
    assert datagrams.last.connected is None
    datagrams.last.answer(b"yes", ("192.168.1.66", 5351))
    assert not asking.called
    datagrams.last.answer(b"yes", ("192.168.1.1", 49152))
    assert asking.result == b"yes"


def test_garbageIsPassedOverForAWhile() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    for _ in range(MOST_DATAGRAMS - 1):
        datagrams.last.answer(b"garbage")
    assert not asking.called
    datagrams.last.answer(b"garbage")
    assert "something else" in failureOf(asking).getErrorMessage()
    assert isOver(datagrams)


def test_whatComesAfterTheAnswerIsIgnored() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    datagrams.last.answer(b"yes")
    datagrams.last.answer(b"no")
    datagrams.last.protocol.connectionRefused()
    assert asking.result == b"yes"


def test_nobodyThereIsKnownAtOnce() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    datagrams.last.protocol.connectionRefused()
    assert failureOf(asking).check(Unreachable)
    assert isOver(datagrams)


def test_whoCancelsLeavesNothing() -> None:
    datagrams = Datagrams()
    asking = ask(datagrams)
    asking.cancel()
    assert failureOf(asking).check(CancelledError)
    assert isOver(datagrams)


def test_withoutAPortThereIsNoAnswer() -> None:
    datagrams = Datagrams()
    datagrams.problem = CannotListenError("", 0, OSError("no more"))
    assert failureOf(ask(datagrams)).check(Unreachable)
    assert not datagrams.getDelayedCalls()


def test_withAPortThatCannotBeUsedThereIsNoAnswer() -> None:
    datagrams = Datagrams()
    datagrams.problem = OSError(101, "Network is unreachable")
    assert failureOf(ask(datagrams)).check(Unreachable)
    assert not datagrams.getDelayedCalls()


def test_whatIsAskedIsNotShown() -> None:
    datagrams = Datagrams()
    ask(datagrams).addErrback(lambda _: None)
    assert "?" not in repr(datagrams.last.protocol)
    datagrams.advance(1)
    datagrams.advance(2)


@pytest.mark.parametrize("hasLost", [pcpHasLost, natpmpHasLost])
def test_aClockThatGoesOnIsTheSameRouters(hasLost: Any) -> None:
    clock = Clock()
    epoch = Epoch(clock, hasLost)
    for seconds in (1000, 1060, 1121, 1180, 4780):
        assert epoch.heard(seconds) == 0
        clock.advance(3600 if seconds == 1180 else 60)


@pytest.mark.parametrize("hasLost", [pcpHasLost, natpmpHasLost])
@pytest.mark.parametrize("after", [0, 3, 500, 990])
def test_aClockThatWentBackIsARestart(hasLost: Any, after: int) -> None:
    clock = Clock()
    epoch = Epoch(clock, hasLost)
    assert epoch.heard(1000) == 0
    clock.advance(60)
    assert epoch.heard(after) == 1
    clock.advance(60)
    assert epoch.heard(after + 60) == 1


def test_pcpDoesNotBelieveAClockThatRunsAway() -> None:
    """
    RFC 6887, 8.5: it belongs to another router.
    """
    assert pcpHasLost(60, 100)
    assert pcpHasLost(100, 60)
    assert not pcpHasLost(60, 62)
    assert not pcpHasLost(0, -1)


def test_natpmpAllowsAnEighth() -> None:
    """
    RFC 6886, 3.6.
    """
    assert not natpmpHasLost(80, 68)
    assert natpmpHasLost(80, 67)
    assert not natpmpHasLost(80, 500)
