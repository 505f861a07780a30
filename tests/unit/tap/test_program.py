"""
Tests for L{punchd.tap.program}: from the start to the end, with a clock.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from twisted.application.service import Application, IServiceCollection, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, capturedLogs, formatEvent

from punchd.tap.program import CLOSING, HURRY, IMPATIENCE, PERIOD, SILENCE, Program
from punchd.tap.supervisor import Supervisor


@define
class Told(Supervisor):
    """
    Notes what would be told.
    """

    messages: list[str] = field(factory=list, init=False)

    def _tell(self, message: str) -> bool:
        self.messages.append(message)
        return True

    def took(self) -> list[str]:
        messages, self.messages = self.messages, []
        return messages


@define
class Work:
    """
    Something that runs, and may take its time.
    """

    ready: bool = False
    says: str = "works"
    draining: Deferred[None] = field(factory=Deferred)
    drained: int = 0
    running: float = -1.0

    def isReady(self, running: float) -> bool:
        self.running = running
        return self.ready

    def line(self) -> str:
        return self.says

    def drain(self) -> Deferred[None]:
        self.drained += 1
        return self.draining


class Slow(Service):
    """
    Ends when it is told to.
    """

    def __init__(self) -> None:
        self.ending: Deferred[None] = succeed(None)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return self.ending


@define
class World:
    """
    A program, and all around it.
    """

    patience: float = 0.0
    told: Told = field(factory=lambda: Told("/there"))
    clock: Clock = field(factory=Clock)
    work: Work = field(factory=Work)
    service: Slow = field(factory=Slow)
    signalled: list[Callable[[], None]] = field(factory=list)

    def program(self, observer: Any = None) -> Program:
        return Program(
            self.clock,
            self.service,
            self.work,
            self.told,
            patience=self.patience,
            whenSignalled=self.signalled.append,
            observer=observer,
        )

    def stopped(self, program: Program) -> list[None]:
        ended: list[None] = []
        program.stopService().addCallback(ended.append)
        return ended


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    assert not world.clock.getDelayedCalls() or world.told.watchdog or not world.service.running


def test_itIsReadyWhenTheServiceIs(world: World) -> None:
    program = world.program()
    program.startService()
    assert world.service.running
    assert world.told.took() == ["STATUS=works"]
    world.clock.advance(IMPATIENCE)
    assert world.work.running == pytest.approx(IMPATIENCE)
    world.work.ready = True
    world.clock.advance(IMPATIENCE)
    assert world.told.took() == ["READY=1"]
    world.clock.pump([PERIOD] * 3)
    assert world.told.took() == []
    assert world.stopped(program) == [None]


def test_howItGoesIsToldWhenItChanges(world: World) -> None:
    world.work.ready = True
    program = world.program()
    program.startService()
    assert world.told.took() == ["STATUS=works", "READY=1"]
    world.work.says = "works more"
    world.clock.advance(PERIOD)
    assert world.told.took() == ["STATUS=works more"]
    world.stopped(program)


def test_withoutASupervisorNothingIsLookedAt() -> None:
    world = World(told=Told(""))
    program = world.program()
    program.startService()
    assert world.clock.getDelayedCalls() == []
    assert world.stopped(program) == [None]


def test_lifeIsShownThreeTimesAsOftenAsItMust() -> None:
    world = World(told=Told("/there", 6.0))
    world.work.ready = True
    program = world.program()
    program.startService()
    world.told.took()
    world.clock.pump([0.5] * 24)
    assert world.told.took() == ["WATCHDOG=1"] * 6
    world.stopped(program)


def test_aFastWatchdogIsShownLifeInTime() -> None:
    world = World(told=Told("/there", 0.3))
    world.work.ready = True
    program = world.program()
    program.startService()
    world.told.took()
    world.clock.pump([0.05] * 20)
    assert len(world.told.took()) >= 6
    world.stopped(program)


def test_theEndIsTold(world: World) -> None:
    program = world.program()
    program.startService()
    world.told.took()
    assert world.stopped(program) == [None]
    assert world.told.took() == [
        f"STOPPING=1\nEXTEND_TIMEOUT_USEC={CLOSING * 1e6:.0f}",
        "STATUS=stopping",
    ]
    assert world.clock.getDelayedCalls() == []
    assert world.work.drained == 0


def test_whatRunsHasTimeToFinish() -> None:
    world = World(patience=5.0)
    program = world.program()
    program.startService()
    world.told.took()
    ended = world.stopped(program)
    assert world.told.took() == [
        f"STOPPING=1\nEXTEND_TIMEOUT_USEC={(CLOSING + 5) * 1e6:.0f}",
        "STATUS=stopping: what runs has 5 s to finish",
    ]
    world.clock.advance(4.9)
    assert (world.work.drained, world.service.running, ended) == (1, True, [])
    world.work.draining.callback(None)
    assert (world.service.running, ended) == (False, [None])


def test_lifeIsShownWhileItFinishes() -> None:
    world = World(patience=5.0, told=Told("/there", 3.0))
    program = world.program()
    program.startService()
    world.stopped(program)
    world.told.took()
    world.clock.pump([1.0] * 4)
    assert world.told.took() == ["WATCHDOG=1"] * 4
    world.clock.advance(1.0)


def test_whatDoesNotFinishInTimeIsStopped() -> None:
    world = World(patience=5.0)
    program = world.program()
    program.startService()
    ended = world.stopped(program)
    world.clock.advance(5.0)
    assert (world.service.running, ended) == (False, [None])


@pytest.mark.parametrize("fails", [True, False])
def test_aPersonIsToldWhyItTakesTime(fails: bool) -> None:
    # A DeferredList succeeds when it is cancelled.
    cancel = None if fails else lambda cancelled: cancelled.callback(None)
    world = World(patience=5.0, work=Work(draining=Deferred(cancel)))
    program = world.program()
    program.startService()
    with capturedLogs() as log:
        world.stopped(program)
        world.clock.advance(SILENCE / 2)
        assert log == []
        world.clock.pump([SILENCE, 5.0])
    assert [formatEvent(event) for event in log] == [
        "what runs has 5 s to finish; at a second signal, or Ctrl-C once more, it ends at once",
        "what has not finished by now is broken off",
    ]


def test_nothingIsSaidWhenItEndsAtOnce() -> None:
    world = World(patience=5.0, work=Work(draining=succeed(None)))
    program = world.program()
    program.startService()
    with capturedLogs() as log:
        assert world.stopped(program) == [None]
    assert log == []
    assert world.clock.getDelayedCalls() == []


def test_aSecondSignalEndsTheWaiting() -> None:
    world = World(patience=3600.0)
    program = world.program()
    program.startService()
    ended = world.stopped(program)
    [hurry] = world.signalled
    hurry()
    assert (world.service.running, ended) == (False, [None])
    hurry()
    world.clock.advance(HURRY)


def test_aSecondSignalWaitsForClosingForAMomentOnly(world: World) -> None:
    world.service.ending = Deferred()
    program = world.program()
    program.startService()
    ended = world.stopped(program)
    world.clock.advance(5.0)
    assert ended == []
    world.signalled[0]()
    assert ended == []
    world.clock.advance(HURRY)
    assert ended == [None]
    # Too late.
    world.service.ending.callback(None)


def test_aMistakeInDrainingKeepsNobodyFromStopping(
    flushLoggedErrors: Callable[..., list[Any]],
) -> None:
    world = World(patience=5.0)
    program = world.program()
    program.startService()
    ended = world.stopped(program)
    world.work.draining.errback(ZeroDivisionError())
    assert (world.service.running, ended) == (False, [None])
    assert len(flushLoggedErrors(ZeroDivisionError)) == 1


@pytest.mark.parametrize("isThere", [True, False])
def test_twistdFindsTheLogsObserver(world: World, isThere: bool) -> None:
    def observer(event: object) -> None:
        """
        It is only looked for.
        """

    application: Any = Application("punchd-peer")
    program = world.program(observer if isThere else None)
    program.setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is (observer if isThere else None)
    assert list(IServiceCollection(application)) == [program]
