"""
Tests for L{punchd.hooks.run}.
"""

from errno import EACCES
from signal import SIGKILL, SIGTERM

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from punchd.hooks.command import Command
from punchd.hooks.run import (
    KILL_PATIENCE,
    LEFTOVERS_PATIENCE,
    MOST_OUTPUT,
    TERM_PATIENCE,
    Ending,
    Run,
)
from tests.unit.hooks.pretending import PretendedChild, Spawner


@define(eq=False)
class World:
    """
    One run.
    """

    clock: Clock = field(factory=Clock)
    spawner: Spawner = field(factory=Spawner)
    run: Run = field(init=False)
    endings: list[Ending] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.run = Run(self.clock, self.spawner, Command(("tell", "bob"), 30.0))

    def start(self) -> PretendedChild:
        self.run.start({"A": "b"}).addCallback(self.endings.append)
        return self.spawner.children[-1]

    def isOver(self) -> Ending:
        assert self.clock.getDelayedCalls() == []
        [ending] = self.endings
        return ending


@pytest.fixture
def world() -> World:
    return World()


def test_itIsOverWhenTheProcessIs(world: World) -> None:
    child = world.start()
    assert (child.words, child.environment) == (("tell", "bob"), {"A": "b"})
    child.said(b"it is done\n")
    assert world.endings == []
    child.exit()
    assert world.isOver() == Ending(None, ("it is done",))
    assert child.signals == []


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (3, "ended with status 3"),
        (-9, "was ended by signal 9 (Killed)"),
        (-35, "was ended by signal 35"),
    ],
)
def test_anotherStatusIsAProblem(world: World, status: int, problem: str) -> None:
    world.start().exit(status)
    assert (world.isOver().problem or "").startswith(problem)


def test_whatCannotBeStartedIsAProblem(world: World) -> None:
    world.spawner.problem = PermissionError(EACCES, "Permission denied")
    world.run.start({}).addCallback(world.endings.append)
    assert world.isOver() == Ending("cannot be started: Permission denied")
    # Ending what is not there does nothing.
    world.run.end("enough")


def test_atTheDeadlineItIsAskedToEnd(world: World) -> None:
    child = world.start()
    world.clock.advance(29.9)
    assert child.signals == []
    world.clock.advance(0.1)
    assert child.signals == [SIGTERM]
    assert world.isOver() == Ending("took longer than 30 s and was ended", wasEnded=True)


def test_whoDoesNotListenIsKilled(world: World) -> None:
    child = world.start()
    child.endsOn = (SIGKILL,)
    world.clock.advance(30)
    world.clock.advance(TERM_PATIENCE)
    assert child.signals == [SIGTERM, SIGKILL]
    assert world.isOver().problem == "took longer than 30 s and was ended"


def test_whoCannotBeKilledIsNotWaitedForForever(world: World) -> None:
    child = world.start()
    child.endsOn = ()
    world.clock.pump([30, TERM_PATIENCE, KILL_PATIENCE, *[LEFTOVERS_PATIENCE] * 3])
    assert "in vain: it still runs" in (world.isOver().problem or "")
    assert child.isDeaf
    # And may end later.
    child.exit(0)


def test_endingItEarlierLeavesItSomeTime(world: World) -> None:
    child = world.start()
    world.run.end("the program ends", within=5)
    world.clock.advance(4.9)
    assert child.signals == []
    world.clock.advance(0.1)
    assert child.signals == [SIGTERM]
    assert world.isOver().problem == "the program ends"


def test_endingItEarlierDoesNotProlongTheDeadline(world: World) -> None:
    child = world.start()
    world.clock.advance(29)
    world.run.end("the program ends", within=5)
    world.clock.advance(1)
    assert child.signals == [SIGTERM]


def test_endingWhatIsBeingEndedChangesNothing(world: World) -> None:
    child = world.start()
    child.endsOn = (SIGKILL,)
    world.clock.advance(30)
    world.run.end("the program ends", within=0.1)
    world.clock.advance(TERM_PATIENCE - 0.1)
    assert child.signals == [SIGTERM]
    world.clock.advance(0.1)
    assert world.isOver().problem == "took longer than 30 s and was ended"


def test_whatItLeavesRunningIsEnded(world: World) -> None:
    child = world.start()
    child.leftovers = 2
    child.exit(0, isSilent=False)
    world.clock.advance(LEFTOVERS_PATIENCE)
    assert child.signals == [0, SIGTERM]
    child.said(b"late\n")
    world.clock.advance(LEFTOVERS_PATIENCE)
    assert child.signals == [0, SIGTERM, SIGKILL]
    child.silent.callback(None)
    assert world.isOver() == Ending(None, ("late",))


def test_whoBecomesADaemonIsLeftAlone(world: World) -> None:
    child = world.start()
    child.leftovers = 1
    child.exit(0)
    child.leftovers = 0
    world.clock.advance(LEFTOVERS_PATIENCE)
    assert child.signals == [0]
    assert world.isOver() == Ending(None)


def test_whoKeepsTheOutputOutsideOfTheGroupIsNotHeardForLong(world: World) -> None:
    child = world.start()
    child.exit(0, isSilent=False)
    assert world.endings == []
    world.clock.advance(LEFTOVERS_PATIENCE)
    assert child.isDeaf
    assert world.isOver() == Ending(None)


def test_aFloodOfOutputEndsIt(world: World) -> None:
    child = world.start()
    child.endsOn = (SIGKILL,)
    piece = b"more\n" * 1000
    for _ in range(MOST_OUTPUT // len(piece)):
        child.said(piece)
    wasDeaf = child.isDeaf
    child.said(piece)
    assert (wasDeaf, child.isDeaf) == (False, True)
    assert child.signals == [SIGTERM]
    world.clock.advance(TERM_PATIENCE)
    ending = world.isOver()
    assert ending.problem == "said more than 1 MiB and was ended"
    assert len(ending.output) == 21
