"""
What a session sends over one path.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from typing import Protocol as Typing

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from punchd.link.sequence import Pieces
from punchd.values.addresses import Ends
from punchd.values.peers import PeerID
from punchd.wire.frames import FrameReader, Kind, packPosition


class ISessionPath(Typing):
    """
    What a session needs of a path; see L{punchd.link.path.Path}.

    @ivar isDirect: whether nobody is in between.
    @ivar ends: between which addresses it is, if that is known.
    @ivar isLost: whether it is gone.
    @ivar reader: what has come over it.
    @ivar portion: bytes that may be sent at once: what comes next waits for them.
    """

    isDirect: bool
    ends: Ends | None
    isLost: bool
    peerID: PeerID
    reader: FrameReader

    @property
    def portion(self) -> int: ...

    def attach(self, user: Any) -> None:
        """Give what comes to C{user}; to nobody, if it is C{None}."""

    def write(self, pieces: Pieces) -> None:
        """Send whole frames."""

    def hurry(self, seconds: float) -> None:
        """Hand on at once what comes in the next C{seconds}."""

    def otherEndIsNear(self) -> None:
        """The other end is near: what is sent need not be spaced."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Tell C{producer} when the path can take no more."""

    def unregisterProducer(self) -> None:
        """The producer is done."""

    def decline(self, why: str, isUnknown: bool = False) -> None:
        """Answer a C{JOIN}; then leave."""

    def leave(self) -> None:
        """End in order: nobody needs it any more."""

    def abort(self) -> None:
        """End now."""

    def whenLost(self) -> Deferred[None]:
        """Fires when it is gone."""


@implementer(IPushProducer)
@define(eq=False)
class Sender:
    """
    Made for each path that is to be written to; the path's producer. Frames of the sequence wait
    here while the path can take no more, and frames of the path as facts, so that however many are
    wanted, they take no room.

    @ivar whenWritable: called when the path can take more, and nothing waits.
    @ivar isHeld: whether another path is tried instead. Frames of the sequence wait here meanwhile.
    """

    path: ISessionPath
    whenWritable: Callable[[], None]
    isHeld: bool = field(default=False, init=False)
    _waiting: deque[Pieces] = field(factory=deque, init=False)
    _isPaused: bool = field(default=False, init=False)
    _ack: int | None = field(default=None, init=False)
    _ping: Callable[[], int] | None = field(default=None, init=False)
    _pong: int | None = field(default=None, init=False)

    def begin(self, entries: Iterable[Pieces]) -> None:
        """
        The path belongs to this sender from now on.

        @param entries: what must be sent first.
        """
        self._waiting.extend(entries)
        self.path.registerProducer(self, True)
        self._flushAll()

    @property
    def isWritable(self) -> bool:
        """
        Whether what is sent now goes out now.
        """
        return not (self._isPaused or self._waiting or self.isHeld)

    def send(self, pieces: Pieces) -> None:
        """
        Send frames of the sequence.
        """
        if self._isPaused or self._waiting or self.isHeld:
            self._waiting.append(pieces)
        elif self._ack is None:
            self.path.write(pieces)
        else:
            ack, self._ack = self._ack, None
            self.path.write([packPosition(Kind.ACK, ack), *pieces])

    def acknowledge(self, received: int) -> None:
        """
        Say how much of the other end's sequence has come: with the next frames, or when L{flush} is
        called.
        """
        self._ack = received

    def ping(self, number: Callable[[], int]) -> None:
        """
        Send a C{PING}. C{number} is called when it goes out.
        """
        self._ping = number
        self.flush()

    def pong(self, number: int) -> None:
        """
        Answer one. Of those that wait, only the last is answered.
        """
        self._pong = number
        self.flush()

    def goOn(self) -> None:
        """
        The other path came to nothing.
        """
        self.isHeld = False
        self._flushAll()

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        self._flushAll()
        if self.isWritable:
            self.whenWritable()

    def stopProducing(self) -> None:
        # The path is lost, or will be: it tells its session so.
        self._isPaused = True

    def _flushAll(self) -> None:
        self.flush()
        while self._waiting and not self._isPaused and not self.isHeld:
            self.path.write(self._waiting.popleft())

    def flush(self) -> None:
        """
        Send the facts that wait, if the path takes them.
        """
        if self._isPaused:
            return
        if self._ack is not None:
            ack, self._ack = self._ack, None
            self.path.write([packPosition(Kind.ACK, ack)])
        if self._pong is not None:
            pong, self._pong = self._pong, None
            self.path.write([packPosition(Kind.PONG, pong)])
        if self._ping is not None:
            ping, self._ping = self._ping, None
            self.path.write([packPosition(Kind.PING, ping())])

    def end(self) -> None:
        """
        The path is left, or lost.
        """
        self._isPaused = True
        self._waiting.clear()
