"""
What is known of the paths to other peers, for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field

from punchd.errors import NoPath, PunchdError
from punchd.link.stream import Stream
from punchd.peer.punching import Punch
from punchd.values.outcomes import Outcome
from punchd.values.peers import PeerID
from punchd.values.plans import Plan


@define(eq=False)
class Link:
    """
    The path to one peer: as it is while there are streams, else as it was last.

    @ivar peer: the name it is pinned under.
    @ivar strategy: which one opened the path.
    @ivar reason: why there is no direct path.
    @ivar plan: of the last introduction.
    @ivar outcomes: of the last introduction.
    @ivar seconds: how long the last stream that we opened took, from the request for it: until its
        TCP connection was there (C{connected}), and until the other end was proven and the stream
        could be written to (C{elected}).
    """

    peer: str
    peerID: PeerID
    strategy: str | None = None
    reason: str | None = None
    plan: Plan | None = None
    outcomes: Sequence[Outcome] = ()
    seconds: Mapping[str, float] = field(factory=dict)
    _roundTrip: float | None = None
    _streams: list[Stream] = field(factory=list, init=False)
    _pastIn: int = field(default=0, init=False)
    _pastOut: int = field(default=0, init=False)

    def opened(self, stream: Stream, punch: Punch) -> None:
        """
        A stream has a direct path.
        """
        self.strategy, self.reason = punch.wonBy, None
        # The list itself: attempts that were cancelled by the win note their outcomes after it.
        self.plan, self.outcomes = punch.plan, punch.outcomes
        self._streams.append(stream)
        stream.whenOver().addCallback(lambda _: self._ended(stream))
        stream.measure().addCallbacks(self._measured, lambda failure: None)

    def failed(self, error: PunchdError) -> None:
        """
        An introduction has led to nothing.
        """
        self.reason = str(error)
        self.plan, self.outcomes = None, ()
        if isinstance(error, NoPath):
            self.plan, self.outcomes = error.plan, error.outcomes
        if not self._streams:
            self.strategy, self.seconds = None, {}

    def _measured(self, seconds: float) -> None:
        self._roundTrip = seconds

    def _ended(self, stream: Stream) -> None:
        self._streams.remove(stream)
        self._roundTrip = stream.roundTrip or self._roundTrip
        self._pastIn += stream.bytesIn
        self._pastOut += stream.bytesOut

    def abort(self) -> None:
        """
        Break all streams.
        """
        for stream in list(self._streams):
            stream.abortConnection()

    def toJSON(self) -> dict[str, Any]:
        """
        As C{punchd status --json} shows it.
        """
        return {
            "id": str(self.peerID),
            "path": None if self.strategy is None else "direct",
            "strategy": self.strategy,
            "reason": self.reason,
            "rtt": None if self._roundTrip is None else round(self._roundTrip, 6),
            "streams": sum(1 for stream in self._streams if stream.service),
            "bytesIn": self._pastIn + sum(stream.bytesIn for stream in self._streams),
            "bytesOut": self._pastOut + sum(stream.bytesOut for stream in self._streams),
            "seconds": {what: round(value, 6) for what, value in self.seconds.items()},
            "plan": [] if self.plan is None else self.plan.toJSON(),
            "attempts": [outcome.toJSON() for outcome in self.outcomes],
        }


@define(eq=False)
class Links:
    """
    One L{Link} for each peer with which there was an introduction.
    """

    _byID: dict[PeerID, Link] = field(factory=dict)

    def to(self, peer: str, peerID: PeerID) -> Link:
        """
        The link to that peer, made if there is none yet.
        """
        link = self._byID.get(peerID)
        if link is None:
            link = self._byID[peerID] = Link(peer, peerID)
        link.peer = peer
        return link

    def abort(self) -> None:
        """
        Break all streams.
        """
        for link in self._byID.values():
            link.abort()

    def __iter__(self) -> Iterator[Link]:
        return iter(sorted(self._byID.values(), key=lambda link: link.peer))
