"""
What a strategy holds in its hands while it tries.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.address import IPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import Unreachable
from punchd.interfaces import IAttempt
from punchd.link.punched import PunchedConnection
from punchd.net.held import HeldPort
from punchd.net.racing import RaceLost, RacingEndpoint
from punchd.peer.guesses import Sprays
from punchd.values.addresses import Address, showAddress
from punchd.values.outcomes import Outcome, Result, Try, Way
from punchd.values.parties import Situation
from punchd.wire.preamble import Side

if TYPE_CHECKING:
    from punchd.peer.punching import Punch

#: Sockets that one attempt may use toward one address, whatever its strategy asks for.
MOST_RETRIES = 64

#: Addresses that one race may dial.
MOST_REMOTES = 16

#: Seconds that a guess waits if its strategy does not say: within one, the kernel repeats no SYN.
SPRAY_PATIENCE = 0.9


class _DialledFactory(Factory):
    noisy = False

    def __init__(self, punch: Punch) -> None:
        self._punch = punch

    def buildProtocol(self, addr: IAddress | None) -> PunchedConnection:
        return self._punch.makeConnection(Way.DIALLED, addr)


@implementer(IAttempt)
@define(eq=False)
class Attempt:
    """
    Made by a L{Punch} for one run of one strategy, and closed by it when the run is over.

    @ivar accepted: connections that came in and are counted for this attempt.
    """

    strategy: str
    _punch: Punch
    accepted: list[Try] = field(factory=list, init=False)
    _races: list[tuple[HeldPort, Sequence[Address], bool, RacingEndpoint]] = field(
        factory=list, init=False
    )
    _sprays: Sprays = field(init=False)
    _messages: DeferredQueue[tuple[bytes, Address | None]] = field(init=False)
    _ports: list[HeldPort] = field(factory=list, init=False)
    _running: list[Deferred[Outcome]] = field(factory=list, init=False)
    _isOver: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        # A few messages may wait until the strategy hears them; more is an attack.
        self._messages = DeferredQueue(size=64)
        punch = self._punch
        seen = {punch.other.reflexive}
        self._sprays = Sprays(punch.clock, punch.allotment, punch.policy, self.note, seen)

    @property
    def situation(self) -> Situation:
        return self._punch.situation

    @property
    def isCaller(self) -> bool:
        return self._punch.ticket.side is Side.CALLER

    @property
    def clock(self) -> IReactorTime:
        return self._punch.clock

    @property
    def random(self) -> Random:
        return self._punch.random

    def heldPort(self) -> HeldPort:
        return self._punch.port

    def freshPort(self) -> Deferred[HeldPort]:
        self._checkNotOver()
        return self._punch.surroundings.freshPort().addCallback(self._keepPort)

    def ordinaryPort(self) -> HeldPort:
        self._checkNotOver()
        return self._keepPort(self._punch.surroundings.ordinaryPort())

    def leasedPort(self) -> HeldPort | None:
        return self._punch.surroundings.leased

    def ipv6Port(self) -> HeldPort | None:
        punch = self._punch
        own = punch.situation.caller if self.isCaller else punch.situation.callee
        told = own.offer.ipv6
        return None if told is None else punch.surroundings.portSeenAt(told)

    def _keepPort(self, port: HeldPort) -> HeldPort:
        if self._isOver:
            self._punch.surroundings.release(port)
        self._checkNotOver()
        self._ports.append(port)
        return port

    def _checkNotOver(self) -> None:
        if self._isOver:
            raise Unreachable("this attempt is over")

    def race(
        self, port: HeldPort, remotes: Sequence[Address], listening: bool, retries: int = 1
    ) -> Deferred[Outcome]:
        self._checkNotOver()
        allowed = []
        for remote in list(remotes)[:MOST_REMOTES]:
            if not self._allows(remote):
                self.note(f"does not dial {showAddress(remote)}: not an address for us to dial")
            elif not port.reaches(remote):
                self.note(f"cannot dial {showAddress(remote)} from a port of the other family")
            else:
                allowed.append(remote)
        endpoint = RacingEndpoint(
            self.clock,
            port,
            allowed,
            self._punch.random,
            _settled,
            listening,
            min(retries, MOST_RETRIES),
        )
        self._races.append((port, allowed, listening, endpoint))
        began = self.clock.seconds()
        racing = endpoint.connect(_DialledFactory(self._punch))
        outcome = racing.addCallbacks(
            lambda connection: self._proven(connection, began),
            lambda failure: self._lost(failure, began),
        )
        self._running.append(outcome)
        return outcome

    def spray(
        self,
        remotes: Sequence[Address],
        port: HeldPort | None = None,
        patience: float = SPRAY_PATIENCE,
    ) -> Deferred[Outcome]:
        self._checkNotOver()
        began = self.clock.seconds()
        factory = _DialledFactory(self._punch)
        outcome = self._sprays.dial(remotes, port, patience, factory, self._prove).addCallbacks(
            lambda _: self._outcome(Result.CONNECTED, began),
            lambda failure: self._lost(failure, began),
        )
        self._running.append(outcome)
        return outcome

    def _prove(self, connection: IProtocol) -> Deferred[PunchedConnection]:
        # Several guesses may hit at the same moment. Which of them is elected is for the caller to
        # say, so those that come later count, too.
        return _settled(connection).addCallback(self._guessProven)

    def _guessProven(self, connection: PunchedConnection) -> PunchedConnection:
        self._punch.proven(connection, self.strategy)
        return connection

    def _allows(self, remote: Address) -> bool:
        policy, other = self._punch.policy, self._punch.other
        if policy.allowsHost(remote, other.reflexive):
            return True
        if isinstance(remote, IPv6Address):
            return policy.allowsIPv6(remote, other)
        return policy.allowsReflexive(remote)

    def _proven(self, connection: IProtocol, began: float) -> Outcome:
        assert isinstance(connection, PunchedConnection)
        self._punch.proven(connection, self.strategy)
        return self._outcome(Result.CONNECTED, began)

    def _lost(self, failure: Failure, began: float) -> Outcome | Failure:
        if failure.check(RaceLost) is None:
            return failure
        tries = self.tries
        result = tries[-1].result if tries else Result.NOT_POSSIBLE
        return self._outcome(result, began)

    def _outcome(self, result: Result, began: float) -> Outcome:
        return Outcome(self.strategy, result, self.clock.seconds() - began, self.tries)

    def tell(self, body: bytes, port: HeldPort | None = None) -> Deferred[Any]:
        token = None if port is None else port.token
        return self._punch.surroundings.tell(self._punch.ticket.session, self.strategy, body, token)

    def hear(self) -> Deferred[tuple[bytes, Address | None]]:
        return self._messages.get()

    def told(self, body: bytes, observed: Address | None) -> None:
        """
        The other half has sent a message. Too many that nobody hears are dropped.
        """
        if observed is not None:
            self._sprays.saw(observed)
        if self._messages.size is None or len(self._messages.pending) < self._messages.size:
            self._messages.put((body, observed))

    def note(self, step: str) -> None:
        self._punch.note(f"{self.strategy}: {step}")

    @property
    def tries(self) -> tuple[Try, ...]:
        """
        What came of every socket so far.
        """
        dialled = [one for _, _, _, endpoint in self._races for one in endpoint.tries]
        return (*dialled, *self._sprays.tries, *self.accepted)

    def expects(self, localPort: int, remote: Address) -> int:
        """
        How well an accepted connection fits this attempt: 0 for not at all.
        """
        # A fresh port is this attempt's alone, and may listen before its race begins.
        fits = int(any(port.number == localPort for port in self._ports))
        expected = self._punch.other.reflexive.host
        for port, remotes, listening, _ in self._races:
            if port.number != localPort or not port.reaches(remote):
                continue
            if remote in remotes:
                # Whom it dials, even if it is another attempt's listener that took it.
                fits = max(fits, 3)
            elif listening:
                # Who only listens waits for the other side, whatever port it comes from.
                hosts = {one.host for one in remotes} or {expected}
                fits = max(fits, 1 + (remote.host in hosts))
        return fits

    def close(self) -> None:
        """
        The run is over: let go of its ports, and end what its strategy forgot.
        """
        self._isOver = True
        for running in self._running:
            if not running.called:
                running.cancel()
                running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._running.clear()
        for port in self._ports:
            self._punch.surroundings.release(port)
        self._ports.clear()


def _settled(connection: IProtocol) -> Deferred[PunchedConnection]:
    assert isinstance(connection, PunchedConnection)
    return connection.whenSettled()
