"""
Tests for L{punchd.peer.roaming}.
"""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.task import Clock

from punchd.peer.roaming import ASLEEP, GLANCE, SETTLING, Roaming, suspended
from punchd.values.addresses import Address, makeAddress

INSIDE = "10.0.0.2"
ELSEWHERE = "10.0.0.5"
SERVER = makeAddress("203.0.113.1", 7761)


@define(eq=False)
class Traveller:
    """
    A host that is carried about.

    @ivar news: called by the kernel, if somebody wants to hear of news.
    """

    at: str | None = INSIDE
    slept: float = 1000.0
    clock: Clock = field(factory=Clock)
    moves: list[str] = field(factory=list)
    news: list[Callable[[], None]] = field(factory=list)
    roaming: Roaming = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.roaming = Roaming(
            self.clock, self._source, self.moves.append, self._watch, lambda: self.slept
        )
        self.roaming.begin(SERVER)

    def _watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        self.news.append(changed)
        return lambda: self.news.remove(changed)

    def change(self) -> None:
        """
        Let the kernel say that something is new.
        """
        (changed,) = self.news
        changed()

    def _source(self, remote: Address) -> str | None:
        assert remote == SERVER
        return self.at


def test_anotherAddressIsNoticedOnce() -> None:
    traveller = Traveller()
    traveller.clock.pump([GLANCE] * 3)
    assert traveller.moves == []
    traveller.at = ELSEWHERE
    traveller.clock.pump([GLANCE] * 3)
    [move] = traveller.moves
    assert INSIDE in move
    assert ELSEWHERE in move
    assert traveller.clock.getDelayedCalls() == []


def test_noAddressIsNoMove() -> None:
    traveller = Traveller()
    traveller.at = None
    traveller.clock.pump([GLANCE] * 3)
    traveller.at = INSIDE
    traveller.clock.pump([GLANCE] * 3)
    assert traveller.moves == []
    traveller.roaming.end()
    assert traveller.clock.getDelayedCalls() == []


def test_theFirstAddressThatIsKnownCounts() -> None:
    traveller = Traveller(at=None)
    traveller.clock.advance(GLANCE)
    traveller.at = INSIDE
    traveller.clock.advance(GLANCE)
    traveller.at = ELSEWHERE
    traveller.clock.advance(GLANCE)
    assert len(traveller.moves) == 1


def test_newsAreLookedAtSoon() -> None:
    traveller = Traveller()
    traveller.at = ELSEWHERE
    traveller.change()
    assert traveller.moves == []
    traveller.clock.advance(SETTLING)
    assert len(traveller.moves) == 1
    assert traveller.news == []


def test_newsAllTheTimeDoNotKeepFromLooking() -> None:
    traveller = Traveller()
    traveller.at = ELSEWHERE
    for _ in range(2):
        traveller.change()
        traveller.clock.advance(SETTLING / 2)
    assert len(traveller.moves) == 1


def test_newsOfOtherThingsAreNoMove() -> None:
    traveller = Traveller()
    for _ in range(3):
        traveller.change()
        traveller.clock.advance(SETTLING)
    assert traveller.moves == []
    assert len(traveller.clock.getDelayedCalls()) == 1


def test_aLongSleepIsLikeAMove() -> None:
    traveller = Traveller()
    traveller.slept += ASLEEP
    traveller.clock.advance(GLANCE)
    assert traveller.moves == ["this host was asleep for 5 s"]
    # The next connection begins after it.
    traveller.roaming.begin(SERVER)
    traveller.clock.advance(GLANCE)
    assert len(traveller.moves) == 1


def test_aShortSleepIsNone() -> None:
    traveller = Traveller()
    traveller.slept += ASLEEP - 1
    traveller.clock.pump([GLANCE] * 3)
    assert traveller.moves == []


def test_theEndIsTheEndOfTheNews() -> None:
    traveller = Traveller()
    traveller.roaming.end()
    traveller.roaming.end()
    assert traveller.news == []
    assert traveller.clock.getDelayedCalls() == []


def test_whoHasNotSleptWasNotSuspended() -> None:
    assert suspended() >= 0.0
    assert abs(suspended() - suspended()) < 1.0
