"""
Which peers are in the DNS, and where they are.
"""

from __future__ import annotations

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from punchd.server.sessions import Session
from punchd.values.addresses import makeAddress
from punchd.values.naming import isLabel, isPublishable
from punchd.values.peers import PeerID

#: Peers that have gone and are remembered, at most; for more, the oldest go.
MOST_KEPT = 10_000


@frozen
class Entry:
    """
    What is known of one name.

    @ivar hosts: the addresses of the peer, in the forms of IPv4 or IPv6.
    @ivar services: the ports of what it publishes, by names in lower case.
    @ivar goneAt: since when it is offline, on the server's clock; C{None} while it is online.
    """

    peerID: PeerID
    hosts: tuple[str, ...]
    services: dict[str, int]
    goneAt: float | None = None


def entryFor(session: Session) -> Entry | None:
    """
    What the DNS says of a peer that is online, if anything.

    Nothing of it is merely the peer's word, so that no name leads to somebody who has not asked for
    that. Its address is the one that its master connection comes from. Its IPv6 address is one that
    has completed a TCP handshake with the assist service, and shown a token there that this peer
    alone was given: only who receives at that address can do so. A port is one where the server has
    dialled the peer, and been answered by it.
    """
    listing, observed = session.listing, session.observed
    if listing.isEmpty or not isLabel(session.name):
        return None
    services = {
        service.lower(): port
        for service, port in listing.services
        if isPublishable(service) and makeAddress(observed.host, port) in session.proven
    }
    if not listing.hasAddress and not services:
        return None
    hosts = [observed.host]
    if session.offer.ipv6 is not None and ":" not in observed.host:
        hosts.append(session.offer.ipv6.host)
    return Entry(session.peerID, tuple(hosts), services)


@define(eq=False)
class Directory:
    """
    The peers by name. It watches the population, as made by the server, and lives as long.

    @ivar _keep: seconds for which a peer's last address is known after it has gone.
    """

    _clock: IReactorTime
    _keep: float = 0.0
    _online: dict[str, Session] = field(factory=dict, init=False)
    # In the order in which they have gone.
    _gone: dict[str, Entry] = field(factory=dict, init=False)

    def find(self, name: str) -> Entry | None:
        """
        What is known of C{name}.

        @param name: in lower case.
        """
        session = self._online.get(name)
        if session is not None:
            return entryFor(session)
        entry = self._gone.get(name)
        return None if entry is None or self._isOver(entry) else entry

    def arrived(self, session: Session) -> None:
        """
        See L{Watcher.arrived<punchd.server.sessions.Watcher>}.
        """
        name = session.name.lower()
        self._online[name] = session
        # It has an address now, or does not want to be found.
        self._gone.pop(name, None)

    def changed(self, session: Session) -> None:
        """
        See L{Watcher.changed<punchd.server.sessions.Watcher>}. Sessions are looked at when somebody
        asks for them.
        """

    def left(self, session: Session) -> None:
        """
        See L{Watcher.left<punchd.server.sessions.Watcher>}.
        """
        name = session.name.lower()
        # The name may have got another owner meanwhile.
        if self._online.get(name) is not session:
            return
        del self._online[name]
        entry = entryFor(session) if self._keep else None
        if entry is not None:
            if len(self._gone) >= MOST_KEPT:
                del self._gone[next(iter(self._gone))]
            self._gone[name] = evolve(entry, goneAt=self._clock.seconds())

    def sweep(self) -> None:
        """
        Forget those that have been gone for too long.
        """
        while self._gone:
            name = next(iter(self._gone))
            if not self._isOver(self._gone[name]):
                break
            del self._gone[name]

    def _isOver(self, entry: Entry) -> bool:
        return entry.goneAt is not None and self._clock.seconds() >= entry.goneAt + self._keep
