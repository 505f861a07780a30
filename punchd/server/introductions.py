"""
Introducing two peers to each other: addresses, the moment to start, and messages until it is over.

Both are told so that they hear at one moment, which is the GO: the one who is nearer to the server
is held back by the difference of the two ways. Then the introduction is under way until the caller
reports, a side is gone, or its time is up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from punchd.errors import Limited, Overlapping, Refused, UnknownPeer
from punchd.interfaces import IObserver
from punchd.net.pacing import Allowance
from punchd.server.relaylimits import Accounts
from punchd.server.relaytokens import RelayTokens
from punchd.server.sessions import Population, Session
from punchd.values.addresses import Address, showAddress
from punchd.values.happenings import Happening
from punchd.values.parties import Offer, hostsFor
from punchd.values.peers import PeerID
from punchd.wire.commands import OWN, Told, toldArguments
from punchd.wire.commands import Introduction as IntroductionCommand
from punchd.wire.limiting import limitArguments
from punchd.wire.preamble import SESSION_LENGTH

#: Seconds after which an introduction is over in any case.
LIFETIME = 20.0

#: Messages that the two halves may exchange.
MOST_MESSAGES = 64

#: Seconds that nobody is held back longer than.
MOST_HOLD = 1.0

#: Seconds of holding back below which nobody wants to hear of it.
_WORTH_TELLING = 0.0005

#: Introductions that one peer may ask for, per second and at once.
INTRODUCTIONS_PER_SECOND = 20.0
INTRODUCTIONS_AT_ONCE = 100.0

#: Of these, introductions to one and the same peer: about half of what a peer takes from its
#: server, so that one caller cannot use up the places of all others.
CALLS_PER_SECOND = 5.0
CALLS_AT_ONCE = 40.0


def holdBack(wayToCaller: float | None, wayToCallee: float | None) -> tuple[float, float]:
    """
    How long to wait before telling the caller, and before telling the callee, so that both hear at
    the same moment.

    @param wayToCaller: seconds that a message to the caller takes; C{None} when nobody knows.
    """
    if wayToCaller is None or wayToCallee is None:
        return 0.0, 0.0
    difference = max(-MOST_HOLD, min(MOST_HOLD, wayToCallee - wayToCaller))
    return max(0.0, difference), max(0.0, -difference)


@define(eq=False)
class Introduction:
    """
    One introduction, from the caller's question to its end.

    @ivar session: its name on the wire.
    @ivar pair: the addresses that will meet.
    """

    session: bytes
    caller: Session
    callee: Session
    pair: frozenset[Address]
    until: float
    messages: int = 0
    _held: IDelayedCall | None = None
    _go: Callable[[], None] | None = None

    def hold(self, clock: IReactorTime, delay: float, go: Callable[[], None]) -> None:
        """
        Call C{go} after C{delay}, or at once if that is 0.
        """
        if delay > 0:
            self._go = go
            self._held = clock.callLater(delay, self.release)
        else:
            go()

    def release(self) -> None:
        """
        Let go now who is held back, if somebody is.
        """
        go, self._go = self._go, None
        if self._held is not None and self._held.active():
            self._held.cancel()
        if go is not None:
            go()

    def otherThan(self, session: Session) -> Session:
        """
        The other side.
        """
        return self.callee if session is self.caller else self.caller


@define(eq=False)
class Introductions:
    """
    All introductions of a server.

    @ivar relay: tokens for the server's relay, if it has one.
    @ivar accounts: of that relay.
    """

    _clock: IReactorTime
    _entropy: Callable[[int], bytes]
    _population: Population
    _observer: IObserver
    relay: RelayTokens | None = None
    accounts: Accounts | None = None
    # In the order of their ends, as all live equally long.
    _bySession: dict[bytes, Introduction] = field(factory=dict, init=False)
    _byPair: dict[frozenset[Address], Introduction] = field(factory=dict, init=False)
    _byPeer: dict[Session, set[Introduction]] = field(factory=dict, init=False)

    def introduce(
        self, caller: Session, peerID: PeerID, reflexive: Address, offer: Offer
    ) -> Deferred[dict[str, Any]]:
        """
        Introduce C{caller} to the peer with this ID.

        @param reflexive: the address that the server observed for the port that the caller holds.
        @param offer: what the caller says of that port.
        @return: the answer to the caller, which fires when it is to go out.
        @raise UnknownPeer: when the peer is not here, or does not accept the caller; which of the
            two is not told.
        @raise Overlapping: when these two ports are being introduced already.
        @raise Refused: when the caller asks too often, or for itself.
        """
        if caller.introducing is None:
            caller.introducing = Allowance(
                self._clock, INTRODUCTIONS_PER_SECOND, INTRODUCTIONS_AT_ONCE
            )
        if not caller.introducing.take():
            raise Refused(
                f"more than {INTRODUCTIONS_PER_SECOND:.0f} introductions a second: wait a little"
            )
        if peerID == caller.peerID:
            raise Refused("a peer cannot be introduced to itself")
        callee = self._population.get(peerID)
        if callee is None or caller.peerID not in callee.accepts:
            raise _unknown(peerID, caller.peerID)
        calls = callee.calls.get(caller.peerID)
        if calls is None:
            # Only for callers that the callee accepts, whose number is bounded.
            calls = Allowance(self._clock, CALLS_PER_SECOND, CALLS_AT_ONCE)
            callee.calls[caller.peerID] = calls
        if not calls.take():
            raise Refused(
                f"more than {CALLS_PER_SECOND:.0f} introductions a second to one peer: wait a "
                "little"
            )
        pair = frozenset((reflexive, callee.observed))
        if pair in self._byPair:
            raise Overlapping(
                "another introduction of the same two ports is under way: use a fresh port"
            )
        introduction = Introduction(
            self._entropy(SESSION_LENGTH), caller, callee, pair, self._clock.seconds() + LIFETIME
        )
        self._begin(introduction)
        return self._tellBoth(introduction, reflexive, offer)

    def tell(
        self,
        teller: Session,
        session: bytes,
        strategy: str,
        body: bytes,
        observed: Address | None,
    ) -> None:
        """
        Pass a message to the other half.

        @raise Refused: when there is no such introduction, or there were too many messages.
        """
        introduction = self._find(teller, session)
        if introduction.messages >= MOST_MESSAGES:
            raise Refused(f"more than {MOST_MESSAGES} messages in one introduction")
        introduction.messages += 1
        # A message never comes before the GO.
        introduction.release()
        other = introduction.otherThan(teller)
        self._note(
            introduction,
            f"passes {len(body)} bytes of {strategy} from {teller.name} to {other.name}"
            + ("" if observed is None else f", with the address {showAddress(observed)}"),
        )
        arguments = {"session": session, "strategy": strategy, "body": body, "observed": observed}
        self._send(introduction, other, Told, arguments)

    def report(self, caller: Session, session: bytes, strategy: str | None, seconds: float) -> None:
        """
        The caller says what came of it.

        @raise Refused: when it has no such introduction.
        """
        introduction = self._find(caller, session)
        if caller is not introduction.caller:
            raise Refused("the caller reports, not the callee")
        result = "no strategy connected" if strategy is None else f"{strategy} connected"
        self._end(introduction, f"{caller.name} reports: {result} after {seconds:.3f} s")

    def gone(self, session: Session) -> None:
        """
        A peer has gone, and its introductions with it.
        """
        for introduction in list(self._byPeer.get(session, ())):
            self._end(introduction, f"{session.name} is gone")

    def sweep(self) -> None:
        """
        End what is too old.
        """
        now = self._clock.seconds()
        while self._bySession:
            introduction = next(iter(self._bySession.values()))
            if introduction.until > now:
                return
            self._end(introduction, f"no report for {LIFETIME:.0f} s")

    def stop(self) -> None:
        """
        The server ends.
        """
        for introduction in list(self._bySession.values()):
            self._end(introduction, "the server ends")

    def __len__(self) -> int:
        return len(self._bySession)

    def _tellBoth(
        self, introduction: Introduction, reflexive: Address, offer: Offer
    ) -> Deferred[dict[str, Any]]:
        caller, callee = introduction.caller, introduction.callee
        calleeOffer = _told(callee.offer, callee.observed, reflexive)
        callerOffer = _told(offer, reflexive, callee.observed)
        tokens: tuple[bytes | None, bytes | None] = None, None
        limit: Limited | None = None
        if self.relay is not None and offer.takesRelay and callee.offer.takesRelay:
            if self.accounts is not None:
                limit = self.accounts.limit(caller.peerID, callee.peerID)
            if limit is None:
                tokens = self.relay.issue(introduction.session, caller, callee)
        toCaller = {
            "session": introduction.session,
            "own": reflexive,
            "reflexive": callee.observed,
            "relay": tokens[0],
            **limitArguments(limit),
            **toldArguments(calleeOffer),
            **toldArguments(callerOffer, OWN),
        }
        toCallee = {
            "session": introduction.session,
            "caller": caller.peerID,
            "own": callee.observed,
            "reflexive": reflexive,
            "relay": tokens[1],
            **limitArguments(limit),
            **toldArguments(callerOffer),
            **toldArguments(calleeOffer, OWN),
        }
        waits = holdBack(caller.oneWay, callee.oneWay)
        held = ""
        for wait, session in zip(waits, (caller, callee), strict=True):
            if wait >= _WORTH_TELLING:
                held = f"; GO held back {wait * 1000:.0f} ms for {session.name}"
        self._note(
            introduction,
            f"tells {caller.name} {callee.name}'s address {showAddress(callee.observed)} and "
            f"{callee.name} {caller.name}'s {showAddress(reflexive)}{held}"
            + ("" if limit is None else f"; relays nothing: {limit}"),
        )
        answer: Deferred[dict[str, Any]] = Deferred()
        introduction.hold(
            self._clock,
            waits[1],
            partial(self._send, introduction, callee, IntroductionCommand, toCallee),
        )
        introduction.hold(
            self._clock, waits[0], partial(self._answer, introduction, answer, toCaller)
        )
        return answer

    def _answer(
        self,
        introduction: Introduction,
        answer: Deferred[dict[str, Any]],
        arguments: dict[str, Any],
    ) -> None:
        if introduction.session in self._bySession:
            answer.callback(arguments)
        else:
            # The callee has gone meanwhile.
            answer.errback(_unknown(introduction.callee.peerID, introduction.caller.peerID))

    def _send(
        self,
        introduction: Introduction,
        session: Session,
        command: type[Any],
        arguments: dict[str, Any],
    ) -> None:
        if introduction.session not in self._bySession:
            # It ended while the callee was held back, who shall not hear of it now.
            return
        answered: Deferred[Any] = session.line.callRemote(command, **arguments)
        answered.addErrback(self._declined, introduction, session)

    def _declined(self, failure: Failure, introduction: Introduction, session: Session) -> None:
        if introduction.session in self._bySession:
            self._note(introduction, f"{session.name} did not take it: {failure.value!s:.200}")

    def _find(self, member: Session, session: bytes) -> Introduction:
        introduction = self._bySession.get(session)
        if introduction is None or member not in (introduction.caller, introduction.callee):
            raise Refused("no such introduction is under way: it is over, or was never yours")
        return introduction

    def _begin(self, introduction: Introduction) -> None:
        self._bySession[introduction.session] = introduction
        self._byPair[introduction.pair] = introduction
        for session in (introduction.caller, introduction.callee):
            self._byPeer.setdefault(session, set()).add(introduction)

    def _end(self, introduction: Introduction, why: str) -> None:
        del self._bySession[introduction.session]
        del self._byPair[introduction.pair]
        for session in (introduction.caller, introduction.callee):
            own = self._byPeer[session]
            own.discard(introduction)
            if not own:
                del self._byPeer[session]
        introduction.release()
        self._note(introduction, why)

    def _note(self, introduction: Introduction, step: str) -> None:
        self._observer.happened(
            Happening("server", introduction.session.hex(), step, self._clock.seconds())
        )


def _told(offer: Offer, own: Address, other: Address) -> Offer:
    return evolve(offer, hosts=hostsFor(offer.hosts, own, other))


def _unknown(peerID: PeerID, callerID: PeerID) -> UnknownPeer:
    return UnknownPeer(
        f"peer {peerID.short}… is not connected to this server, or has not trusted this peer: its "
        f"owner can run 'punchd trust NAME {callerID}'"
    )
