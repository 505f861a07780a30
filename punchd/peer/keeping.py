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
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import NoPath, PunchdError, Unreachable
from punchd.link.flow import Limits
from punchd.link.path import Path
from punchd.link.sending import ISessionPath
from punchd.link.session import Session
from punchd.link.stream import Stream
from punchd.peer.dialling import Dialling, Wanted
from punchd.peer.exposing import Exposures
from punchd.peer.facts import Facts
from punchd.peer.idling import Idling
from punchd.peer.meeting import Meeting
from punchd.peer.pace import Pace
from punchd.peer.pulse import PATIENT_TRIPS
from punchd.peer.waiters import Waiters
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import Join

_log = Logger()

#: Seconds that a link without a path gives the other end to answer on one that is tried, before it
#: is dialled again.
ANSWERING = 2.0

#: Seconds in which something must come over a path that is doubted, which is pinged for that; but
#: never less than L{PATIENT_TRIPS} round trips: TCP repeats what was lost after a quarter of a
#: second, then again.
DOUBTFUL = 0.75

# People are told that.
_FLAPPING = "the last direct paths were soon lost, so the next one is looked for later"


@define(eq=False)
class Link:
    """
    Made by L{Links<punchd.peer.links.Links>}; over when its session is.

    @ivar facts: for people; they outlive it.
    @ivar session: what runs over the paths.
    @ivar wasThere: whether it has ever had a path.
    @ivar isEnding: whether it is of no use any more for new streams.
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
    wasThere: bool = field(default=False, init=False)
    _why: str = field(default="", init=False)
    # What is under way: a meeting, and paths whose other end has not answered yet.
    _meeting: Deferred[Meeting] | None = field(default=None, init=False)
    _isRelaying: bool = field(default=False, init=False)
    _joining: set[Path] = field(factory=set, init=False)
    _waiting: Waiters = field(init=False)
    _settling: Waiters = field(factory=Waiters, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _idling: Idling = field(init=False)
    _hasTaken: bool = field(default=False, init=False)
    _pace: Pace = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pace = Pace(self._random, self._isInitiator)
        self._waiting = Waiters(self._waitsNoMore)
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
        self._idling = Idling(self._clock, self.session)
        self.session.whenOver().addCallback(self._ended)

    @property
    def peerID(self) -> PeerID:
        """
        Who is at the other end.
        """
        return self.facts.peerID

    @property
    def isEnding(self) -> bool:
        return self.session.isEnding

    # For those who want streams.

    def reach(self) -> Deferred[None]:
        """
        Fires when the link has a path; it is dialled if it has none.

        @raise PunchdError: when none is found. A link that had one before goes on looking; one that
            had it a moment ago does so before it fails.
        """
        if self.session.isOver:
            return fail(self._gone())
        if self.session.path is not None:
            return succeed(None)
        waiting = self._waiting.wait()
        self._dial()
        return waiting

    def settle(self) -> Deferred[None]:
        """
        Fires when nothing more is under way: the path is the best that could be found for now.
        """
        return self._settling.wait() if self._isLooking else succeed(None)

    def openStream(self, service: str) -> Stream:
        """
        A stream to a service of the other end.
        """
        return self._idling.watch(self.session.openStream(service))

    def renew(self, why: str = "a new path is wanted") -> None:
        """
        Give up the present path, and look for another as if there had been none.
        """
        self._giveUp()
        self.session.leavePath(why)
        self._pace.reset()
        self._dial()

    def doubt(self) -> None:
        """
        The path may be dead, in a way that only this end can know of: this host is in another
        network, or its NAT has forgotten everything. If nothing comes over it soon, there shall be
        another one. A link that has none is dialled at once.
        """
        path = self.session.path
        if path is not None:
            patience = max(DOUBTFUL, PATIENT_TRIPS * (self.session.roundTrip or 0.0))
            living = self.session.signOfLife().addTimeout(patience, self._clock)
            living.addErrback(self._doubted, path)
            living.addErrback(self._bug)
        elif self._timer is not None:
            self._dial()

    def _doubted(self, failure: Failure, path: ISessionPath) -> None:
        failure.trap(TimeoutError)
        if self.session.path is path:
            self.renew("the server had to be connected to anew, and nothing comes over the path")

    def drain(self, why: str) -> None:
        """
        No more streams; the link ends with the last of those that there are.
        """
        if self.session.streams:
            self.session.close(why)
        else:
            self.abort(why)

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

    def _waitsNoMore(self) -> None:
        if not self._waiting and not self.wasThere:
            self.session.abort("nobody wants it any more")

    def _gone(self) -> Unreachable:
        return Unreachable(f"the link to {self.facts.peer} is over: {self._why or 'just now'}")

    # Dialling.

    @property
    def _isLooking(self) -> bool:
        """
        Whether something is under way that may change the path.
        """
        return self._meeting is not None or bool(self._joining)

    def _dial(self) -> None:
        if self._meeting is not None or self.session.isOver:
            return
        self._stopTimer()
        isLost = not self.session.isConnected
        self._pace.attempt(isLost)
        self._isRelaying = isLost
        notPunching = _FLAPPING if isLost and self._pace.isFlapping else ""
        wanted = Wanted(self.facts.peer, self.peerID, self._found, isLost, notPunching)
        self._meeting = meeting = Deferred.fromCoroutine(self._dialling.meet(wanted))
        # It may be over already.
        meeting.addBoth(self._met, meeting)
        meeting.addErrback(self._bug)

    def _giveUp(self) -> None:
        """
        What is under way does not matter any more.
        """
        self._joining.clear()
        meeting, self._meeting = self._meeting, None
        if meeting is not None:
            meeting.cancel()

    def _met(self, result: Meeting | Failure, meeting: Deferred[Meeting]) -> None:
        if self._meeting is not meeting:
            # It was given up.
            if isinstance(result, Failure):
                result.trap(CancelledError, PunchdError)
            return
        self._meeting = None
        if isinstance(result, Meeting):
            self.facts.learn(result)
            if result.direct is None:
                self._pace.noDirect()
            self._looked(None)
        else:
            error = result.value
            if isinstance(error, PunchdError):
                self.facts.failed(error)
                self._failed(error)
                # If there is no relay, punching must do.
                self._pace.forgive()
            elif isinstance(error, CancelledError):
                result = Failure(Unreachable("introductions are being stopped"))
            else:
                self._bug(result)
            self._looked(result)

    def _failed(self, error: PunchdError) -> None:
        limit = error.limit if isinstance(error, NoPath) else None
        if isinstance(error, NoPath):
            self._pace.noDirect()
        until = self.session.survivesUntil
        if until is None or not self.wasThere:
            return
        peer = self.facts.peer
        if self._pace.limited(limit):
            _log.warn("the link to {peer} has no path: {limit}", peer=peer, limit=limit)
        if self._pace.isHopeless(until - self._clock.seconds()):
            self.session.abort(f"no direct path, and no relayed one: {limit}")
            _log.warn("the link to {peer} is over: {why}", peer=peer, why=self._why)

    def _bug(self, failure: Failure) -> None:
        _log.failure("bug in looking for a path to {peer}", failure, peer=self.facts.peer)

    def _looked(self, problem: Failure | None) -> None:
        """
        Something that might have changed the path is over.

        @param problem: why it has not, if so.
        """
        if self._isLooking:
            return
        if problem is not None and not self.session.isConnected and not self._isPassing(problem):
            self._waiting.tell(problem)
            if not self.wasThere:
                self.session.abort(problem.getErrorMessage())
        self._settling.tell()
        self._goOn()

    def _isPassing(self, problem: Failure) -> bool:
        """
        Whether the next attempt may well do better, so that who waits had better not hear of it.
        """
        hasNoAnswer = problem.check(Unreachable, NoPath, TimeoutError) is not None
        return hasNoAnswer and self._pace.isPassing(self._clock.seconds())

    def _goOn(self) -> None:
        """
        Look for a better path when it is time.
        """
        if self.session.isOver or self._meeting is not None:
            return
        self._stopTimer()
        path = self.session.path
        isRelayed = path is not None and not path.isDirect
        isDue = (path is None and self.wasThere) or (isRelayed and not self._joining)
        wait = self._pace.wait(path is not None, bool(self._waiting)) if isDue else None
        if wait is not None:
            wait = max(wait, ANSWERING) if self._joining else wait
            self._timer = self._clock.callLater(wait, self._timerFired)

    def _timerFired(self) -> None:
        self._timer = None
        self._dial()

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # Paths.

    def _found(self, path: Path, meeting: Meeting) -> None:
        """
        We have asked for an introduction, and there is a path.
        """
        present = self.session.path
        isNoBetter = present is not None and (present.isDirect or not path.isDirect)
        if self.session.isOver or isNoBetter:
            # The other end may have dialled, too, and been first.
            path.leave()
            return
        self._joining.add(path)
        joining = self.session.join(path)
        joining.addCallback(lambda _: self._took(path, meeting))
        joining.addBoth(self._answered, path)
        joining.addErrback(self._bug)

    def _answered(self, result: Failure | None, path: Path) -> None:
        if isinstance(result, Failure) and result.check(PunchdError, TimeoutError) is None:
            self._bug(result)
        if path in self._joining:
            self._joining.remove(path)
            self._looked(result)

    def joined(self, path: Path, join: Join, meeting: Meeting) -> None:
        """
        The other end has asked for an introduction, and wants the link to run over that path.
        """
        self.session.joined(path, join)
        if self._isOn(path):
            self._took(path, meeting)

    def _took(self, path: Path, meeting: Meeting) -> None:
        self.facts.moves += self._hasTaken
        self._hasTaken = True
        self.facts.took(meeting, path.isDirect, self._clock.seconds())

    def _isOn(self, path: Path) -> bool:
        present: object = self.session.path
        return present is path

    # What the session tells.

    def asked(self, stream: Stream, service: str) -> None:
        """
        The other end wants a stream to one of our services.
        """
        path = self.session.path
        ends = None if path is None else path.ends
        self._exposures.serve(self._idling.watch(stream), self.peerID, ends)

    def pathChanged(self, session: Session) -> None:
        """
        The session has taken a path, moved to another, or lost the one it had.
        """
        path = session.path
        isDirect = path is not None and path.isDirect
        now, arrived = self._clock.seconds(), session.arrived
        if self._pace.changed(path is not None, isDirect, now, arrived):
            self.facts.fellBack()
        if path is None:
            self.facts.noPath()
            self._dialling.doubt()
            if self._meeting is not None and not self._isRelaying:
                # What looks for a better path only is not what is needed now.
                self._giveUp()
        else:
            self.wasThere = True
            self._idling.begin()
            self._waiting.tell()
        self._goOn()

    def _ended(self, why: str) -> str:
        self._why = why
        self._stopTimer()
        self._idling.end()
        self._giveUp()
        self.facts.ended(self.session, why)
        self._waiting.tell(Failure(self._gone()))
        self._settling.tell()
        return why
