"""
What a server's C{--on-change} command is told of peers.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from punchd.hooks.facts import Facts, Subject
from punchd.server.naming.directory import entryFor
from punchd.server.sessions import Session


def factsOf(session: Session) -> Facts:
    """
    The facts of a peer that is logged in. What may be told to anybody is what the DNS would say.
    """
    entry = entryFor(session)
    return Facts(
        Subject.PEER,
        session.name,
        session.peerID,
        observed=session.observed.host,
        addresses=() if entry is None else entry.hosts,
        services=() if entry is None else tuple(sorted(entry.services.items())),
    )


@define(eq=False)
class Telling:
    """
    Watches the population, and passes on what becomes of each peer. Made by the server.
    """

    _tell: Callable[[Facts], None]

    def arrived(self, session: Session) -> None:
        """
        See L{Watcher.arrived<punchd.server.sessions.Watcher>}.
        """
        self._tell(factsOf(session))

    def changed(self, session: Session) -> None:
        """
        See L{Watcher.changed<punchd.server.sessions.Watcher>}.
        """
        self._tell(factsOf(session))

    def left(self, session: Session) -> None:
        """
        See L{Watcher.left<punchd.server.sessions.Watcher>}.
        """
        self._tell(factsOf(session).gone())
