"""
An introduction in the in-memory internet, from the caller's question to what came of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from punchd.errors import NoPath, PunchdError
from punchd.interfaces import IStrategy
from punchd.link.path import Path
from punchd.link.session import Session
from punchd.link.stream import Stream
from punchd.link.tickets import Ticket
from punchd.peer.punching import Punch
from punchd.strategies.planning import makePlan
from punchd.testing.internet.peers import Peer
from punchd.values.nat import NatBehaviour
from punchd.values.outcomes import Outcome
from punchd.values.peers import PeerAddress, PeerID
from punchd.values.plans import Plan
from punchd.wire.frames import LINK_LENGTH
from punchd.wire.preamble import NONCE_LENGTH, Side

if TYPE_CHECKING:
    from punchd.testing.internet.internet import Host, Internet

#: Seconds of virtual time after which an introduction must be over.
LIMIT = 30.0


@frozen
class SideResult:
    """
    What one side saw.

    @ivar strategy: by which strategy it has a connection; C{None} if it has none.
    @ivar outcomes: of all its strategies that are done.
    @ivar dialled: how many sockets have dialled.
    @ivar mostHalfOpen: how many of them at a time had no answer yet, at most.
    @ivar packets: how many packets left the host.
    @ivar told: how many messages went to the other half.
    @ivar left: what was still open when it was over, and should not have been.
    """

    strategy: str | None
    outcomes: tuple[Outcome, ...]
    dialled: int
    mostHalfOpen: int
    packets: int
    told: int
    left: tuple[str, ...]


@frozen
class Introduced:
    """
    What came of an introduction.

    @ivar path: C{"direct"}, or C{None} if there is none.
    @ivar strategy: which one won.
    @ivar seconds: from the caller's question to its TCP connection, or to knowing that there is
        none.
    @ivar roundTrip: seconds between the two peers and back.
    @ivar reason: why there is no path.
    @ivar plan: what was tried, and when.
    @ivar caller: what the caller saw; C{callee}: what the callee saw.
    @ivar timeline: who noted what and when, in order.
    """

    path: str | None
    strategy: str | None
    seconds: float
    roundTrip: float
    reason: str | None
    plan: Plan
    caller: SideResult
    callee: SideResult
    timeline: tuple[tuple[float, str, str], ...]

    @property
    def roundTrips(self) -> float:
        """
        The seconds, in round trips between the two.
        """
        return self.seconds / self.roundTrip if self.roundTrip else 0.0

    @property
    def left(self) -> tuple[str, ...]:
        """
        What was still open on either side.
        """
        return (*self.caller.left, *self.callee.left)

    def line(self) -> str:
        """
        The result in a few words.
        """
        if self.strategy is None:
            return f"no path after {self.seconds:.3f} s: {self.reason}"
        return f"{self.path} by {self.strategy} after {self.seconds:.3f} s"


@define(eq=False)
class Half:
    """
    One side while it runs.

    @ivar peer: the peer on this side.
    @ivar running: as of L{Punch.run<punchd.peer.punching.Punch.run>}, once it runs.
    @ivar session: what runs over C{path}, which was won.
    @ivar error: why there is nothing.
    """

    side: Side
    peer: Peer
    dialledBefore: int = 0
    packetsBefore: int = 0
    running: Deferred[Any] | None = None
    session: Session | None = None
    path: Path | None = None
    error: BaseException | None = None
    overAt: float | None = None
    plan: Plan = field(factory=lambda: Plan(()))

    @property
    def isOver(self) -> bool:
        """
        Whether it has won or lost.
        """
        return self.overAt is not None

    def run(self, told: dict[str, Any], other: PeerID, who: str) -> None:
        """
        The GO is here.
        """
        peer = self.peer
        situation = peer.situationFrom(told, self.side)
        nonce = peer.random.randbytes(NONCE_LENGTH)
        ticket = Ticket(told["session"], self.side, nonce, other, who, peer.context)
        self.plan = makePlan(situation, peer.strategies)
        peer.punch = Punch(
            clock=peer.host.reactor,
            random=peer.random,
            ticket=ticket,
            situation=situation,
            policy=peer.policy,
            port=peer.port,
            surroundings=peer,
            note=peer.note,
            strategies=peer.strategies,
            plan=self.plan,
        )
        self.running = peer.punch.run()
        self.running.addCallbacks(self._won, self.lost)

    def _won(self, path: Path) -> None:
        isCaller = self.side is Side.CALLER
        there = PeerAddress("the other", path.peerID)
        clock, join = self.peer.host.reactor, path.join
        number = self.peer.random.randbytes(LINK_LENGTH) if join is None else join.link
        session = Session(clock, number, isCaller, path.peerID, self, peer=there)
        self.session, self.path = session, path
        if join is None:
            # Only what the other side agrees to is a path.
            session.join(path).addCallbacks(lambda _: self._over(), self.lost)
        else:
            session.joined(path, join)
            self._over()

    def asked(self, stream: Stream, service: str) -> None:
        """
        The other side wants a stream, which nobody here does.
        """
        stream.refuse("there are no services here")

    def pathChanged(self, session: Session) -> None:
        """
        As a L{SessionOwner<punchd.link.session.SessionOwner>}: one path is all there is.
        """

    def lost(self, failure: Failure) -> None:
        """
        It comes to nothing.
        """
        self.error = failure.value
        self.session = None
        self._over()

    def _over(self) -> None:
        self.overAt = self.peer.host.reactor.seconds()

    def cancel(self) -> None:
        """
        Nobody wants a connection any more.
        """
        if self.running is not None and not self.isOver:
            self.running.cancel()

    def result(self) -> SideResult:
        """
        What it saw, when everything should be closed.
        """
        punch, stack = self.peer.punch, self.peer.host.stack
        return SideResult(
            None if punch is None or self.session is None else punch.wonBy,
            () if punch is None else tuple(punch.outcomes),
            stack.dialled - self.dialledBefore,
            stack.mostHalfOpen,
            stack.packets - self.packetsBefore,
            self.peer.told,
            self.peer.leftovers,
        )


@define(eq=False)
class Introduction:
    """
    Made by L{Internet.begin<punchd.testing.internet.internet.Internet.begin>}: both peers are
    logged in, and the caller has asked.

    @ivar caller: the side that asked; C{callee}: the one that is called.
    """

    _internet: Internet
    caller: Half
    callee: Half
    _began: float = field(default=0.0, init=False)

    @classmethod
    def begin(
        cls,
        internet: Internet,
        hosts: tuple[Host, Host],
        strategies: tuple[list[IStrategy], list[IStrategy]],
        behaviours: dict[str, NatBehaviour],
    ) -> Introduction:
        """
        Let both log in, and the one ask for the other.

        @raise RuntimeError: when they cannot log in, such as with a link that is cut.
        """
        peers = [
            Peer(internet, host, known, behaviours.get(host.name))
            for host, known in zip(hosts, strategies, strict=True)
        ]
        caller, callee = peers
        halves = (Half(Side.CALLER, caller), Half(Side.CALLEE, callee))
        introduction = cls(internet, *halves)

        def called(peer: Peer, told: dict[str, Any]) -> None:
            introduction.callee.run(told, told["caller"], caller.host.name)

        loggedIn: list[Deferred[None]] = []
        for peer, other in ((caller, callee), (callee, caller)):
            login = peer.login(other.identity.peerID, called)
            loggedIn.append(Deferred.fromCoroutine(login))
        # The later steps do not depend on when the ports were touched.
        isDone = internet.run(lambda: all(one.called for one in loggedIn), LIMIT)
        failures: list[Failure] = []
        for one in loggedIn:
            one.addErrback(failures.append)
        if failures or not isDone:
            for peer in peers:
                peer.close()
            why = failures[0].getErrorMessage() if failures else "no answer from the server"
            raise RuntimeError(f"a peer cannot log in: {why}")
        for half in halves:
            stack = half.peer.host.stack
            half.dialledBefore, half.packetsBefore = stack.dialled, stack.packets
            stack.mostHalfOpen = 0
        introduction._ask()
        return introduction

    def _ask(self) -> None:
        self._began = self._internet.clock.seconds()
        callee = self.callee.peer
        asking = self.caller.peer.introduce(callee.identity.peerID)
        asking.addCallback(
            lambda told: self.caller.run(told, callee.identity.peerID, callee.host.name)
        )
        asking.addErrback(self.caller.lost)

    def run(self, limit: float = LIMIT) -> bool:
        """
        Let time go on until both sides are done.

        @return: whether they are.
        """
        return self._internet.run(lambda: self.caller.isOver and self.callee.isOver, limit)

    def runToGo(self, limit: float = LIMIT) -> bool:
        """
        Let time go on until both sides have the GO, or one of them never will.

        @return: whether they have it.
        """

        def isDecided() -> bool:
            halves = (self.caller, self.callee)
            return all(half.running or half.isOver for half in halves) or self.caller.isOver

        self._internet.run(isDecided, limit)
        return self.caller.running is not None and self.callee.running is not None

    def cancel(self) -> None:
        """
        Nobody wants a connection any more, on either side.
        """
        for half in (self.caller, self.callee):
            half.cancel()

    def end(self) -> Introduced:
        """
        Cancel what runs still, close everything, and tell what came of it.
        """
        self.cancel()
        # Whatever was closed just now needs a turn of the reactor.
        self._internet.run(limit=0.0)
        halves = (self.caller, self.callee)
        for half in halves:
            if half.session is not None:
                half.session.abort("the introduction was all that was wanted")
            if half.path is not None:
                # TLS would wait for the other side's farewell.
                half.path.abort()
        self._internet.run(limit=0.0)
        caller, callee = (half.result() for half in halves)
        introduced = self._introduced(caller, callee)
        for half in halves:
            half.peer.close()
        self._internet.run(limit=0.0)
        return introduced

    def _introduced(self, caller: SideResult, callee: SideResult) -> Introduced:
        punch: Punch | None = self.caller.peer.punch
        hasPath = self.caller.session is not None and self.callee.session is not None
        until = self.caller.overAt or self._internet.clock.seconds()
        if hasPath and punch is not None and punch.connectedAt is not None:
            until = punch.connectedAt
        one, other = self.caller.peer.host, self.callee.peer.host
        oneWay = 0.0 if one.site is other.site else one.site.delay + other.site.delay
        steps = [
            (moment - self._began, half.peer.host.name, step)
            for half in (self.caller, self.callee)
            for moment, step in half.peer.notes
        ]
        steps += [
            (moment - self._began, who, step)
            for moment, who, step in self._internet.server.steps
            if moment >= self._began
        ]
        return Introduced(
            "direct" if hasPath else None,
            caller.strategy if hasPath else None,
            until - self._began,
            2 * oneWay,
            None if hasPath else self._reason(),
            self.caller.plan,
            caller,
            callee,
            tuple(sorted(steps, key=lambda step: step[0])),
        )

    def _reason(self) -> str:
        for half in (self.caller, self.callee):
            if isinstance(half.error, NoPath | PunchdError):
                return str(half.error)
        return "cancelled, or not over yet"
