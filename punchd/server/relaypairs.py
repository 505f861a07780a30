"""
Relayed paths, from the first end that comes until both are gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.errors import Limited
from punchd.interfaces import IObserver
from punchd.server.relaycarrying import Carrying
from punchd.server.relaylimits import BREATH, Accounts, Tally
from punchd.server.relaypipes import Pipes
from punchd.server.relaytokens import Meeting, RelayTokens
from punchd.server.sessions import Population
from punchd.values.happenings import Happening
from punchd.wire.commands import RelayNote
from punchd.wire.preamble import Side
from punchd.wire.relaying import packAcceptance

#: Seconds that one end waits for the other.
MEETING_PATIENCE = 20.0

#: Seconds without a byte after which a path is ended: peers that use one say something more often.
IDLE_PATIENCE = 300.0

#: Seconds that peers have to acknowledge why a path is ended, before it is.
TELLING_PATIENCE = 2.0

#: Seconds for which a path must have been slowed down, in all, before its peers are told.
WORTH_TELLING = 1.0


class End(Protocol):
    """
    One end's connection.
    """

    transport: Any

    def refuse(self, reason: str) -> None:
        """
        Say why there will be no path, and close.
        """

    def abort(self) -> None:
        """
        End the connection at once.
        """


class Stage(Enum):
    """
    How far a pair has come: first to last, some of them left out.
    """

    WAITING = "waits for the other end"
    CARRYING = "carries bytes"
    ENDING = "tells its peers why it ends"
    OVER = "has ended"


@frozen(eq=False)
class Room:
    """
    What all pairs of a relay share. Made by the server.
    """

    clock: IReactorTime
    population: Population
    observer: IObserver
    accounts: Accounts
    pipes: Pipes
    carry: Callable[..., Carrying] = Carrying


class Pair:
    """
    The relayed path of one introduction. Made when the first of its ends has come.

    @ivar since: when it did; from when both are there, when the other did.
    """

    def __init__(self, room: Room, meeting: Meeting, tally: Tally) -> None:
        self.meeting = meeting
        self.stage = Stage.WAITING
        self._room = room
        self._tally = tally
        self._ends: dict[Side, End] = {}
        self._carrying: Carrying | None = None
        self.since = self._changed = room.clock.seconds()
        self._seen = 0
        self._breath: IDelayedCall | None = None
        self._slowed = 0.0
        self._isSlowToldOf = False

    def came(self, side: Side, end: End) -> None:
        """
        One end is there.
        """
        self._ends[side] = end
        if len(self._ends) < len(Side):
            return
        self.stage = Stage.CARRYING
        self.since = self._changed = self._room.clock.seconds()
        self._note(f"relays between {self.meeting}")
        caller, callee = self._ends[Side.CALLER].transport, self._ends[Side.CALLEE].transport
        size = self._tally.queue
        if size is not None:
            for transport in (caller, callee):
                transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self._carrying = self._room.carry(
            caller, callee, packAcceptance(), self._room.pipes, self, self._finished
        )

    def lost(self, side: Side) -> None:
        """
        The connection of one end is gone: broken, or closed as everything was said.
        """
        self._ends.pop(side, None)
        if self.stage is Stage.OVER:
            # Where both have said all, the other one may have to take some of it still.
            return
        self._leave("one of them is gone")
        for end in self._ends.values():
            end.abort()

    def sweep(self, now: float) -> None:
        """
        Look whether something is overdue; called every second.
        """
        if self.stage is not Stage.CARRYING or self._carrying is None:
            return
        self._carrying.look()
        if self._carrying.count != self._seen:
            self._seen, self._changed = self._carrying.count, now
        most = self._room.accounts.limits.seconds
        if now - self._changed >= IDLE_PATIENCE:
            self.end(f"not a byte came for {IDLE_PATIENCE:.0f} s")
        elif most is not None and now - self.since >= most:
            self.end(f"a relayed path may last {most:.0f} s; the next one may be had at once")

    def refuse(self, reason: str) -> None:
        """
        There will be no path.
        """
        ends = list(self._ends.values())
        self._leave(reason)
        for end in ends:
            end.refuse(reason)

    def end(self, reason: str) -> None:
        """
        The path ends now; its peers are told why before that.
        """
        if self.stage is not Stage.CARRYING or self._carrying is None:
            self.refuse(reason)
            return
        self.stage = Stage.ENDING
        self._carrying.hold()
        self._note(f"ends the relayed path between {self.meeting}: {reason}")
        told = DeferredList(self._tell(reason, isOver=True), consumeErrors=True)
        told.addTimeout(TELLING_PATIENCE, self._room.clock, _nothing)
        told.addBoth(self._cut)

    def _cut(self, _: object) -> None:
        self._leave("")
        for end in list(self._ends.values()):
            end.abort()

    def _finished(self) -> None:
        self._leave("both have said all")
        for end in list(self._ends.values()):
            end.transport.loseConnection()

    def _leave(self, why: str) -> None:
        if self.stage is Stage.OVER:
            return
        self.stage = Stage.OVER
        self._tally.close()
        if self._breath is not None:
            self._breath.cancel()
            self._breath = None
        carrying, self._carrying = self._carrying, None
        if carrying is None:
            self._note(f"relays nothing between {self.meeting}: {why}")
            return
        carrying.stop()
        seconds = self._room.clock.seconds() - self.since
        self._note(
            f"has relayed {carrying.count} bytes between {self.meeting} in {seconds:.1f} s"
            + (f": {why}" if why else "")
        )

    # What is carried; see L{Meter<punchd.server.relaycarrying.Meter>}.

    def portion(self) -> int:
        """
        How many bytes may be moved now.
        """
        portion = self._tally.portion()
        if not portion and self._breath is None:
            self._breath = self._room.clock.callLater(BREATH, self._breathed)
            if self._carrying is not None:
                self._carrying.hold()
        return portion

    def moved(self, count: int) -> None:
        """
        So many bytes were.
        """
        self._tally.moved(count)
        limit = self._tally.exhausted()
        if limit is not None:
            self.end(str(limit))

    def _breathed(self) -> None:
        self._breath = None
        if self.stage is not Stage.CARRYING or self._carrying is None:
            return
        self._slowed += BREATH
        if self._slowed >= WORTH_TELLING and not self._isSlowToldOf:
            self._isSlowToldOf = True
            reason = self._tally.slowed()
            self._note(f"slows down the relayed path between {self.meeting}: {reason}")
            for answered in self._tell(reason, isOver=False):
                answered.addErrback(_nothing)
        self._carrying.resume()

    def _tell(self, reason: str, isOver: bool) -> list[Deferred[Any]]:
        found = (self._room.population.get(member.peerID) for member in self.meeting.members)
        session = self.meeting.session
        return [
            member.line.callRemote(RelayNote, session=session, reason=reason, ends=isOver)
            for member in found
            if member is not None
        ]

    def _note(self, step: str) -> None:
        self._room.observer.happened(
            Happening("server", self.meeting.session.hex(), step, self._room.clock.seconds())
        )


@define(eq=False)
class Pairs:
    """
    All relayed paths of a server.
    """

    _room: Room
    _tokens: RelayTokens
    # Those that wait for one end, and all.
    _refused: dict[Meeting, tuple[str, float]] = field(factory=dict, init=False)
    _byMeeting: dict[Meeting, Pair] = field(factory=dict, init=False)

    def arrived(self, token: bytes, end: End) -> tuple[Pair, Side] | str:
        """
        An end has shown C{token}.

        @return: what it belongs to, which L{lost} wants to know when it is gone; or why there is no
            place for it.
        """
        taken = self._tokens.take(token)
        if taken is None:
            return "the relay does not take the token: it is used, too old or forged"
        meeting, side = taken
        refusal = self._refused.pop(meeting, None)
        if refusal is not None:
            return refusal[0]
        pair = self._byMeeting.get(meeting)
        if pair is None:
            tally = self._room.accounts.open(meeting)
            if isinstance(tally, Limited):
                self._refuse(meeting, str(tally))
                return str(tally)
            pair = self._byMeeting[meeting] = Pair(self._room, meeting, tally)
        pair.came(side, end)
        return pair, side

    def lost(self, pair: Pair, side: Side) -> None:
        """
        An end of C{pair} is gone.
        """
        if pair.stage is Stage.WAITING:
            self._refuse(pair.meeting, "the other peer was at the relay, and has gone")
        pair.lost(side)
        self._byMeeting.pop(pair.meeting, None)

    def sweep(self) -> None:
        """
        Look for what is overdue.
        """
        now = self._room.clock.seconds()
        for pair in list(self._byMeeting.values()):
            if pair.stage is Stage.WAITING and now - pair.since >= MEETING_PATIENCE:
                self.refuse(
                    pair,
                    f"the other peer has not come to the relay for {MEETING_PATIENCE:.0f} s",
                    "the other peer has waited at the relay, and has gone",
                )
            else:
                pair.sweep(now)
        while self._refused:
            meeting, (_, until) = next(iter(self._refused.items()))
            if until > now:
                break
            del self._refused[meeting]
        self._tokens.sweep()
        self._room.accounts.sweep()

    def refuse(self, pair: Pair, reason: str, toOther: str) -> None:
        """
        C{pair}, of which one end waits, will not come about.

        @param toOther: what the end is told that has not come yet.
        """
        del self._byMeeting[pair.meeting]
        pair.refuse(reason)
        self._refuse(pair.meeting, toOther)

    def __len__(self) -> int:
        return len(self._byMeeting)

    def _refuse(self, meeting: Meeting, reason: str) -> None:
        """
        Whoever comes second is told the same.
        """
        self._refused[meeting] = reason, self._room.clock.seconds() + MEETING_PATIENCE


def _nothing(*_: object) -> None:
    """
    For those who only want to know that it is over.
    """
