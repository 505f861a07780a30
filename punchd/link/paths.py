"""
The paths of one session: which one is written to, which one is read, and which are tried.

One end joins a path, the other is joined. The first path of a link is written to at once. Later,
who joins goes on with the old path until the other has answered; then it has moved, both ways. Who
is joined writes to the new path at once, and reads the old one until the joiner's answer has come
over the new one; if that does not come, because the new path is lost before, the old one is good
still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from punchd.errors import ProtocolViolation, Refused, Unreachable
from punchd.link.sending import ISessionPath, Sender
from punchd.link.sequence import Outbound, Pieces
from punchd.wire.frames import LAST_GENERATION, Join, Joined, Kind, unpackEnd

#: Seconds until a C{JOIN} must be answered.
JOINING = 10.0

#: How far ahead of ours the other end's generation may be: as often it may have tried in vain.
FAR_AHEAD = 65536

#: Who is preferred when both ends join at once: generation, and whether the initiator joins.
Rank = tuple[int, bool]


@frozen
class _Try:
    """
    A path over which we have asked.
    """

    rank: Rank
    done: Deferred[None]


@define(eq=False)
class Paths:
    """
    Made with its session; over with L{end}.

    @ivar sender: to the path that is written to.
    @ivar reading: the path that is read.
    @ivar wasJoined: whether both ends have agreed to any path.
    """

    _clock: IReactorTime
    _linkID: bytes
    _isInitiator: bool
    _outbound: Outbound
    _user: Any
    _changed: Callable[[], None]
    _acknowledged: Callable[[int], None]
    _whenWritable: Callable[[], None]
    _unknown: Callable[[str], None]
    sender: Sender | None = field(default=None, init=False)
    reading: ISessionPath | None = field(default=None, init=False)
    wasJoined: bool = field(default=False, init=False)
    _former: Sender | None = field(default=None, init=False)
    _received: int = field(default=0, init=False)
    _rank: Rank = field(default=(0, False), init=False)
    _generation: int = field(default=0, init=False)
    _wasTried: bool = field(default=False, init=False)
    _tries: dict[ISessionPath, _Try] = field(factory=dict, init=False)

    @property
    def path(self) -> ISessionPath | None:
        """
        The one that is written to.
        """
        return None if self.sender is None else self.sender.path

    @property
    def received(self) -> int:
        """
        Bytes of the other end's sequence that were handed on.
        """
        if self.reading is not None:
            # The reader is behind while it skips what was known before.
            position = self.reading.reader.position
            if position > self._received:
                self._received = position
        return self._received

    # Joining.

    def join(self, path: ISessionPath) -> Deferred[None]:
        """
        Ask the other end to go on over C{path}.
        """
        if self._generation >= LAST_GENERATION:
            path.abort()
            return fail(Unreachable("this link was joined too often"))
        done: Deferred[None] = Deferred(lambda _: self._giveUp(path))
        self._generation += 1
        self._tries[path] = _Try((self._generation, self._isInitiator), done)
        path.attach(self._user)
        isNew = self._isInitiator and not self.wasJoined
        path.write([Join(self._linkID, self._generation, isNew, self.received).pack()])
        done.addTimeout(JOINING, self._clock, _notAnswered)
        if isNew and not self._wasTried:
            # Nothing has come, and nothing was sent: no need to hear that first.
            self._wasTried = True
            self._send(path, 0)
        return done

    def _giveUp(self, path: ISessionPath) -> None:
        self._tries.pop(path, None)
        path.attach(None)
        path.abort()
        if path is self.path:
            self._fallBack()

    def joined(self, path: ISessionPath, join: Join) -> str | None:
        """
        The other end asks.

        @return: why not, if so.
        @raise ProtocolViolation: when it has received more than there was, or says that it has
            joined more often than can be.
        """
        if join.generation > self._generation + FAR_AHEAD:
            raise ProtocolViolation(f"JOIN of generation {join.generation}")
        rank = (join.generation, not self._isInitiator)
        self._generation = max(self._generation, join.generation)
        if rank <= max([self._rank, *(each.rank for each in self._tries.values())]):
            return "the link goes on over another path"
        self._checkReceived(join.received)
        self._rank = rank
        self.wasJoined = True
        path.attach(self._user)
        if self.sender is not None and self.sender.path is self.reading:
            self._former = self.sender
            self._former.isHeld = True
        elif self.sender is not None:
            # It was tried itself.
            self.sender.end()
            self._forsake(self.sender.path)
        self._send(path, join.received)
        return None

    def _forsake(self, path: ISessionPath) -> None:
        asked = self._tries.pop(path, None)
        path.leave()
        if asked is not None:
            asked.done.errback(Unreachable("the path was given up"))

    def _checkReceived(self, received: int) -> None:
        if received > self._outbound.end:
            raise ProtocolViolation(
                f"has received {received} bytes of the {self._outbound.end} that were sent"
            )

    def _send(self, path: ISessionPath, received: int) -> None:
        self._acknowledged(received)
        begins, entries = self._outbound.unacknowledged()
        path.write([Joined(self.received, begins).pack()])
        self.sender = sender = Sender(path, self._whenWritable)
        # All of them now: what is written meanwhile comes behind.
        sender.begin(list(entries))
        self._changed()

    def frameReceived(self, path: ISessionPath, kind: Kind, payload: bytes) -> None:
        """
        C{JOIN}, C{JOINED} or C{DECLINED}.

        @raise ProtocolViolation: when it may not come now.
        """
        if kind is Kind.JOIN:
            raise ProtocolViolation("JOIN on a path of a link")
        asked = self._tries.pop(path, None)
        if kind is Kind.DECLINED:
            isUnknown, why = unpackEnd(payload)
            if asked is None:
                raise ProtocolViolation("DECLINED where none is allowed")
            path.leave()
            if isUnknown:
                self._unknown(why)
            elif path is self.path:
                self._fallBack()
            asked.done.errback(Refused(why))
            return
        joined = Joined.unpack(payload)
        if asked is not None:
            self._agreed(path, joined, asked)
        elif path is self.path and path is not self.reading:
            self._confirmed(path, joined)
        else:
            raise ProtocolViolation("JOINED where none is allowed")

    def _agreed(self, path: ISessionPath, joined: Joined, asked: _Try) -> None:
        self._checkReceived(joined.received)
        if asked.rank <= self._rank:
            path.leave()
            asked.done.errback(Refused("the link goes on over another path"))
            return
        self._rank = asked.rank
        self.wasJoined = True
        if path is self.path:
            self._confirmed(path, joined)
            asked.done.callback(None)
            return
        former = self.sender
        self._read(path, joined.begins)
        if former is not None:
            former.end()
            former.path.leave()
        self._send(path, joined.received)
        asked.done.callback(None)

    def _confirmed(self, path: ISessionPath, joined: Joined) -> None:
        self._acknowledged(joined.received)
        self._read(path, joined.begins)

    def _read(self, path: ISessionPath, begins: int) -> None:
        received = self.received
        if begins > received:
            raise ProtocolViolation(f"goes on at {begins}, where {received} bytes have come")
        old, self.reading = self.reading, path
        path.reader.begin(begins, received)
        self._dropFormer()
        if old is not None and old is not self.path:
            old.leave()

    def _dropFormer(self) -> None:
        former, self._former = self._former, None
        if former is not None:
            former.end()
            former.path.leave()

    # Writing.

    def send(self, pieces: Pieces) -> None:
        """
        Send frames of the sequence, if there is a path.
        """
        if self.sender is not None:
            self.sender.send(pieces)
        if self._former is not None:
            self._former.send(pieces)

    def sendLast(self, pieces: Pieces) -> None:
        """
        Send frames that nothing of the sequence will follow, whether the path can take more or not.
        """
        for sender in (self.sender, self._former):
            if sender is not None:
                sender.path.write(pieces)

    def pong(self, path: ISessionPath, number: int) -> None:
        """
        Answer a ping that came over C{path}, there.
        """
        for sender in (self.sender, self._former):
            if sender is not None and sender.path is path:
                sender.pong(number)

    def hurry(self, seconds: float) -> None:
        """
        Hand on at once what comes in the next C{seconds}.
        """
        if self.reading is not None:
            self.reading.hurry(seconds)

    # Losing.

    def lost(self, path: ISessionPath) -> None:
        """
        C{path} is gone.
        """
        asked = self._tries.pop(path, None)
        if asked is not None:
            asked.done.errback(Unreachable("the path was lost before the other end had answered"))
        if self._former is not None and self._former.path is path:
            self._former.end()
            self._former = None
        if path is self.path:
            self._fallBack()
        if path is self.reading:
            self._received = self.received
            self.reading = None

    def _fallBack(self) -> None:
        assert self.sender is not None
        self.sender.end()
        self.sender, self._former = self._former, None
        if self.sender is not None:
            self.sender.goOn()
        self._changed()

    def leave(self) -> None:
        """
        Give up the path that is written to, and read.
        """
        path = self.path
        if path is not None:
            if self._former is None and self.reading not in (None, path):
                assert self.reading is not None
                self.reading.leave()
            self._dropFormer()
            self._received = self.received
            self.reading = None
            self._forsake(path)
            self._fallBack()

    def abort(self) -> None:
        """
        The path that is written to is dead.
        """
        path = self.path
        if path is not None:
            path.attach(None)
            self.lost(path)
            path.abort()

    def end(self) -> None:
        """
        The session is over.
        """
        tries, self._tries = self._tries, {}
        for path, asked in tries.items():
            path.attach(None)
            path.abort()
            asked.done.errback(Unreachable("the link is over"))
        if self.reading is not None and self.reading is not self.path:
            self.reading.leave()
        self.reading = None
        self._dropFormer()
        if self.sender is not None:
            self.sender.path.leave()
            self.sender.end()
            self.sender = None


def _notAnswered(result: object, seconds: float) -> Failure:
    return Failure(Unreachable(f"the other end did not join within {seconds:.0f} s"))
