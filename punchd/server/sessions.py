"""
The peers that are logged in.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from attrs import define, evolve, field
from twisted.protocols import amp

from punchd.net.pacing import Allowance
from punchd.values.addresses import Address, Scope, scopeOf
from punchd.values.naming import UNLISTED, Listing
from punchd.values.parties import Offer, isShareableHost
from punchd.values.peers import PeerID

#: Seconds after which a peer is gone that has said nothing; peers ping every 3.
SILENCE = 9.0

#: Seconds within which a peer answers a ping.
PONG_PATIENCE = 8.0

# The first pings measure the round trip, of which the least counts; the later ones only notice
# death, and changes of the way.
_FIRST_PINGS = 3
_FIRST_PING_PERIOD = 1.0
_PING_PERIOD = 25.0
_ROUND_TRIPS_KEPT = 4


class Line(Protocol):
    """
    The master connection to one peer, as those see it who have something to say there.
    """

    def callRemote(self, commandType: type[amp.Command], **arguments: Any) -> Any:
        """
        Send a command.
        """

    def loggedIn(self) -> None:
        """
        The peer is a stranger no longer.
        """

    def localHost(self) -> str:
        """
        The address of the server that the peer has connected to.
        """

    def close(self, reason: str) -> None:
        """
        Tell the peer C{reason}, and end the connection; forcibly if the peer does not join in.
        """


@define(eq=False)
class Session:
    """
    A peer that is logged in, for as long as its master connection lives.

    @ivar observed: the address that the server sees its master connection come from.
    @ivar accepts: whose introductions it takes.
    @ivar proven: where the server has dialled the peer beside C{observed}, and found it.
    @ivar ipv6token: what its offer's IPv6 candidate was named by. The address is kept with the
        offer, as observations are forgotten while the session lives.
    @ivar listing: what of it shall be in the DNS.
    @ivar introducing: how often it may ask for introductions; C{None} until it does.
    @ivar dialBacks: how often it may have itself dialled; C{None} until it does.
    @ivar calls: how often each peer that it accepts may be introduced to it.
    """

    peerID: PeerID
    name: str
    observed: Address
    line: Line
    offer: Offer
    accepts: frozenset[PeerID]
    heardAt: float
    proven: frozenset[Address] = frozenset()
    ipv6token: bytes | None = None
    listing: Listing = UNLISTED
    introducing: Allowance | None = None
    dialBacks: Allowance | None = None
    calls: dict[PeerID, Allowance] = field(factory=dict)
    _pings: int = field(default=0, init=False)
    _pingAt: float = field(default=0.0, init=False)
    _pingedAt: float | None = field(default=None, init=False)
    _roundTrips: tuple[float, ...] = field(default=(), init=False)

    @property
    def oneWay(self) -> float | None:
        """
        Seconds that a message takes to the peer, if that is known: half the least round trip of the
        latest pings.
        """
        return min(self._roundTrips) / 2 if self._roundTrips else None

    def death(self, now: float) -> str | None:
        """
        Why the peer must be taken for dead, if it must.
        """
        if now - self.heardAt >= SILENCE:
            return f"silent for {SILENCE:.0f} s"
        if self._pingedAt is not None and now - self._pingedAt >= PONG_PATIENCE:
            return f"no answer to a ping for {PONG_PATIENCE:.0f} s"
        return None

    def wantsPing(self, now: float) -> bool:
        """
        Whether it is time for a ping.
        """
        return self._pingedAt is None and now >= self._pingAt

    def pinged(self, now: float) -> None:
        """
        A ping goes out.
        """
        self._pings += 1
        self._pingedAt = now
        self._pingAt = now + (_FIRST_PING_PERIOD if self._pings < _FIRST_PINGS else _PING_PERIOD)

    def ponged(self, now: float) -> None:
        """
        The answer to the ping is here.
        """
        if self._pingedAt is not None:
            self._roundTrips = (*self._roundTrips, now - self._pingedAt)[-_ROUND_TRIPS_KEPT:]
            self._pingedAt = None


class Watcher(Protocol):
    """
    Who wants to know who comes, goes, and says something else of itself.
    """

    def arrived(self, session: Session) -> None:
        """
        A peer has logged in.
        """

    def changed(self, session: Session) -> None:
        """
        It has said something new of itself, or the server has looked for it where it says it is.
        """

    def left(self, session: Session) -> None:
        """
        It is gone, or another session of the same key is about to arrive.
        """


@define(eq=False)
class Population:
    """
    Who is logged in: one session for each key.

    @ivar watchers: to be told.
    """

    watchers: list[Watcher] = field(factory=list)
    _sessions: dict[PeerID, Session] = field(factory=dict, init=False)

    def arrive(self, session: Session) -> Session | None:
        """
        @return: the session of the same key that this one replaces.
        """
        replaced = self._sessions.get(session.peerID)
        if replaced is not None:
            self.leave(replaced)
        self._sessions[session.peerID] = session
        for watcher in self.watchers:
            watcher.arrived(session)
        return replaced

    def changed(self, session: Session) -> None:
        """
        What the session says of its peer may be another than before.
        """
        if self._sessions.get(session.peerID) is session:
            for watcher in self.watchers:
                watcher.changed(session)

    def leave(self, session: Session) -> None:
        """
        The session is over; if it was replaced, its successor stays.
        """
        if self._sessions.get(session.peerID) is session:
            del self._sessions[session.peerID]
            for watcher in self.watchers:
                watcher.left(session)

    def get(self, peerID: PeerID) -> Session | None:
        """
        The session of a key.
        """
        return self._sessions.get(peerID)

    def __len__(self) -> int:
        return len(self._sessions)


def kept(offer: Offer, observed: Address, proven: Collection[Address] = ()) -> Offer:
    """
    What the server keeps of an offer: no address that could make it send anybody to a third party.

    @param proven: where the server has dialled the peer, and found it.
    """
    hosts = dict.fromkeys(
        host
        for host in offer.hosts
        if isShareableHost(host)
        or (host.host == observed.host and scopeOf(host) is not Scope.NEVER)
    )
    mapped = tuple(address for address in dict.fromkeys(offer.mapped) if address in proven)
    return evolve(offer, hosts=tuple(hosts), mapped=mapped)
