"""
Tests for L{punchd.hooks.telling} and L{punchd.hooks.reporting}.
"""

from collections.abc import Iterator
from errno import ENOENT
from itertools import pairwise
from pathlib import Path
from signal import SIGTERM

import pytest
from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from punchd.hooks import telling
from punchd.hooks.command import Command
from punchd.hooks.facts import Facts
from punchd.hooks.memory import Memory
from punchd.hooks.reporting import MOST_TROUBLES
from punchd.hooks.telling import (
    FIRST_RETRY,
    GATHERING,
    LAST_RETRY,
    LEAVING,
    MISSING,
    PACE,
    REST,
    RETURNING,
    STOPPING,
    Teller,
)
from punchd.identity.folder import StateFolder
from punchd.values.peers import PeerID
from tests.unit.hooks.pretending import PretendedChild, Spawner, makeFacts

BOB, CAROL = makeFacts("bob"), makeFacts("carol")
MOVED = makeFacts("bob", "198.51.100.2")


@implementer(ILogObserver)
class World:
    """
    A command that is told things, and its log.
    """

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.clock = Clock()
        self.spawner = Spawner()
        self.log: list[str] = []
        self.teller = self.make()

    def make(self) -> Teller:
        teller = Teller(
            clock=self.clock,
            command=Command(("sh",), 30.0),
            spawn=self.spawner,
            memory=Memory.inFolder(self.folder),
            environment={"PATH": "/bin:/usr/bin", "PUNCHD_PATH": "old", "NOTIFY_SOCKET": "/x"},
        )
        teller.startService()
        return teller

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").startswith("punchd.hooks"):
            self.log.append(event["log_format"].format(**event))

    def wait(self, seconds: float) -> None:
        """
        Let time pass, but no run end.
        """
        end = self.clock.seconds() + seconds
        while calls := [each for each in self.clock.getDelayedCalls() if each.getTime() <= end]:
            self.clock.advance(max(0.0, min(each.getTime() for each in calls) - self.now))
        self.clock.advance(max(0.0, end - self.now))

    @property
    def now(self) -> float:
        return self.clock.seconds()

    @property
    def child(self) -> PretendedChild:
        """
        What runs.
        """
        child = self.spawner.children[-1]
        assert not child.exited.called
        return child

    @property
    def isIdle(self) -> bool:
        return all(each.exited.called for each in self.spawner.children)

    def tell(self, *facts: Facts) -> None:
        for one in facts:
            self.teller.tell(one)

    def settle(self, status: int = 0) -> None:
        """
        Let runs end at once, until nothing is left to be told.
        """
        for _ in range(100):
            self.wait(max(PACE, MISSING))
            if self.isIdle:
                return
            self.child.exit(status)
        raise AssertionError("there is no end of it")

    @property
    def told(self) -> list[str]:
        return self.spawner.told


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(StateFolder.at(str(tmp_path)))
    globalLogPublisher.addObserver(world)
    yield world
    globalLogPublisher.removeObserver(world)
    if not world.isIdle:
        world.child.exit()
    world.teller.stopService()
    assert world.clock.getDelayedCalls() == []


def test_whoComesIsToldSoon(world: World) -> None:
    world.tell(BOB)
    assert world.told == []
    world.wait(GATHERING)
    assert world.told == ["arrived bob 198.51.100.1"]
    assert world.child.words == ("sh",)


