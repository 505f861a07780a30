"""
Two peers' links, kept over wires in memory; what comes of an introduction is up to the test.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import PunchdError, Unreachable
from punchd.interfaces import IAccessPolicy
from punchd.link.flow import Limits
from punchd.link.path import Path
from punchd.link.stream import Stream
from punchd.peer.dialling import Dialling, Wanted
from punchd.peer.exposing import Exposures
from punchd.peer.keeping import Link
from punchd.peer.links import Links
from punchd.peer.master import MasterClient
from punchd.peer.meeting import Meeting
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import Join
from punchd.wire.preamble import Side
from tests.unit.link.wires import ALICE, BOB, Wire
from tests.unit.peer.punches import PunchOf, dialling

NAMES = {ALICE: "alice", BOB: "bob"}


@define(eq=False)
class Dial:
    """
    A link that is being dialled.

    @ivar isCancelled: whether it was given up.
    """

    wanted: Wanted
    at: float
    isCancelled: bool = False
    result: Deferred[Meeting] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.result = Deferred(self._cancel)

    def _cancel(self, result: object) -> None:
        self.isCancelled = True

    @property
    def isOpen(self) -> bool:
        return not self.result.called


@define(eq=False)
class FakeDialling:
    """
    Asks nobody.

    @ivar problem: why no server can be asked, if so.
    """

    clock: Clock
    dials: list[Dial] = field(factory=list)
    doubts: int = 0
    problem: PunchdError | None = None

    def doubt(self) -> None:
        self.doubts += 1

    async def connected(self) -> list[MasterClient]:
        if self.problem is not None:
            raise self.problem
        return []

    async def meet(self, wanted: Wanted) -> Meeting:
        dial = Dial(wanted, self.clock.seconds())
        self.dials.append(dial)
        return await dial.result


class AllowAll:
    """
    Permits everything.
    """

    def permits(self, peerID: PeerID, service: str) -> bool:
        return True


class End:
    """
    One peer.

    @ivar asks: streams that the other end has opened, all for the service C{ssh}.
    """

    def __init__(self, clock: Clock, own: PeerID, other: PeerID, limits: Limits) -> None:
        self.clock, self.own, self.other = clock, own, other
        self.dialling = FakeDialling(clock)
        self.asks: list[Stream] = []
        numbers = count(1)
        exposures = Exposures({}, cast(IAccessPolicy, AllowAll()))
        exposures.expose("ssh", self.asks.append)
        self.links = Links(
            clock,
            Random(1),
            lambda length: own.digest[: length - 1] + bytes([next(numbers)]),
            PeerAddress(NAMES[own], own),
            cast(Dialling, self.dialling),
            exposures,
            limits,
        )
        self.results: list[object] = []

    @property
    def link(self) -> Link:
        """
        The present one; it is made if there is none.
        """
        return self.links.to(NAMES[self.other], self.other)

    def reach(self) -> Deferred[None]:
        """
        Wait for a path; C{results} has what came of it.
        """
        reaching = self.link.reach()
        reaching.addBoth(self._told)
        return reaching

    def _told(self, result: object) -> None:
        self.results.append(result.value if isinstance(result, Failure) else "reached")

    @property
    def dials(self) -> list[Dial]:
        return self.dialling.dials

    @property
    def dial(self) -> Dial:
        """
        The one that is under way.
        """
        (dial,) = (dial for dial in self.dials if dial.isOpen)
        return dial

    def isDialling(self) -> bool:
        """
        Whether a dial is under way.
        """
        return any(dial.isOpen for dial in self.dials)

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = self.links.toJSON()[NAMES[self.other]]
        return found


class Peers:
    """
    Alice and Bob.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = Clock()
        limits = limits or Limits()
        self.alice = End(self.clock, ALICE, BOB, limits)
        self.bob = End(self.clock, BOB, ALICE, limits)
        self.wires: list[Wire] = []

    def meetingOf(self, end: End, dial: Dial | None = None) -> Meeting:
        side = Side.CALLER if dial is not None else Side.CALLEE
        punch = PunchOf(side, self.clock, [dialling("dial")]).punch
        found = dial.wanted.found if dial is not None else lambda path, meeting: None
        return Meeting(self.clock, punch, found, cast(Any, None), None, self.clock.seconds())

    def connect(
        self,
        isDirect: bool = True,
        by: End | None = None,
        ends: bool = True,
        silent: bool = False,
        dial: Dial | None = None,
    ) -> Wire:
        """
        Let C{by}, or Alice, find a path; then that meeting is over, if it C{ends}.

        @param silent: whether the other end does not hear of it.
        @param dial: whose path it is; by default that of the one which is under way.
        """
        caller = by or self.alice
        callee = self.bob if caller is self.alice else self.alice
        dial = dial or caller.dial
        paths = [Path(self.clock, lambda: None, isDirect) for _ in range(2)]
        paths[0].peerID, paths[1].peerID = callee.own, caller.own
        answering = self.meetingOf(callee)
        answering.punch.wonBy = "dial"

        def joined(path: Path, join: Join) -> None:
            if not silent:
                callee.links.joined(NAMES[caller.own], caller.own, path, answering)

        paths[1].onJoin = joined
        wire = Wire(self.clock, *paths)
        self.wires.append(wire)
        meeting = self.meetingOf(caller, dial)
        if isDirect:
            meeting.direct, meeting.punch.wonBy = paths[0], "dial"
        else:
            meeting.relayed = paths[0]
        meeting.found(paths[0], meeting)
        if ends and dial.isOpen:
            dial.result.callback(meeting)
        return wire

    def fail(self, error: Exception | None = None, end: End | None = None) -> None:
        """
        Let nothing come of what is dialled.
        """
        dial = (end or self.alice).dial
        dial.result.errback(Failure(error or Unreachable("nobody answers")))

    def flush(self) -> None:
        """
        Deliver everything that is under way.
        """
        happens = True
        while happens:
            self.clock.advance(0)
            happens = sum(map(Wire.step, self.wires)) > 0
            self.wires = [wire for wire in self.wires if wire.isOpen]

    def advance(self, seconds: float, step: float = 0.25) -> None:
        """
        Let time go by, with everything delivered at once.
        """
        until = self.clock.seconds() + seconds
        self.flush()
        while self.clock.seconds() < until - 1e-9:
            self.clock.advance(min(step, until - self.clock.seconds()))
            self.flush()

    def linked(self, isDirect: bool = True) -> "Peers":
        """
        Alice has reached Bob.
        """
        self.alice.reach()
        self.connect(isDirect)
        self.flush()
        return self

    def lose(self) -> None:
        """
        Break all wires.
        """
        for wire in self.wires:
            wire.kill()
        self.wires = []

    def silence(self) -> Wire:
        """
        Let nothing come over the wire any more, without a word to either end.
        """
        (wire,) = self.wires
        self.wires = []
        return wire

    def end(self) -> None:
        """
        Stop both, and expect that nothing is left to be done.
        """
        for end in (self.alice, self.bob):
            end.links.abort()
        self.advance(5, 1)
        assert self.clock.getDelayedCalls() == []
        assert not self.wires
        assert not self.alice.isDialling()
        assert not self.bob.isDialling()


@contextmanager
def twoPeers(limits: Limits | None = None) -> Iterator[Peers]:
    """
    Two peers, which are stopped, and leave nothing.
    """
    peers = Peers(limits)
    yield peers
    peers.end()
