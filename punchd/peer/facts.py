"""
What is known of the paths to a peer, for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from punchd.errors import NoPath, PunchdError
from punchd.link.sending import ISessionPath
from punchd.link.session import Session
from punchd.peer.meeting import Meeting
from punchd.values.outcomes import Outcome
from punchd.values.peers import PeerID
from punchd.values.plans import Plan


@define(eq=False)
class Facts:
    """
    Made with the first link to a peer; the next one goes on with it.

    @ivar peer: the name it is pinned under.
    @ivar strategy: which one has opened the present path, if it is direct.
    @ivar reason: why it is not.
    @ivar plan: of the last introduction.
    @ivar outcomes: of the last introduction.
    @ivar seconds: from the request for the introduction that led to the present path until its TCP
        connection was there (C{connected}; only the caller of the introduction knows), and until
        the other end was proven and the path was taken (C{elected}).
    @ivar session: of the introduction that led to the present path.
    @ivar fromRelay: what the relay has said of the present path, or of the last one.
    @ivar moves: how often a link has moved from one path to another.
    @ivar over: why the last link that is over has ended.
    @ivar bytesIn: of streams of links that are over; C{bytesOut}, too.
    """

    peer: str
    peerID: PeerID
    strategy: str | None = None
    reason: str | None = None
    plan: Plan | None = None
    outcomes: Sequence[Outcome] = ()
    seconds: Mapping[str, float] = field(factory=dict)
    session: bytes = b""
    fromRelay: str | None = None
    moves: int = 0
    roundTrip: float | None = None
    over: str = ""
    bytesIn: int = 0
    bytesOut: int = 0

    def took(self, meeting: Meeting, isDirect: bool, now: float) -> None:
        """
        A path of that meeting is used now.
        """
        punch = meeting.punch
        self.session, self.fromRelay = punch.ticket.session, None
        # The list itself: attempts that were cancelled by the win note their outcomes after it.
        self.plan, self.outcomes = punch.plan, punch.outcomes
        if isDirect:
            self.strategy, self.reason = punch.wonBy, None
        else:
            self.strategy = None
            self.reason = "the direct path is not there yet"
            self.learn(meeting)
        self.seconds = {"elected": now - meeting.began}
        if isDirect and punch.connectedAt is not None:
            self.seconds["connected"] = punch.connectedAt - meeting.began

    def learn(self, meeting: Meeting) -> None:
        """
        A meeting is over; what it says of why there is no direct path.
        """
        if meeting.direct is None and meeting.problem is not None:
            self.failed(meeting.noPath or meeting.problem)

    def failed(self, error: PunchdError) -> None:
        """
        An introduction has led to no direct path. Another one may have.
        """
        if self.strategy is not None:
            return
        self.reason = str(error)
        if isinstance(error, NoPath):
            self.plan, self.outcomes = error.plan, error.outcomes
            if error.limit is not None:
                # It says the same.
                self.fromRelay = None

    def relayNoted(self, session: bytes, what: str) -> None:
        """
        The relay says what is the matter with the relayed path of an introduction.
        """
        if session == self.session and self.strategy is None:
            self.fromRelay = what

    def noPath(self) -> None:
        """
        There is no path at all now.
        """
        self.strategy, self.seconds = None, {}

    def fellBack(self) -> None:
        """
        The direct path is gone; the relayed one from before it was still there.
        """
        self.noPath()
        self.reason = "the direct path was lost"

    def ended(self, session: Session, why: str) -> None:
        """
        A link is over.
        """
        self.over = why
        if session.roundTrip is not None:
            self.roundTrip = session.roundTrip
        self.bytesIn += session.bytesIn
        self.bytesOut += session.bytesOut

    def toJSON(self, session: Session | None) -> dict[str, Any]:
        """
        As C{punchd status --json} shows it.

        @param session: of the link, if there is one.
        """
        roundTrip = session.roundTrip if session is not None else None
        roundTrip = self.roundTrip if roundTrip is None else roundTrip
        reason = "; ".join(filter(None, (self.reason, self.fromRelay)))
        if session is None and not reason and self.over:
            reason = f"the last link is over: {self.over}"
        return {
            "id": str(self.peerID),
            "path": None if session is None else _nameOf(session.path),
            "strategy": self.strategy,
            "reason": reason or None,
            "rtt": None if roundTrip is None else round(roundTrip, 6),
            "streams": 0 if session is None else len(session.streams),
            "bytesIn": self.bytesIn + (0 if session is None else session.bytesIn),
            "bytesOut": self.bytesOut + (0 if session is None else session.bytesOut),
            "moves": self.moves,
            "seconds": {what: round(value, 6) for what, value in self.seconds.items()},
            "plan": [] if self.plan is None else self.plan.toJSON(),
            "attempts": [outcome.toJSON() for outcome in self.outcomes],
        }


def _nameOf(path: ISessionPath | None) -> str | None:
    if path is None:
        return None
    return "direct" if path.isDirect else "relayed"
