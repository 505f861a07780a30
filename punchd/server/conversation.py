"""
What one peer and the master say to each other, apart from how it is carried.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.protocols import amp
from twisted.python.failure import Failure

from punchd.errors import ConfigurationError, ProtocolViolation, PunchdError, Refused, Unreachable
from punchd.interfaces import IObserver, IRegistry
from punchd.server.dialling import Dialling
from punchd.server.introductions import Introductions
from punchd.server.limits import Complaints
from punchd.server.naming.zone import Zone
from punchd.server.observations import Observations
from punchd.server.sessions import Line, Population, Session, kept
from punchd.values.addresses import Address, isGlobalIPv6, showAddress
from punchd.values.happenings import Happening
from punchd.values.naming import Listing, checkedLabel
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.commands import (
    MOST_TOKENS,
    Assist,
    DialBack,
    Hello,
    Introduce,
    Ping,
    Prove,
    Relay,
    Report,
    Tell,
    Tokens,
    Update,
    offerFrom,
)
from punchd.wire.listing import listingFrom
from punchd.wire.versions import commonMasterVersion

#: Seconds from the accepted connection to the answered Hello, TLS included.
LOGIN_PATIENCE = 10.0


@frozen(eq=False)
class Exchange:
    """
    What all conversations of a server share. Made by the server.

    @ivar assists: where the assist services listen; the server fills it in when it knows.
    @ivar relays: where the relay does, if there is one; likewise.
    @ivar zone: where peers have names in the DNS, if anywhere.
    """

    clock: IReactorTime
    registry: IRegistry
    observer: IObserver
    complaints: Complaints
    population: Population
    introductions: Introductions
    observations: Observations
    dialling: Dialling
    assists: list[Assist] = field(factory=list)
    relays: list[Relay] = field(factory=list)
    zone: Zone | None = None

    def note(self, step: str) -> None:
        """
        Tell the observer something that belongs to no introduction.
        """
        self.observer.happened(Happening("server", "", step, self.clock.seconds()))


class Stage(Enum):
    """
    How far a conversation has come: first to last, except that C{CLAIMING} may fall back.
    """

    STRANGER = "has not said hello"
    CLAIMING = "waits for its name"
    REGISTERED = "is logged in"
    OVER = "has ended"


class Conversation(amp.CommandLocator):
    """
    One peer's side of a master connection: lives and dies with it.

    @ivar peerID: whose key has been proven; set by the connection before the first command.
    @ivar name: the peer's name, once it has said it.
    """

    # A server holds thousands of these; amp's locator has no slots, but little else is in the way.
    def __init__(self, exchange: Exchange, line: Line, observed: Address) -> None:
        self.exchange = exchange
        self.line = line
        self.observed = observed
        self.stage = Stage.STRANGER
        self.peerID: PeerID | None = None
        self.name = ""
        self.session: Session | None = None
        self.deadline = exchange.clock.seconds() + LOGIN_PATIENCE

    def heard(self) -> None:
        """
        The peer has said something.
        """
        if self.session is not None:
            self.session.heardAt = self.exchange.clock.seconds()

    def lateness(self, now: float) -> str | None:
        """
        Why the connection must end now, if it must.
        """
        if self.session is not None:
            return self.session.death(now)
        if self.stage is not Stage.OVER and now >= self.deadline:
            return f"not logged in within {LOGIN_PATIENCE:.0f} s"
        return None

    def end(self, why: str) -> None:
        """
        The connection is gone, or as good as gone.
        """
        self.stage = Stage.OVER
        session, self.session = self.session, None
        if session is not None:
            self.exchange.population.leave(session)
            self.exchange.introductions.gone(session)
            self.exchange.observations.forget(session)
            self.exchange.note(f"{session.name} is gone: {why}")

    def ping(self) -> None:
        """
        Ask the peer whether it is there, if it is time for that.
        """
        session, now = self.session, self.exchange.clock.seconds()
        if session is not None and session.wantsPing(now):
            session.pinged(now)
            answered: Deferred[Any] = self.line.callRemote(Ping)
            answered.addCallbacks(self._pong, _nothing)

    def _pong(self, answer: object) -> None:
        if self.session is not None:
            self.session.ponged(self.exchange.clock.seconds())

    @Hello.responder
    def _hello(
        self,
        version: int,
        oldest: int,
        name: str,
        accepts: frozenset[PeerID],
        **said: Any,
    ) -> Deferred[dict[str, Any]]:
        version = commonMasterVersion(version, oldest)
        listing = listingFrom(said)
        return Deferred.fromCoroutine(self._logIn(version, name, accepts, offerFrom(said), listing))

    async def _logIn(
        self,
        version: int,
        name: str,
        accepts: frozenset[PeerID],
        offer: Offer,
        listing: Listing,
    ) -> dict[str, Any]:
        if self.stage is not Stage.STRANGER or self.peerID is None:
            raise ProtocolViolation(f"hello from a peer that {self.stage.value}")
        self._checkListing(name, listing)
        self.stage, self.name = Stage.CLAIMING, name
        try:
            await self.exchange.registry.claim(name, self.peerID)
        except PunchdError as error:
            if self.stage is Stage.CLAIMING:
                self.stage = Stage.STRANGER
            if isinstance(error, Unreachable):
                self.exchange.complaints.say(f"the registry does not work: {error.__cause__!s}")
            raise
        if self.stage is not Stage.CLAIMING:
            raise Unreachable("the connection has ended meanwhile")
        self._register(self.peerID, name, accepts, offer, listing)
        zone = self.exchange.zone
        return {
            "version": version,
            "observed": self.observed,
            "assists": self.exchange.assists,
            "relay": next(iter(self.exchange.relays), None),
            "zone": None if zone is None else zone.name,
            "ttl": None if zone is None else zone.ttl,
        }

    def _checkListing(self, name: str, listing: Listing) -> None:
        """
        @raise Refused: when a peer that wants its name in the DNS cannot have it there.
        """
        zone = self.exchange.zone
        if zone is None or not listing.hasAddress:
            return
        try:
            checkedLabel(name)
        except ConfigurationError as error:
            raise Refused(str(error)) from None
        if zone.isReserved(name):
            raise Refused(f"the name {zone.server} is the server's own: choose another --name")

    def _register(
        self,
        peerID: PeerID,
        name: str,
        accepts: frozenset[PeerID],
        offer: Offer,
        listing: Listing,
    ) -> None:
        clock = self.exchange.clock
        self.stage = Stage.REGISTERED
        self.session = Session(
            peerID,
            name,
            self.observed,
            self.line,
            kept(offer, self.observed),
            accepts,
            clock.seconds(),
            listing=listing,
        )
        self.line.loggedIn()
        replaced = self.exchange.population.arrive(self.session)
        self.exchange.note(
            f"{name} ({peerID.short}…) logs in from {showAddress(self.observed)}"
            + ("" if replaced is None else f", instead of {showAddress(replaced.observed)}")
        )
        if replaced is not None:
            replaced.line.close("another connection of the same key has taken over")
        # After the answer to the hello.
        clock.callLater(0, self.ping)

    @Update.responder
    def _update(
        self, accepts: frozenset[PeerID], ipv6token: bytes | None, **said: Any
    ) -> dict[str, Any]:
        session, listing = self._registered(), listingFrom(said)
        self._checkListing(session.name, listing)
        session.offer = self._offered(session, said, ipv6token)
        session.ipv6token = ipv6token
        session.listing = listing
        session.accepts = accepts
        self.exchange.population.changed(session)
        return {}

    @Tokens.responder
    def _tokens(self, count: int) -> dict[str, Any]:
        session = self._registered()
        issue = self.exchange.observations.issue
        return {"tokens": [issue(session) for _ in range(min(count, MOST_TOKENS))]}

    @DialBack.responder
    def _dialBack(self, token: bytes, source: int) -> Deferred[dict[str, Any]]:
        session, assists = self._registered(), self.exchange.assists
        if not 0 <= source < len(assists):
            raise Refused(f"there is no assist service {source} to dial from")
        remote = self.exchange.observations.addressFor(session, token, isOpen=True)
        here = assists[source].host or self.line.localHost()
        dialled = self.exchange.dialling.dialBack(session, remote, here)
        return dialled.addCallback(lambda answer: {"answer": answer})

    @Prove.responder
    def _prove(self, port: int, secret: bytes) -> Deferred[dict[str, Any]]:
        session = self._registered()
        proving = self.exchange.dialling.prove(session, port, secret)

        def answer(isProven: bool) -> dict[str, Any]:
            self.exchange.population.changed(session)
            return {"proven": isProven}

        return proving.addCallback(answer)

    @Introduce.responder
    def _introduce(
        self,
        peer: PeerID,
        token: bytes | None,
        ipv6token: bytes | None,
        **offer: Any,
    ) -> Deferred[dict[str, Any]]:
        session = self._registered()
        reflexive = self._observed(session, token) or self.observed
        said = self._offered(session, offer, ipv6token)
        return self.exchange.introductions.introduce(session, peer, reflexive, said)

    def _offered(
        self, session: Session, arguments: dict[str, Any], ipv6token: bytes | None
    ) -> Offer:
        """
        What a peer says of itself, with what the server knows of its addresses.
        """
        if ipv6token is not None and ipv6token == session.ipv6token:
            ipv6 = session.offer.ipv6
        else:
            ipv6 = self._observed(session, ipv6token)
        if ipv6 is not None and not isGlobalIPv6(ipv6):
            ipv6 = None
        offer = kept(offerFrom(arguments), self.observed, session.proven)
        return evolve(offer, ipv6=ipv6)

    @Tell.responder
    def _tell(
        self, session: bytes, strategy: str, body: bytes, token: bytes | None
    ) -> dict[str, Any]:
        teller = self._registered()
        observed = self._observed(teller, token)
        self.exchange.introductions.tell(teller, session, strategy, body, observed)
        return {}

    @Report.responder
    def _report(self, session: bytes, strategy: str | None, seconds: float) -> dict[str, Any]:
        self.exchange.introductions.report(self._registered(), session, strategy, seconds)
        return {}

    @Ping.responder
    def _pinged(self) -> dict[str, Any]:
        self._registered()
        return {}

    def _registered(self) -> Session:
        if self.stage is Stage.OVER:
            raise Unreachable("this connection is being closed")
        if self.session is None:
            raise ProtocolViolation(f"a command from a peer that {self.stage.value}")
        return self.session

    def _observed(self, session: Session, token: bytes | None) -> Address | None:
        return None if token is None else self.exchange.observations.addressFor(session, token)


def _nothing(failure: Failure) -> None:
    # No answer: the sweep notices, or the connection has ended.
    pass
