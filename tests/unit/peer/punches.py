"""
Introductions in memory: both sides' punches, with strategies and sockets of the test's.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.interfaces import IAttempt, IStrategy
from punchd.link.path import Path
from punchd.link.tickets import Ticket
from punchd.net.held import HeldPort
from punchd.peer.arrivals import Arrivals
from punchd.peer.punching import Punch
from punchd.values.addresses import Address
from punchd.values.outcomes import Outcome
from punchd.values.parties import LocalAddressPolicy, Offer, Party, Situation
from punchd.values.plans import Consideration, Plan, PlannedAttempt
from punchd.wire.frames import LINK_LENGTH, Join
from punchd.wire.preamble import Side
from tests.unit.link.pairs import makeTicket
from tests.unit.net.memory import HERE, THERE, Pair
from tests.unit.net.ports import Dialling, FakePort

#: How the caller elects a path.
JOIN = Join(b"l" * LINK_LENGTH, 1, isNew=True, received=0)

SITUATION = Situation(Party(HERE, Offer()), Party(THERE, Offer()))


@implementer(IStrategy)
@define(eq=False)
class Scripted:
    """
    A strategy that does what the test says.

    @ivar attempts: those that have begun.
    """

    name: str
    script: Callable[[IAttempt], Any]
    version: int = 1
    attempts: list[IAttempt] = field(factory=list)

    def consider(self, situation: Situation) -> Consideration | None:
        return Consideration(1.0, 4.0)

    def attempt(self, attempt: IAttempt) -> Deferred[Outcome]:
        self.attempts.append(attempt)
        result: Deferred[Outcome] = self.script(attempt)
        return result


def dialling(name: str, listening: bool = False, retries: int = 1) -> Scripted:
    """
    A strategy that dials the other's reflexive candidate.
    """

    def script(attempt: IAttempt) -> Deferred[Outcome]:
        situation: Situation = attempt.situation
        other = situation.callee if attempt.isCaller else situation.caller
        return attempt.race(attempt.heldPort(), [other.reflexive], listening, retries)

    return Scripted(name, script)


@define(eq=False)
class FakeServer:
    """
    What a punch needs of its server.
    """

    clock: Clock
    ports: list[FakePort] = field(factory=list)
    released: list[object] = field(factory=list)
    told: list[tuple[bytes, str, bytes, bytes | None]] = field(factory=list)
    leased: HeldPort | None = None
    seen: dict[Address, HeldPort] = field(factory=dict)

    def portSeenAt(self, observed: Address) -> HeldPort | None:
        return self.seen.get(observed)

    def ordinaryPort(self) -> HeldPort:
        port = FakePort(self.clock, number=3000 + len(self.ports))
        self.ports.append(port)
        return cast(HeldPort, port)

    problemWithPorts: Exception | None = None

    def freshPort(self) -> Deferred[HeldPort]:
        if self.problemWithPorts is not None:
            return fail(self.problemWithPorts)
        port = FakePort(self.clock, number=2000 + len(self.ports), token=b"t" * 16)
        self.ports.append(port)
        return succeed(cast(HeldPort, port))

    def release(self, port: HeldPort) -> None:
        self.released.append(port)

    def tell(
        self, session: bytes, strategy: str, body: bytes, token: bytes | None
    ) -> Deferred[dict[str, Any]]:
        self.told.append((session, strategy, body, token))
        return succeed({})


@define(eq=False)
class PunchOf:
    """
    One side of an introduction.

    @ivar won: the path that was elected.
    @ivar lost: why there is none.
    """

    side: Side
    clock: Clock
    strategies: Sequence[Scripted]
    plan: Plan | None = None
    policy: LocalAddressPolicy | None = None
    situation: Situation = SITUATION
    ticket: Ticket | None = None
    steps: list[str] = field(factory=list)
    won: list[Path] = field(factory=list)
    lost: list[Failure] = field(factory=list)
    port: FakePort = field(init=False)
    server: FakeServer = field(init=False)
    punch: Punch = field(init=False)
    running: Deferred[Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.port = FakePort(self.clock)
        self.server = FakeServer(self.clock)
        own = self.situation.caller if self.side is Side.CALLER else self.situation.callee
        self.punch = Punch(
            clock=self.clock,
            random=Random(1),
            ticket=self.ticket or makeTicket(self.side),
            situation=self.situation,
            policy=self.policy or LocalAddressPolicy(own.reflexive),
            port=cast(HeldPort, self.port),
            surroundings=self.server,
            note=self.steps.append,
            strategies={one.name: one for one in self.strategies},
            plan=self.plan
            or Plan(
                tuple(
                    PlannedAttempt(one.name, float(number), float(number) + 4)
                    for number, one in enumerate(self.strategies)
                )
            ),
        )
        self.arrivals = Arrivals(self.clock, lambda session: self.punch)

    arrivals: Arrivals = field(init=False)

    def run(self) -> "PunchOf":
        self.running = self.punch.run()
        self.running.addCallbacks(self._won, self.lost.append)
        return self

    def _won(self, path: Path) -> None:
        self.won.append(path)
        if self.side is Side.CALLER:
            path.write([JOIN.pack()])

    @property
    def results(self) -> dict[str, str]:
        """
        What came of each strategy, by name.
        """
        return {outcome.strategy: outcome.result.value for outcome in self.punch.outcomes}

    @property
    def leavesNothing(self) -> bool:
        open_ = [one for one in self.port.dials if not one.connecting.called]
        return not open_ and not self.clock.getDelayedCalls() and self.port.listening == 0


class Introduction:
    """
    Both sides of an introduction, with the same strategies.
    """

    def __init__(self, *names: str, listening: bool = False, retries: int = 1) -> None:
        self.clock = Clock()
        names = names or ("dial",)
        self.caller, self.callee = (
            PunchOf(side, self.clock, [dialling(name, listening, retries) for name in names])
            for side in Side
        )
        self.pairs: list[Pair] = []

    def run(self) -> "Introduction":
        self.caller.run()
        self.callee.run()
        return self

    def cross(self, which: int = 0) -> Pair:
        """
        Let one dialled socket of each side meet, a simultaneous open, and say all they have to say.
        """
        pair = self.meet(which)
        pair.flush()
        return pair

    def meet(self, which: int = 0) -> Pair:
        """
        Let one dialled socket of each side meet.
        """
        one, two = self.caller.port.dials[which], self.callee.port.dials[which]
        protocols = [dial.factory.buildProtocol(dial.remote) for dial in (one, two)]
        pair = self._join(*protocols)
        for dial, protocol in zip((one, two), protocols, strict=True):
            assert protocol is not None
            dial.connecting.callback(protocol)
        return pair

    def arrive(self, at: PunchOf, dial: Dialling) -> Pair:
        """
        Let a dialled socket meet the other side's listener.
        """
        protocol: Any = dial.factory.buildProtocol(dial.remote)
        pair = self._join(protocol, at.arrivals.buildProtocol(HERE))
        dial.connecting.callback(protocol)
        pair.flush()
        return pair

    def _join(self, one: Any, two: Any) -> Pair:
        pair = Pair(self.clock, one, two, greet=False)
        self.pairs.append(pair)
        return pair

    def flush(self) -> None:
        for _ in range(5):
            for pair in self.pairs:
                pair.flush()

    def end(self) -> None:
        """
        Break whatever is open, and expect that nothing is left to be done.
        """
        for pair in self.pairs:
            pair.one.abortConnection()
        self.flush()
        for side in (self.caller, self.callee):
            if not side.won and not side.lost:
                side.running.cancel()
        self.flush()
        self.clock.advance(0)
        assert self.clock.getDelayedCalls() == []
