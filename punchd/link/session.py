"""
The session of a link: what both ends keep while paths come and go.

Each end sends one sequence of bytes, counts the bytes of the other's that it has handed on, and
keeps its own until the other has counted them. On a new path both say how far they have come, and
go on from there. So nothing that runs in a link knows of a move, or of a path that was cut in the
middle of a frame.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol as Typing

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger

from punchd.errors import NotTrusted, ProtocolViolation, Unreachable
from punchd.link.ending import Ending
from punchd.link.flow import Budget, Limits
from punchd.link.keeping import Keeping
from punchd.link.paths import Paths
from punchd.link.pump import Pump
from punchd.link.receipts import Receipts
from punchd.link.sending import ISessionPath
from punchd.link.sequence import Outbound
from punchd.link.stream import Stream
from punchd.link.table import Table
from punchd.net.spacing import NEAR
from punchd.values.peers import PeerAddress, PeerID
from punchd.wire.frames import (
    Join,
    Kind,
    packEnd,
    textOf,
    unpackEnd,
    unpackOpen,
    unpackPosition,
)

_log = Logger()

# Looked up for every piece that comes: members of an enumeration take longer.
_DATA = Kind.DATA
_JOIN = Kind.JOIN


class SessionOwner(Typing):
    """
    Who has a session.
    """

    def asked(self, stream: Stream, service: str) -> None:
        """The other end has opened C{stream}: C{agree} or C{refuse}, now or later."""

    def pathChanged(self, session: Session) -> None:
        """There is a path, another one, or none any more (C{session.path} is C{None})."""


class Session:
    """
    Made for each link, at both ends; over when it says so (L{whenOver}): after L{close} or
    L{abort} of either end, a violation, or L{Limits.survival} seconds without a path. While it has
    no path, or wants a better one, its owner dials, and lets it L{join} what it got.

    @ivar linkID: the link's name, the same at both ends.
    @ivar isInitiator: whether this end has made the link.
    @ivar peer: the other end, as new streams' C{getPeer} tells; C{host}: this one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        linkID: bytes,
        isInitiator: bool,
        peerID: PeerID,
        owner: SessionOwner,
        limits: Limits = Limits(),  # noqa: B008
        *,
        peer: IAddress | None = None,
        host: IAddress | None = None,
    ) -> None:
        """
        @param peer: without it, the other end has no name; nor has this one without C{host}.
        """
        self.clock = clock
        self.linkID = linkID
        self.isInitiator = isInitiator
        self.peerID = peerID
        self.limits = limits
        self.peer: IAddress = peer or PeerAddress("", peerID)
        self.host: IAddress = host or PeerAddress("", peerID)
        self.budget = Budget.of(limits)
        self._owner = owner
        self._table = Table(clock, isInitiator, limits.streams)
        self._keeping = Keeping(clock, self._pathIsDead)
        self._outbound = outbound = Outbound()
        self._paths = Paths(
            clock=clock,
            linkID=linkID,
            isInitiator=isInitiator,
            outbound=outbound,
            user=self,
            changed=self._pathChanged,
            acknowledged=lambda received: self._pump.acknowledged(received),
            whenWritable=lambda: self._pump.run(),
            unknown=lambda why: self._ending.over(why),
        )
        self._receipts = Receipts(clock, self._paths)
        self._pump = Pump(
            clock=clock,
            outbound=outbound,
            paths=self._paths,
            most=limits.unacknowledged,
            whenBegun=self._receipts.sayAlong,
            whenDone=self._sent,
            moved=self._keeping.moved,
            overdue=lambda why: self._ending.over(why),
        )
        self._ending = Ending(clock, limits.survival, self._pump, self._finish)
        self._ending.awaitPath()

    # What people want to know.

    @property
    def path(self) -> ISessionPath | None:
        """
        The path that is written to.
        """
        return self._paths.path

    @property
    def isEnding(self) -> bool:
        """
        Whether there will be no more streams.
        """
        return self._ending.isNear

    @property
    def isConnected(self) -> bool:
        """
        Whether there is a path now.
        """
        return self._paths.path is not None

    @property
    def isShared(self) -> bool:
        """
        Whether the other end knows of the link.
        """
        return self._paths.wasJoined

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds, as last measured.
        """
        return self._keeping.roundTrip

    @property
    def leastRoundTrip(self) -> float | None:
        """
        Seconds, the least that was measured on this path.
        """
        return self._keeping.leastRoundTrip

    @property
    def streams(self) -> Collection[Stream]:
        """
        Those that are there now.
        """
        return self._table.streams

    @property
    def bytesIn(self) -> int:
        """
        What has come in all streams.
        """
        return self._table.bytesIn

    @property
    def bytesOut(self) -> int:
        """
        What was written to them.
        """
        return self._table.bytesOut

    @property
    def arrived(self) -> int:
        """
        Bytes of what both ends have sent that are known to have arrived, with all that frames cost.
        """
        return self._paths.received + self._outbound.acknowledged

    @property
    def isOver(self) -> bool:
        """
        Whether the link is.
        """
        return self._ending.isOver

    @property
    def survivesUntil(self) -> float | None:
        """
        When the link will be over if it has no path by then, on the clock; C{None} while it has
        one.
        """
        return self._ending.survivesUntil

    def measure(self) -> Deferred[float]:
        """
        The time to the other end and back, in seconds.

        @raise Unreachable: when there is no path, or no answer.
        """
        if not self.isConnected:
            return fail(Unreachable("the link has no path now"))
        return self._keeping.measure()

    def signOfLife(self) -> Deferred[None]:
        """
        Fires when anything has come from the other end, which is asked for it; or when there is no
        use in waiting for that: it was asked often lately, or the link is over.
        """
        return self._keeping.signOfLife()

    # Streams.

    def openStream(self, service: str) -> Stream:
        """
        A new stream, which may be written to at once. Its C{opened} fails if there cannot be one.
        """
        stream = Stream(self, self._table.claimOwn(), service, isOpener=True)
        why = self._whyNoMore()
        if why is None:
            self._table.add(stream)
            stream.ask()
        else:
            stream.broken(why)
        return stream

    # What streams need: see L{punchd.link.carrier}.

    def send(self, frame: bytes, withAck: bool = False) -> None:
        self._receipts.isDue = self._receipts.isDue or withAck
        self._pump.send(frame)

    def ready(self, stream: Stream) -> None:
        self._pump.ready(stream)

    def readySoon(self, stream: Stream) -> None:
        self._pump.readySoon(stream)

    def ended(self, stream: Stream) -> None:
        self._table.remove(stream)
        if self._ending.isNear:
            self._pump.runSoon()

    # Receiving.

    def frameReceived(self, path: ISessionPath, kind: Kind, number: int, payload: bytes) -> None:
        """
        Path: a frame has come.

        @raise ProtocolViolation: when it may not come now.
        """
        if path is not self._paths.reading and kind < _JOIN:
            raise ProtocolViolation(f"{kind.name} before JOINED")
        if kind is _DATA:
            stream = self._table.get(number)
            # It may have been, and be closed.
            if stream is not None:
                stream.dataReceived(payload)
        elif kind >= _JOIN:
            self._pathFrameReceived(path, kind, payload)
        elif kind is Kind.OPEN:
            self._opened(number, *unpackOpen(payload))
        elif kind is Kind.GOODBYE:
            self._receipts.isDue = True
            isNow, why = unpackEnd(payload)
            if not self._ending.isNear:
                _log.info("{peer} ends the link: {why}", peer=self.peer, why=why)
            self._ending.heard(isNow, why)
        else:
            stream = self._table.get(number)
            if stream is not None:
                self._streamFrameReceived(stream, kind, payload)

    def _streamFrameReceived(self, stream: Stream, kind: Kind, payload: bytes) -> None:
        if kind is Kind.CREDIT:
            stream.credited(unpackPosition(payload))
        elif kind is Kind.FIN:
            # It waits for this.
            self._receipts.isDue = True
            stream.finReceived()
        elif kind is Kind.OPENED:
            stream.agreed(unpackOpen(payload)[0])
        elif kind is Kind.REFUSED:
            stream.refused(textOf(payload))
        else:
            stream.broken(textOf(payload) or "reset by the other end")

    def _opened(self, number: int, window: int, service: str) -> None:
        self._table.claim(number)
        stream = Stream(self, number, service, isOpener=False)
        why = self._whyNoMore()
        if why is None:
            self._table.add(stream)
            stream.asked(window)
            self._owner.asked(stream, service)
        else:
            stream.refuse(why)

    def _whyNoMore(self) -> str | None:
        if self._ending.isNear:
            return f"the link ends: {self._ending.why}"
        return self._table.whyFull()

    def _pathFrameReceived(self, path: ISessionPath, kind: Kind, payload: bytes) -> None:
        if kind is Kind.ACK:
            self._pump.acknowledged(unpackPosition(payload))
        elif kind is Kind.PING:
            self._keeping.pinged()
            self._paths.pong(path, unpackPosition(payload))
        elif kind is Kind.PONG:
            if path is self.path:
                self._keeping.ponged(unpackPosition(payload))
                least = self._keeping.leastRoundTrip
                # The system's clock may have been put back meanwhile.
                if least is not None and 0 <= least < NEAR:
                    path.otherEndIsNear()
        else:
            self._paths.frameReceived(path, kind, payload)

    def batchReceived(self, path: ISessionPath) -> None:
        """
        Path: there are no more frames for now.
        """
        self._keeping.heard()
        if self._receipts.received():
            self._keeping.moved()
        if self._receipts.isDue or self._pump.hasWork or self._ending.isNear:
            self._pump.run()

    def _sent(self) -> None:
        if self._receipts.isDue:
            self._receipts.say()
        if self._ending.isAgreed and self._pump.hasArrived and self._table.isComplete:
            self._ending.over(self._ending.why)

    # Paths.

    def join(self, path: ISessionPath) -> Deferred[None]:
        """
        Go on over C{path}, on which this end is the caller. Meanwhile, and if nothing comes of it,
        everything stays as it is.

        @return: fires when the other end has agreed; fails with L{Refused} when it has not, or
            knows no such link (then the session is over), and with L{Unreachable} when the path is
            lost, or there is no answer.
        """
        if path.peerID != self.peerID:
            path.abort()
            return fail(NotTrusted("a path to somebody else"))
        if self.isOver or path.isLost:
            path.leave()
            return fail(Unreachable(self._ending.why or "the path is lost already"))
        return self._paths.join(path)

    def joined(self, path: ISessionPath, join: Join) -> None:
        """
        Go on over C{path}, on which the other end, the caller, has said C{join}. It is declined
        when it comes too late, or from somebody else.
        """
        if path.peerID != self.peerID:
            _log.warn("{peer} would join a link of {other}", peer=path.peerID, other=self.peerID)
            path.decline("there is no such link", isUnknown=True)
        elif self.isOver:
            path.decline(self._ending.why, isUnknown=True)
        else:
            try:
                why = self._paths.joined(path, join)
            except ProtocolViolation as violation:
                why = str(violation)
                self.abort(why)
            if why is not None:
                path.decline(why)

    def _pathChanged(self) -> None:
        sender = self._paths.sender
        if sender is not None:
            self._ending.hasPath()
            self._keeping.watch(sender)
            self._pump.runSoon()
        else:
            self._ending.awaitPath()
            self._keeping.rest()
        self._owner.pathChanged(self)
        if sender is None and self._ending.isAgreed and self._table.isComplete:
            self._ending.over(self._ending.why)

    def pathLost(self, path: ISessionPath, why: str) -> None:
        """
        Path: it is gone.
        """
        self._paths.lost(path)

    def leavePath(self, why: str) -> None:
        """
        Give up the present path, in order, because the owner knows it to be of no use any more.
        """
        if self.isConnected:
            _log.info("gives up a path to {peer}: {why}", peer=self.peer, why=why)
            self._paths.leave()

    def _pathIsDead(self) -> None:
        _log.info("no sign of life from {peer} over this path", peer=self.peer)
        self._paths.abort()

    # Ending.

    def close(self, why: str) -> None:
        """
        No more streams; when those that there are have finished, the link is over.
        """
        self._ending.say(why)

    def abort(self, why: str) -> None:
        """
        End the link now: the streams are reset, and the other end is told if there is a path.
        """
        if not self.isOver:
            self._pump.sendLast(packEnd(Kind.GOODBYE, True, why))
            self._ending.over(why)

    def violated(self, path: ISessionPath, violation: ProtocolViolation) -> None:
        """
        Path: the other end has broken the rules.
        """
        self.abort(str(violation))

    def _finish(self) -> None:
        # The last thing that the other end hears, so that it may finish, too.
        self._receipts.say()
        self._receipts.end()
        self._keeping.end()
        self._pump.end()
        self._paths.end()
        for stream in list(self._table.streams):
            stream.linkEnded(self._ending.why)

    def whenOver(self) -> Deferred[str]:
        """
        Fires when the link is over, and says why.
        """
        return self._ending.whenOver()
