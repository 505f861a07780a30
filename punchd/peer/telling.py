"""
What a peer's C{--on-change} command is told: where the peer is, what it publishes, and by which
paths it reaches others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from punchd.hooks.facts import Facts, Subject
from punchd.hooks.telling import Teller
from punchd.peer.links import Links
from punchd.peer.master import MasterClient
from punchd.peer.publishing import Published
from punchd.values.peers import PeerAddress, PeerID

_log = Logger()

#: Seconds between two looks at how everything is.
GLANCE = 1.0


def ownFacts(
    own: PeerAddress, clients: Sequence[MasterClient], published: Sequence[Published]
) -> Facts | None:
    """
    The facts of this peer, as the first of its servers sees it that is connected; C{None} while
    there is none. Nobody's address is lost because a server is away.
    """
    for client in clients:
        if client.welcome is not None:
            host = client.welcome.observed.host
            addresses = [host]
            sixth = None if client.ipv6.port is None else client.ipv6.port.observed
            if sixth is not None and ":" not in host:
                addresses.append(sixth.host)
            services = {
                one.publication.service: one.address.port
                for one in published
                if one.address is not None and one.address.host == host
            }
            return Facts(
                Subject.SELF,
                own.name,
                own.peerID,
                observed=host,
                addresses=tuple(addresses),
                services=tuple(sorted(services.items())),
            )
    return None


def linkFacts(links: Links) -> list[Facts]:
    """
    The facts of the links to all peers to which there was one.
    """
    return [
        Facts(
            Subject.LINK,
            name,
            PeerID.parse(link["id"]),
            isThere=link["path"] is not None,
            path=link["path"] or "",
            strategy=link["strategy"] or "",
        )
        for name, link in links.toJSON().items()
    ]


class Telling(Service):
    """
    Made with the peer; runs as long as it does.
    """

    def __init__(
        self,
        reactor: Any,
        teller: Teller,
        own: PeerAddress,
        clients: Sequence[MasterClient],
        published: Sequence[Published],
        links: Links,
    ) -> None:
        self._teller = teller
        self._own = own
        self._clients = clients
        self._published = published
        self._links = links
        self._seen: dict[str, Facts] = {}
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._teller.startService()
        self._looking.start(GLANCE, now=False)

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when no command runs any more.
        """
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        return self._teller.stopService()

    def _look(self) -> None:
        try:
            self._lookOnce()
        except Exception:
            # The next look does not suffer from it.
            _log.failure("while looking for changes")

    def _lookOnce(self) -> None:
        links = {facts.key: facts for facts in linkFacts(self._links)}
        # Somebody is pinned under another name now.
        vanished = [facts.gone() for key, facts in self._seen.items() if key not in links]
        self._seen = links
        own = ownFacts(self._own, self._clients, self._published)
        for facts in [*vanished, *links.values(), *([] if own is None else [own])]:
            self._teller.tell(facts)
