"""
One link, kept on the best path there is.

A link that has no path is dialled: at once by the end that made it, a little later by the other,
and again and again until its session gives up. One that runs through the relay is dialled again now
and then, until there is a direct path, or it is over. The relay comes with the first introduction,
so nobody waits for the punch.
"""

from __future__ import annotations

from random import Random

from attrs import define, field
from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from punchd.errors import PunchdError, Unreachable
from punchd.link.flow import Limits
from punchd.link.path import Path
from punchd.link.session import Session
from punchd.link.stream import Stream
from punchd.peer.dialling import Dialling, Wanted
from punchd.peer.exposing import Exposures
from punchd.peer.facts import Facts
from punchd.peer.meeting import Meeting
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import Join

#: Seconds that the end which did not make the link leaves to the other before it dials.
YIELDING = 3.0

#: Between attempts to get a lost link onto any path: the first wait, the longest, the growth.
LOST_WAITS = (0.5, 4.0, 1.5)

#: The same, between attempts to get a relayed one onto a direct path.
DIRECT_WAITS = (10.0, 300.0, 2.0)

#: A direct path that is lost before it is so old, in seconds, has not proven itself. After so many
#: of them, the link stays on the relay until the next attempt is due.
PROVEN_AFTER = 10.0
MOST_FLAPS = 2

#: Seconds after which a link without streams ends.
IDLE = 900.0


