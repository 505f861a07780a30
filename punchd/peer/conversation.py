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
from twisted.internet.interfaces import IReactorTime
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
from punchd.peer.pulse import Pulse
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
    """

    def __init__(self, clock: IReactorTime, listener: Listener) -> None:
        self.protocol = _Connection(self)
        self.isOver = False
        self.error: PunchdError | None = None
        self._clock = clock
        self._listener = listener
        self._calls = Allowance(clock, CALL_RATE, CALL_BURST)
        self._pulse = Pulse(clock, lambda: self.ask(Ping), self._silent)
        self._end: Occasion[None] = Occasion()

    async def login(self, greeting: Callable[[Any], Greeting]) -> Welcome:
        """
        Say hello.

        @param greeting: gets the transport, for the address on this side.
        @raise PunchdError: why the server is not to be had.
        """
        self._pulse.expect(LOGIN_DEADLINE)
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
        if transport.negotiatedProtocol != MASTER_ALPN:
            raise ProtocolViolation("what answers there is not a punchd server's master service")
        commonMasterVersion(answer["version"], OLDEST_MASTER_VERSION)
        self._pulse.isWatched = not said.listing.isEmpty
        self._pulse.begin(answer["ttl"])
        assists = tuple(answer["assists"])
        return Welcome(answer["observed"], assists, answer["relay"], answer["zone"])

    def update(self, said: Greeting, ipv6token: bytes | None) -> Deferred[dict[str, Any]]:
        """
        Say what has changed since L{login}.

        @param ipv6token: names the port of the IPv6 candidate.
        """
        self._pulse.isWatched = not said.listing.isEmpty
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

    def doubt(self) -> None:
        """
        See L{Pulse.doubt}.
        """
        self._pulse.doubt()

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds to the server and back, as last measured.
        """
        return self._pulse.roundTrip

    @property
    def isUrgent(self) -> bool:
        """
        See L{Pulse}.
        """
        return self._pulse.isUrgent

    def _silent(self) -> None:
        self.error = self.error or Unreachable("the server does not answer")
        self.abort()

    def lost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        self.isOver = True
        self._pulse.end()
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
