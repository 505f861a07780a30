"""
All links of a peer, and what is known of the paths to other peers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from punchd.errors import Unreachable
from punchd.link.flow import Limits
from punchd.link.path import Path
from punchd.peer.dialling import Dialling
from punchd.peer.exposing import Exposures
from punchd.peer.facts import Facts
from punchd.peer.keeping import Link
from punchd.peer.meeting import Meeting
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import LINK_LENGTH

#: Links that one peer may have with us: one is what it needs; two when both sides dial at once;
#: more when it is restarted again and again.
MOST_LINKS = 4

# Both ends show it.
_STOPPED = "the peer is being stopped"

# The other end shows it.
_FORGOTTEN = "that peer knows nothing of the link any more: it may have been restarted"


@define(eq=False)
class Links:
    """
    Lives as long as the peer.
    """

    _clock: IReactorTime
    _random: Random
    _entropy: Callable[[int], bytes]
    _own: PeerAddress
    _dialling: Dialling
    _exposures: Exposures
    _limits: Limits = field(factory=Limits)
    _byNumber: dict[bytes, Link] = field(factory=dict, init=False)
    _facts: dict[PeerID, Facts] = field(factory=dict, init=False)
    _answering: set[Deferred[None]] = field(factory=set, init=False)
    _isStopped: bool = field(default=False, init=False)

    def to(self, peer: str, peerID: PeerID) -> Link:
        """
        The link to that peer; a new one if there is none.

        @raise Unreachable: after L{abort}.
        """
        if self._isStopped:
            raise Unreachable(_STOPPED)
        link = self._present(peerID)
        if link is None:
            link = self._make(peer, peerID, self._entropy(LINK_LENGTH), isInitiator=True)
            # What was known is that of a link that is over, or ends.
            link.facts.noPath()
        return link

    def _present(self, peerID: PeerID) -> Link | None:
        """
        The newest that has a path; or, if all have lost theirs, the newest.
        """
        links = [one for one in self._of(peerID) if not one.isEnding]
        return max(reversed(links), key=lambda one: one.session.isConnected, default=None)

    def _of(self, peerID: PeerID) -> list[Link]:
        return [one for one in self._byNumber.values() if one.peerID == peerID]

    def factsOf(self, peer: str, peerID: PeerID) -> Facts:
        """
        What is known of the paths to that peer.
        """
        facts = self._facts.get(peerID)
        if facts is None:
            facts = self._facts[peerID] = Facts(peer, peerID)
        facts.peer = peer
        return facts

    def joined(self, peer: str, peerID: PeerID, path: Path, meeting: Meeting) -> None:
        """
        That peer wants one of its links to run over C{path}.
        """
        join = path.join
        assert join is not None
        link = self._byNumber.get(join.link)
        if link is None and self._isStopped:
            path.decline(_STOPPED, isUnknown=True)
            return
        if link is None and join.isNew:
            self._makeRoom(peerID)
            link = self._make(peer, peerID, join.link, isInitiator=False)
        if link is None or link.peerID != peerID:
            path.decline(_FORGOTTEN, isUnknown=True)
        else:
            link.joined(path, join, meeting)

    def _makeRoom(self, peerID: PeerID) -> None:
        """
        That peer has made another link.
        """
        for one in self._of(peerID):
            if one.session.isShared and not one.session.isConnected:
                # It would have dialled that one, if it still knew it.
                one.abort("the other end has begun anew")
        # Those without a path first, then the oldest.
        theirs = sorted(self._of(peerID), key=lambda one: one.session.isConnected)
        for one in theirs[: max(0, len(theirs) - MOST_LINKS + 1)]:
            one.abort("there are newer links")

    def relayNoted(self, session: bytes, what: str) -> None:
        """
        A relay says what is the matter with the relayed path of an introduction.
        """
        for facts in self._facts.values():
            facts.relayNoted(session, what)

    def doubt(self) -> None:
        """
        A connection to a server was lost, and there is another one: what has ended the first may
        have ended paths, too.
        """
        for link in list(self._byNumber.values()):
            link.doubt()

    def pinsChanged(self, nameOf: Callable[[PeerID], str | None]) -> None:
        """
        Peers have other names than before, or none: then they are not trusted any more.
        """
        for link in list(self._byNumber.values()):
            name = nameOf(link.peerID)
            if name is None:
                link.abort("that peer does not trust this one any more")
            else:
                link.session.peer = PeerAddress(name, link.peerID)
        for peerID, facts in list(self._facts.items()):
            name = nameOf(peerID)
            if name is None:
                del self._facts[peerID]
            else:
                facts.peer = name

    def answer(self, meeting: Deferred[None]) -> None:
        """
        Others have asked for C{meeting}, from which a path may come; it ends with this.
        """
        self._answering.add(meeting)

        def over(result: object) -> object:
            self._answering.discard(meeting)
            return result

        meeting.addBoth(over)

    def _make(self, peer: str, peerID: PeerID, number: bytes, isInitiator: bool) -> Link:
        link = Link(
            self._clock,
            self._random,
            self._own,
            self.factsOf(peer, peerID),
            number,
            isInitiator,
            self._dialling,
            self._exposures,
            self._limits,
        )
        self._byNumber[number] = link
        link.whenOver().addCallback(lambda _: self._byNumber.pop(number, None))
        return link

    def drain(self) -> Deferred[Any]:
        """
        No more links, and no more streams on those that there are.

        @return: fires when the last stream has ended, and its link.
        """
        self._isStopped = True
        links = list(self._byNumber.values())
        ending = DeferredList([link.whenOver() for link in links], consumeErrors=True)
        for link in links:
            link.drain(_STOPPED)
        return ending

    def abort(self) -> Deferred[Any]:
        """
        End all of them, and with them all streams. There will be no more.

        @return: fires when the other ends have heard of it, or are not there.
        """
        self._isStopped = True
        for meeting in list(self._answering):
            meeting.cancel()
        links = list(self._byNumber.values())
        paths = [link.session.path for link in links if link.session.path is not None]
        for link in links:
            link.abort(_STOPPED)
        return DeferredList([path.whenLost() for path in paths], consumeErrors=True)

    def toJSON(self) -> dict[str, Any]:
        """
        As C{punchd status --json} shows them: one for each peer.
        """
        known = sorted(self._facts.values(), key=lambda facts: facts.peer)
        return {facts.peer: self.describe(facts) for facts in known}

    def describe(self, facts: Facts) -> dict[str, Any]:
        """
        What is known of the paths to one peer, and the link's present state.
        """
        # One that ends is there until it has.
        link = self._present(facts.peerID) or next(reversed(self._of(facts.peerID)), None)
        return facts.toJSON(None if link is None else link.session)
