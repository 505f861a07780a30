"""
One connection to a master service, from the TLS greeting to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast
from typing import Protocol as Typing

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from punchd.errors import (
    Limited,
    NotTrusted,
    ProtocolViolation,
    PunchdError,
    Refused,
    Unreachable,
)
from punchd.identity.tls import verdictOf
from punchd.link.occasion import Occasion
from punchd.net.pacing import Allowance
from punchd.values.addresses import Address
from punchd.values.naming import UNLISTED, Listing
from punchd.values.parties import Offer, Party
from punchd.values.peers import PeerID
from punchd.wire.boxes import BoundedAMP
from punchd.wire.commands import (
    OWN,
    Assist,
    Farewell,
    Hello,
    Introduction,
    Ping,
    Relay,
    RelayNote,
    Told,
    Update,
    errorFrom,
    offerArguments,
    offerFrom,
)
from punchd.wire.limiting import limitFrom
from punchd.wire.listing import listingArguments
from punchd.wire.versions import (
    MASTER_ALPN,
    MASTER_VERSION,
    OLDEST_MASTER_VERSION,
    commonMasterVersion,
)

_log = Logger()

#: Seconds between pings, and until one must be answered: death is noticed after 7 s at the latest.
PING_INTERVAL = 3.0
PING_PATIENCE = 4.0

#: The same, at the least, for a peer whose address others look up in the DNS and may keep for a
#: short time only: an address of its router's that is gone shall not live on for much longer. A
#: quarter and a half of that time, and never less patience than so many round trips.
LEAST_INTERVAL = 0.25
LEAST_PATIENCE = 0.5
PATIENT_TRIPS = 4

# Seconds; a longer time makes no difference.
_LONGEST_TTL = 3600

#: Seconds for TLS and hello together.
LOGIN_DEADLINE = 10.0

#: Seconds for an answer, where the server has to wait for something itself: it dials.
ANSWER_PATIENCE = 8.0

#: Introductions that a server may send us, a second and at once: each one makes us send SYNs.
CALL_RATE = 10.0
CALL_BURST = 64.0


@frozen
class Call:
    """
    An introduction, as it reaches the callee.

    @ivar own: how the server sees our port, and what the caller is told of us.
    @ivar relay: our token for the relay; C{None} if there will be no relayed path.
    @ivar limit: why not, if that is a limit.
    """

    session: bytes
    caller: PeerID
    own: Party
    other: Party
    relay: bytes | None = None
    limit: Limited | None = None


@frozen
class Welcome:
    """
    What the server says to a peer that it lets in.

    @ivar observed: how it sees this connection.
    @ivar relay: where its relay is, if it has one.
    @ivar zone: where peers have names in the DNS, if anywhere.
    """

    observed: Address
    assists: tuple[Assist, ...]
    relay: Relay | None = None
    zone: str | None = None


@frozen
class Greeting:
    """
    How a peer presents itself.
    """

    name: str
    accepts: frozenset[PeerID]
    offer: Offer
    listing: Listing = UNLISTED


class Listener(Typing):
    """
    Who wants to know what the server says, and when it is there.
    """

    def called(self, call: Call) -> None:
        """
        Somebody calls.

        @raise Refused: to say no.
        """

    def told(self, session: bytes, strategy: str, body: bytes, observed: Address | None) -> None:
        """
        The other half of a strategy has sent a message.
        """

    def relayNoted(self, session: bytes, reason: str, isOver: bool) -> None:
        """
        A limit of the relay's slows down the relayed path of an introduction, or ends it.

        @param reason: which one, for the person.
        """

    def backAgain(self) -> None:
        """
        There is a connection to the server again, after one was lost.
        """


class Conversation(amp.CommandLocator):
    """
    Made with its connection. L{login} comes first; L{ask} is for everything else.

    @ivar protocol: to be connected to a TLS transport.
    @ivar roundTrip: seconds to the server and back, as last measured.
    @ivar isUrgent: whether others are led astray until there is another connection.
    """

    def __init__(self, clock: IReactorTime, listener: Listener) -> None:
        self.protocol = _Connection(self)
        self.roundTrip: float | None = None
        self.isOver = self.isUrgent = False
        self._keeps: int | None = None
        self._isWatched = False
        self.error: PunchdError | None = None
        self._clock = clock
        self._listener = listener
        self._calls = Allowance(clock, CALL_RATE, CALL_BURST)
        self._timer: IDelayedCall | None = None
        self._end: Occasion[None] = Occasion()

    async def login(self, greeting: Callable[[Any], Greeting]) -> Welcome:
        """
        Say hello.

        @param greeting: gets the transport, for the address on this side.
        @raise PunchdError: why the server is not to be had.
        """
        self._setTimer(LOGIN_DEADLINE, self._tooLate)
        transport: Any = self.protocol.transport
        transport.setTcpNoDelay(True)
        said = greeting(transport)
        answer = await self.ask(
            Hello,
            version=MASTER_VERSION,
            oldest=OLDEST_MASTER_VERSION,
            name=said.name,
            accepts=said.accepts,
            **offerArguments(said.offer),
            **listingArguments(said.listing),
        )
        ttl = answer["ttl"]
        # Whatever a server says, it is a number to reckon with.
        self._keeps = None if ttl is None else min(max(ttl, 0), _LONGEST_TTL)
        self._isWatched = not said.listing.isEmpty
        if transport.negotiatedProtocol != MASTER_ALPN:
            raise ProtocolViolation("what answers there is not a punchd server's master service")
        commonMasterVersion(answer["version"], OLDEST_MASTER_VERSION)
        self._ping()
        assists = tuple(answer["assists"])
        return Welcome(answer["observed"], assists, answer["relay"], answer["zone"])

    def update(self, said: Greeting, ipv6token: bytes | None) -> Deferred[dict[str, Any]]:
        """
        Say what has changed since L{login}.

        @param ipv6token: names the port of the IPv6 candidate.
        """
        self._isWatched = not said.listing.isEmpty
        return self.ask(
            Update,
            accepts=said.accepts,
            ipv6token=ipv6token,
            **offerArguments(said.offer),
            **listingArguments(said.listing),
        )

    def ask(self, command: type[amp.Command], **arguments: Any) -> Deferred[dict[str, Any]]:
        """
        @raise PunchdError: the server's, or L{Unreachable} when the connection ends before its
            answer.
        """
        asked: Deferred[dict[str, Any]] = self.protocol.callRemote(command, **arguments)
        return asked.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        if not failure.check(Exception):
            return failure
        return Failure(self.error or errorFrom(cast(Exception, failure.value)))

    def whenOver(self) -> Deferred[None]:
        """
        Fires when the connection is gone.
        """
        return self._end.wait()

    def close(self) -> None:
        """
        End it in order.
        """
        if self.protocol.transport is not None:
            self.protocol.transport.loseConnection()

    def abort(self) -> None:
        """
        End it now.
        """
        transport: Any = self.protocol.transport
        if transport is not None:
            transport.abortConnection()

    # Life.

    def _pace(self) -> tuple[float, float]:
        """
        Seconds between pings, and until one must be answered.
        """
        if not self._isWatched or self._keeps is None:
            return PING_INTERVAL, PING_PATIENCE
        patience = max(self._keeps / 2, LEAST_PATIENCE, PATIENT_TRIPS * (self.roundTrip or 0.0))
        interval = max(self._keeps / 4, LEAST_INTERVAL)
        return min(interval, PING_INTERVAL), min(patience, PING_PATIENCE)

    def _ping(self) -> None:
        sent = self._clock.seconds()
        interval, patience = self._pace()
        self._setTimer(patience, self._tooLate)

        def answered(_: object) -> None:
            self.roundTrip = self._clock.seconds() - sent
            if not self.isOver:
                self._setTimer(interval, self._ping)

        self.ask(Ping).addCallbacks(answered, lambda failure: self.abort())

    def _tooLate(self) -> None:
        self._timer = None
        self.isUrgent = self._isWatched
        self.error = self.error or Unreachable("the server does not answer")
        self.abort()

    def _setTimer(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, call)

    def lost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        self.isOver = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.error = self.error or self._whyLost(reason)
        self._end.come(None)

    def _whyLost(self, reason: Failure) -> PunchdError:
        refusal = verdictOf(self.protocol.transport).refusal
        if refusal is not None:
            return refusal
        if reason.check(ConnectionClosed) is None:
            return NotTrusted(f"TLS failed: {_reasonOf(reason)}")
        return Unreachable("the server closed the connection")

    def violated(self, violation: ProtocolViolation) -> None:
        """
        The server does not keep to the protocol.
        """
        self.error = self.error or violation

    # What the server says.

    @Introduction.responder
    def introduction(
        self,
        session: bytes,
        caller: PeerID,
        own: Address,
        reflexive: Address,
        relay: bytes | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """
        Somebody calls.
        """
        if not self._calls.take():
            raise Refused("too many introductions at a time")
        self._listener.called(
            Call(
                session,
                caller,
                own=Party(own, offerFrom(more, OWN)),
                other=Party(reflexive, offerFrom(more)),
                relay=relay,
                limit=limitFrom(more),
            )
        )
        return {}

    @Told.responder
    def told(
        self, session: bytes, strategy: str, body: bytes, observed: Address | None = None
    ) -> dict[str, Any]:
        """
        A message of the other half of a strategy.
        """
        self._listener.told(session, strategy, body, observed)
        return {}

    @RelayNote.responder
    def relayNoted(self, session: bytes, reason: str, ends: bool) -> dict[str, Any]:
        """
        Why the relay is not what it was.
        """
        self._listener.relayNoted(session, reason, ends)
        return {}

    @Ping.responder
    def pinged(self) -> dict[str, Any]:
        """
        Yes, we are here.
        """
        return {}

    @Farewell.responder
    def farewell(self, reason: str) -> dict[str, Any]:
        """
        The server ends this connection.
        """
        self.error = Unreachable(f"the server ended the connection: {reason}")
        return {}


class _Connection(BoundedAMP):
    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation, conversation.violated)
        self.conversation = conversation

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.conversation.lost(reason)
        super().connectionLost(reason)


def inTime(answer: Deferred[dict[str, Any]], clock: IReactorTime) -> Deferred[dict[str, Any]]:
    """
    C{answer}, or L{Unreachable} after L{ANSWER_PATIENCE}: for what must not wait for a server that
    answers pings and nothing else.
    """

    def tooLate(result: object, seconds: float) -> NoReturn:
        raise Unreachable(f"the server has not answered for {seconds:.0f} s")

    return answer.addTimeout(ANSWER_PATIENCE, clock, tooLate)


def _reasonOf(reason: Failure) -> str:
    # pyOpenSSL gives a list of (library, function, reason).
    try:
        return str(reason.value.args[0][0][2])  # type: ignore[union-attr]
    except (IndexError, TypeError):
        return reason.getErrorMessage() or repr(reason.value)