@define(eq=False)
class Link:
    """
    Made by L{Links<punchd.peer.links.Links>}; over when its session is.

    @ivar facts: for people; they outlive it.
    @ivar session: what runs over the paths.
    """

    _clock: IReactorTime
    _random: Random
    _own: PeerAddress
    facts: Facts
    number: bytes
    _isInitiator: bool
    _dialling: Dialling
    _exposures: Exposures
    _limits: Limits
    session: Session = field(init=False)
    _meeting: Deferred[None] | None = field(default=None, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _settling: list[Deferred[None]] = field(factory=list, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _idling: IDelayedCall | None = field(default=None, init=False)
    _attempts: int = field(default=0, init=False)
    _wasThere: bool = field(default=False, init=False)
    _directSince: float | None = field(default=None, init=False)
    _flaps: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        there = PeerAddress(self.facts.peer, self.peerID)
        self.session = Session(
            self._clock,
            self.number,
            self._isInitiator,
            self.peerID,
            self,
            self._limits,
            peer=there,
            host=self._own,
        )
        self.session.whenOver().addCallback(self._ended)

    @property
    def peerID(self) -> PeerID:
        """
        Who is at the other end.
        """
        return self.facts.peerID

    # For those who want streams.

    def reach(self) -> Deferred[None]:
        """
        Fires when the link has a path; it is dialled if it has none.

        @raise PunchdError: when none is found. A link that had one before goes on looking.
        """
        if self.session.path is not None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting.append(waiting)
        self._dial()
        return waiting

    def settle(self) -> Deferred[None]:
        """
        Fires when nothing more is under way: the path is the best that could be found for now.
        """
        if self._meeting is None:
            return succeed(None)
        settling: Deferred[None] = Deferred(lambda one: self._settling.remove(one))
        self._settling.append(settling)
        return settling

    def openStream(self, service: str) -> Stream:
        """
        A stream to a service of the other end.
        """
        self._stopIdling()
        return self._watched(self.session.openStream(service))

    def renew(self) -> None:
        """
        Give up the present path, and look for another as if there had been none.
        """
        if self._meeting is not None:
            self._meeting.cancel()
        self._flaps = 0
        self.session.leavePath("a new path is wanted")
        self._dial()

    def abort(self, why: str) -> None:
        """
        End the link, and with it all streams.
        """
        self.session.abort(why)

    def whenOver(self) -> Deferred[str]:
        """
        Fires when there will be nothing more, with the reason.
        """
        return self.session.whenOver()

    def _forget(self, waiting: Deferred[None]) -> None:
        self._waiting.remove(waiting)
        if not self._waiting and not self._wasThere:
            self.session.abort("nobody wants it any more")

    # Dialling.

    def _dial(self) -> None:
        if self._meeting is not None or self.session.isOver:
            return
        self._stopTimer()
        punching = self._flaps < MOST_FLAPS or self.session.path is not None
        wanted = Wanted(self.facts.peer, self.peerID, self._found, punching)
        meeting = Deferred.fromCoroutine(self._dialling.meet(wanted))
        self._meeting = met = meeting.addCallbacks(self.facts.learn, self._failed)
        met.addBoth(self._met, met)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is not None:
            return
        error = failure.value
        if not isinstance(error, PunchdError):
            # A bug; whoever waits must know, and so must the log.
            self._tellWaiting(failure)
            failure.raiseException()
        self.facts.failed(error)
        # If there is no relay, punching must do.
        self._flaps = 0
        self._tellWaiting(failure)
        if not self._wasThere:
            self.session.abort(str(error))

    def _met(self, result: object, meeting: Deferred[None]) -> object:
        if self._meeting is meeting or self._meeting is None:
            self._meeting = None
            settling, self._settling = self._settling, []
            for one in settling:
                one.callback(None)
            self._goOn()
        return result

    def _goOn(self) -> None:
        """
        Look for a better path when it is time.
        """
        if self.session.isOver or self._meeting is not None:
            return
        self._stopTimer()
        path = self.session.path
        if path is None and self._wasThere:
            wait = 0.0 if self._isInitiator else YIELDING
            if self._attempts:
                wait = self._wait(LOST_WAITS)
        elif path is not None and not path.isDirect and self._isInitiator:
            wait = self._wait(DIRECT_WAITS)
        else:
            return
        self._attempts += 1
        self._timer = self._clock.callLater(wait, self._timerFired)

    def _wait(self, waits: tuple[float, float, float]) -> float:
        policy = backoffPolicy(*waits, jitter=lambda: self._random.uniform(0.0, 0.5))
        return policy(self._attempts)

    def _timerFired(self) -> None:
        self._timer = None
        self._dial()

    def _tellWaiting(self, failure: Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if failure is None:
                one.callback(None)
            else:
                one.errback(failure)

    # Paths.

    def _found(self, path: Path, meeting: Meeting) -> None:
        """
        We have asked for an introduction, and there is a path.
        """
        if self.session.isOver or (self._isOnDirect and not path.isDirect):
            path.leave()
            return
        joining = self.session.join(path)
        joining.addCallbacks(
            lambda _: self._took(path, meeting),
            lambda failure: failure.trap(PunchdError) and None,
        )

    def joined(self, path: Path, join: Join, meeting: Meeting) -> None:
        """
        The other end has asked for an introduction, and wants the link to run over that path.
        """
        self.session.joined(path, join)
        if self._isOn(path):
            self._took(path, meeting)

    def _took(self, path: Path, meeting: Meeting) -> None:
        self.facts.moves += self._wasThere
        self._wasThere = True
        self.facts.took(meeting, path.isDirect, self._clock.seconds())

    def _isOn(self, path: Path) -> bool:
        present: object = self.session.path
        return present is path

    @property
    def _isOnDirect(self) -> bool:
        return self.session.path is not None and self.session.path.isDirect

    # What the session tells.

    def asked(self, stream: Stream, service: str) -> None:
        """
        The other end wants a stream to one of our services.
        """
        self._stopIdling()
        self._exposures.serve(self._watched(stream), self.peerID)

    def pathChanged(self, session: Session) -> None:
        """
        The session has taken a path, moved to another, or lost the one it had.
        """
        now = self._clock.seconds()
        if session.path is None:
            if self._directSince is not None:
                isProven = now - self._directSince >= PROVEN_AFTER
                self._flaps = 0 if isProven else self._flaps + 1
            self._directSince = None
            self.facts.noPath()
        else:
            self._directSince = now if session.path.isDirect else None
            self._beginIdling()
            self._tellWaiting(None)
        self._attempts = 0
        self._goOn()

    def _ended(self, why: str) -> str:
        self._stopTimer()
        self._stopIdling()
        self.facts.ended(self.session)
        self._tellWaiting(Failure(Unreachable(f"the link to {self.facts.peer} is over: {why}")))
        if self._meeting is not None:
            self._meeting.cancel()
        return why

    # Timers.

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _watched(self, stream: Stream) -> Stream:
        stream.whenOver().addCallback(lambda _: self._beginIdling())
        return stream

    def _beginIdling(self) -> None:
        self._stopIdling()
        if not self.session.streams and not self.session.isOver:
            self._idling = self._clock.callLater(IDLE, self._idled)

    def _stopIdling(self) -> None:
        idling, self._idling = self._idling, None
        if idling is not None:
            idling.cancel()

    def _idled(self) -> None:
        self._idling = None
        self.session.close("nobody has used it for long")