def test_theEnvironmentIsOursAndNoPartOfAnOldOneOrOfSystemds(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    environment = dict(world.child.environment)
    assert environment["PATH"] == "/bin:/usr/bin"
    assert environment["PUNCHD_PATH"] == ""
    assert "NOTIFY_SOCKET" not in environment


def test_oneRunAtATime(world: World) -> None:
    world.tell(BOB, CAROL)
    world.wait(GATHERING + 20)
    assert world.told == ["arrived bob 198.51.100.1"]
    world.child.exit()
    world.wait(REST)
    assert world.told[1:] == ["arrived carol 198.51.100.1"]


def test_whatHasNotChangedIsNotTold(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(BOB, BOB)
    world.settle()
    assert len(world.told) == 1


def test_aSecondLoginFromElsewhereIsOneChange(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(BOB.gone(), MOVED)
    world.settle()
    assert world.told[1:] == ["changed bob 198.51.100.2"]


def test_whoIsBackSoonHasNotBeenAway(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(BOB.gone())
    world.wait(LEAVING - 1)
    world.tell(BOB)
    world.wait(2 * LEAVING)
    assert len(world.told) == 1


def serving(facts: Facts, *addresses: str) -> Facts:
    return evolve(facts, addresses=(*facts.addresses, *addresses), services=(("web", 80),))


def test_whatIsOnlyMissingMayComeBack(world: World) -> None:
    """
    The peer has connected anew, and has to be found at its port again.
    """
    world.tell(serving(BOB, "2001:db8::1"))
    world.settle()
    world.tell(BOB.gone(), BOB)
    world.wait(1)
    world.tell(serving(BOB))
    world.wait(1)
    world.tell(serving(BOB, "2001:db8::1"))
    world.wait(2 * MISSING)
    assert len(world.told) == 1


def test_whatStaysMissingIsTold(world: World) -> None:
    world.tell(serving(BOB))
    world.settle()
    world.tell(BOB)
    world.wait(MISSING - 0.1)
    assert len(world.told) == 1
    world.wait(0.1)
    assert world.told[1:] == ["changed bob 198.51.100.1"]


def test_whatIsWrongIsToldAtOnceWhateverElseIsMissing(world: World) -> None:
    world.tell(serving(BOB))
    world.settle()
    world.tell(BOB)
    world.wait(1)
    world.tell(MOVED)
    world.wait(GATHERING)
    assert world.told[1:] == ["changed bob 198.51.100.2"]


def test_whoDoesNotWantToBeFoundAnyMoreIsTakenOutAtOnce(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(evolve(BOB, addresses=()))
    world.wait(GATHERING)
    assert world.told[1:] == ["changed bob"]


def test_whoStaysAwayHasGone(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(BOB.gone())
    world.wait(LEAVING)
    assert world.told[1:] == ["left bob"]
    world.settle()
    world.tell(BOB)
    world.settle()
    assert world.told[2:] == ["arrived bob 198.51.100.1"]


def test_whoWasNotToldToComeIsNotToldToGo(world: World) -> None:
    world.tell(BOB, BOB.gone())
    world.wait(2 * LEAVING)
    assert world.told == []


def test_ofManyChangesTheLatestIsTold(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    for number in range(2, 100):
        world.tell(makeFacts("bob", f"198.51.100.{number}"))
        world.wait(0.01)
    world.child.exit()
    world.settle()
    assert world.told[1:] == ["changed bob 198.51.100.99"]


def test_whoEndsAsHeWasIsNotTold(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    world.tell(MOVED)
    world.tell(BOB)
    world.child.exit()
    world.settle()
    assert len(world.told) == 1


def test_whoFlapsIsToldNowAndThenAndKeepsNobodyWaiting(world: World) -> None:
    """
    Two peers that change ten times a second, and one that comes while they do.
    """
    for turn in range(1000):
        last = turn % 7 + 1
        world.tell(makeFacts("bob", f"198.51.100.{last}"), makeFacts("dave", f"192.0.2.{last}"))
        if turn == 500:
            world.tell(CAROL)
        world.wait(0.1)
        if not world.isIdle:
            world.child.exit()
        if turn == 503:
            assert "arrived carol 198.51.100.1" in world.told
    # 100 seconds.
    assert 10 < len(world.told) < 2 * 100 / PACE + 3
    world.settle()
    latest = [each for each in world.told if "bob" in each][-1]
    assert latest.endswith(f"198.51.100.{999 % 7 + 1}")


def test_whatStrangersDoDoesNotKeepTheMachineBusy(world: World) -> None:
    for number in range(1000):
        world.tell(makeFacts(f"peer{number}"))
    ends = world.now + 10
    while world.now < ends:
        world.wait(0.01)
        if not world.isIdle:
            world.child.exit()
    assert len(world.told) <= 10 / REST + 1


def test_thoseWhoAreThereAreToldInTheirOrder(world: World) -> None:
    for number in range(50):
        world.tell(makeFacts(f"peer{number}"))
    world.settle()
    assert [each.split()[1] for each in world.told] == [f"peer{number}" for number in range(50)]


def test_aFailureIsToldOnceAndRepeatedUntilItSucceeds(world: World) -> None:
    world.tell(BOB)
    times = []
    for _ in range(9):
        while world.isIdle:
            world.wait(0.1)
        times.append(world.now)
        world.child.said(b"no such host\n")
        world.child.exit(1)
    waits = [later - earlier for earlier, later in pairwise(times)]
    expected = [min(FIRST_RETRY * 2**number, LAST_RETRY) for number in range(8)]
    assert waits == pytest.approx(expected, abs=0.2)
    assert world.log == [
        "--on-change (bob): no such host",
        "the --on-change command ended with status 1 (bob); it will be tried again",
    ]
    world.wait(LAST_RETRY)
    world.child.exit()
    assert world.log[2:] == ["the --on-change command works again (bob)"]
    world.settle()
    assert len(world.told) == 10


def test_aFailureIsRepeatedWithTheLatestFacts(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    world.child.exit(1)
    world.tell(MOVED)
    world.wait(FIRST_RETRY)
    # Nothing has succeeded yet.
    assert world.told[1:] == ["arrived bob 198.51.100.2"]


def test_afterAFailureWhatWasToldBeforeIsToldAgain(world: World) -> None:
    """
    The command may have done half of it.
    """
    world.tell(BOB)
    world.settle()
    world.tell(MOVED)
    world.wait(GATHERING)
    world.child.exit(1)
    world.tell(BOB)
    world.settle()
    assert world.told[1:] == ["changed bob 198.51.100.2", "changed bob 198.51.100.1"]


def test_whoseCommandFailsKeepsNobodyWaiting(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    world.child.exit(1)
    world.wait(FIRST_RETRY)
    # It is bob's turn again, and others come meanwhile.
    world.tell(CAROL, makeFacts("dave"), makeFacts("eve"))
    world.wait(GATHERING)
    world.child.exit(1)
    order = []
    for _ in range(3):
        world.wait(2 * FIRST_RETRY)
        order.append(world.told[-1].split()[1])
        world.child.exit()
    assert order == ["carol", "dave", "eve"]


def test_aTroubleOfManyIsToldOnce(world: World) -> None:
    world.spawner.problem = FileNotFoundError(ENOENT, "No such file or directory")
    for number in range(30):
        world.tell(makeFacts(f"peer{number}"))
    world.wait(100)
    assert world.log == [
        "the --on-change command cannot be started: No such file or directory (peer0); "
        "it will be tried again"
    ]
    world.spawner.problem = None
    while len(world.told) < 30:
        world.wait(1)
        if not world.isIdle:
            world.child.exit()
    others = [line for line in world.log if "has run (" not in line]
    assert len(others) == 2
    assert "works again" in others[1]


def test_troublesThatAreNeverTheSameAreToldOnlyForSoLong(world: World) -> None:
    world.tell(BOB)
    for number in range(30):
        while world.isIdle:
            world.wait(1)
        world.child.exit(number + 1)
    assert len(world.log) == MOST_TROUBLES + 1
    assert world.log[-1] == (
        "the --on-change command fails in ever new ways; no more of them are told"
    )


@pytest.mark.parametrize(("says", "isTold"), [("at {0}\nBIND is down\n", 1), ("it is {0}\n", 2)])
def test_whetherATroubleIsNewShowsAtTheEndOfWhatIsSaid(
    world: World, says: str, isTold: int
) -> None:
    world.tell(BOB)
    for number in range(2):
        while world.isIdle:
            world.wait(1)
        world.child.said(says.format(number).encode())
        world.child.exit(1)
    assert sum("will be tried again" in line for line in world.log) == isTold


def test_whatOneSaysThatIsEndedIsNoNewTrouble(world: World) -> None:
    world.tell(BOB)
    for number in range(3):
        while world.isIdle:
            world.wait(1)
        world.child.said(b"at %d\n" % number)
        world.wait(30)
    assert world.log == [
        "--on-change (bob): at 0",
        "the --on-change command took longer than 30 s and was ended (bob); it will be tried again",
    ]


def test_anotherTroubleIsToldBesideTheFirst(world: World) -> None:
    world.tell(BOB, CAROL)
    world.wait(GATHERING)
    world.child.exit(1)
    world.wait(REST)
    world.child.exit(2)
    assert [line.partition(";")[0] for line in world.log] == [
        "the --on-change command ended with status 1 (bob)",
        "the --on-change command ended with status 2 (carol)",
    ]
    world.settle()
    assert [line for line in world.log if "again (" in line] == [
        "the --on-change command works again (bob)",
        "the --on-change command works again (carol)",
    ]


def test_whatASuccessSaysIsLogged(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    world.child.said(b"reloaded\n")
    world.child.exit()
    assert world.log == ["--on-change (bob): reloaded"]


def test_eachSuccessThatSaysNothingIsOneLineOfTheLog(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(MOVED)
    world.settle()
    assert world.log == ["the --on-change command has run (bob)"] * 2


def test_aProgramThatIsNotThereIsToldAtTheStart(world: World, tmp_path: Path) -> None:
    program = tmp_path / "tell"
    teller = Teller(
        clock=world.clock,
        command=Command((str(program), "x")),
        spawn=world.spawner,
        memory=Memory.inFolder(world.folder),
        environment={},
    )
    teller.startService()
    assert world.log == [f"--on-change: there is no program {program} yet"]
    teller.stopService()
    program.write_text("#!/bin/sh\n")
    teller.startService()
    assert world.log[1:] == [f"--on-change: {program} is not executable yet"]
    teller.stopService()


def test_atTheEndWhatRunsHasAShortTime(world: World) -> None:
    world.tell(BOB, CAROL)
    world.wait(GATHERING)
    over: list[None] = []
    world.teller.stopService().addCallback(over.append)
    # Nobody is told to have gone because we go.
    world.tell(BOB.gone())
    world.wait(STOPPING - 0.1)
    assert (world.child.signals, over) == ([], [])
    child = world.child
    world.wait(0.1)
    assert child.signals == [SIGTERM]
    assert over == [None]
    world.wait(100)
    assert len(world.told) == 1


def test_whatEndsInTimeIsNotDisturbed(world: World) -> None:
    world.tell(BOB)
    world.wait(GATHERING)
    child = world.child
    over: list[None] = []
    world.teller.stopService().addCallback(over.append)
    child.exit()
    assert (over, child.signals) == ([None], [])


def test_withNothingToDoItEndsAtOnce(world: World) -> None:
    over: list[None] = []
    world.teller.stopService().addCallback(over.append)
    assert over == [None]


def restarted(world: World) -> None:
    world.teller.stopService()
    world.spawner.children.clear()
    world.teller = world.make()


def test_afterARestartAllAreToldAsTheyAre(world: World) -> None:
    world.tell(BOB)
    world.settle()
    restarted(world)
    world.tell(BOB)
    world.settle()
    assert world.told == ["arrived bob 198.51.100.1"]


def test_whoWasKnownBeforeARestartIsToldWithAllThatHeHas(world: World) -> None:
    world.tell(serving(BOB))
    world.settle()
    restarted(world)
    world.tell(BOB)
    world.wait(2)
    world.tell(serving(BOB))
    world.settle()
    assert world.told == ["arrived bob 198.51.100.1 web=80"]


def test_whoHasGoneMeanwhileIsToldToHaveGone(world: World) -> None:
    world.tell(BOB, CAROL)
    world.settle()
    restarted(world)
    world.tell(CAROL)
    world.wait(MISSING)
    world.child.exit()
    world.wait(RETURNING - MISSING - 1)
    assert world.told == ["arrived carol 198.51.100.1"]
    world.wait(1)
    assert world.told[1:] == ["left bob"]
    world.settle()
    restarted(world)
    world.wait(RETURNING)
    assert world.told == ["left carol"]


def test_whoMayHaveBeenToldIsRemembered(world: World) -> None:
    """
    The process ends while the command runs.
    """
    world.tell(BOB)
    world.wait(GATHERING)
    world.teller.stopService()
    world.child.exit(1)
    restarted(world)
    world.wait(RETURNING)
    assert world.told == ["left bob"]


def test_whoHasGoneWithSuccessIsNotRemembered(world: World) -> None:
    world.tell(BOB)
    world.settle()
    world.tell(BOB.gone())
    world.wait(LEAVING)
    world.settle()
    restarted(world)
    world.wait(RETURNING)
    assert world.told == []


def test_aNameWithANewOwnerDoesNotGoWithTheOldOne(world: World) -> None:
    other = evolve(MOVED, peerID=PeerID(bytes(32)))
    world.tell(BOB)
    world.settle()
    world.tell(other)
    world.tell(BOB.gone())
    world.settle()
    world.wait(LEAVING)
    assert world.told[1:] == ["changed bob 198.51.100.2"]
    assert "peer_id" in world.spawner.children[-1].environment["PUNCHD_CHANGED"].split()


def test_ofThoseWhoHaveGoneOnlySoManyAreRemembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "MOST_GONE", 3)
    names = ["a", "b", "c", "d", "e"]
    world.tell(*map(makeFacts, names))
    world.settle()
    world.tell(*(makeFacts(name).gone() for name in names))
    world.settle()
    world.wait(LEAVING)
    world.settle()
    assert world.told[5:] == ["left c", "left d", "left e"]
    assert sum("the command is never told" in line for line in world.log) == 2
    restarted(world)
    world.wait(RETURNING)
    assert world.told == []
