"""
One end of a TCP connection, as a kernel keeps it: what punching is about, and a reliable stream
after it.

Of RFC 9293 there is: opening from one side and from both, resets, retransmission, the stream in
order, and each direction's end. There is not: windows and congestion (whoever writes is never held
up), TIME_WAIT (a four-tuple is free as soon as its connection is over), urgent data, options.
"""

from __future__ import annotations

import errno
from enum import Enum, auto
from typing import Protocol as Typing

from attrs import define, evolve, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.testing.internet.segments import HOPS, Complaint, Segment
from punchd.values.addresses import Address

#: Seconds between one SYN and the next, as Linux repeats them since 6.5 (tcp_syn_linear_timeouts).
SYN_PAUSES = (1, 1, 1, 1, 1, 2, 4, 8, 16, 32)

#: Seconds between one SYN-ACK and the next.
ANSWER_PAUSES = (1, 2, 4, 8, 16, 32)

#: Seconds after which data that nobody acknowledged goes out again: at least, and how often it is
#: tried, each time after twice as long.
LEAST_PAUSE = 0.2
MOST_REPEATS = 8

#: Bytes in a segment.
MOST_DATA = 1400


class State(Enum):
    """
    Of a connection (RFC 9293, 3.3.2), the states of its end put together.
    """

    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    OVER = auto()


class Surroundings(Typing):
    """
    What a connection needs of the kernel it is in.
    """

    def send(self, segment: Segment) -> None:
        """Put a segment on the wire."""

    def forget(self, connection: Connection) -> None:
        """The four-tuple is free again."""

    def opened(self, connection: Connection) -> None:
        """It is established: who listened for it may accept it."""


class Owner(Typing):
    """
    Whose a connection is: a socket, dialling or listening.
    """

    def changed(self) -> None:
        """Look at it again."""

    def arrived(self, connection: Connection) -> None:
        """One that came in is open."""


@define(eq=False)
class Connection:
    """
    Made by a L{Stack<punchd.testing.internet.stacks.Stack>} for each four-tuple in use; tells its
    owner by C{changed} when something has happened to it.

    @ivar listener: the socket that it came in on; C{None} if it was dialled.
    @ivar error: what it failed with, from C{errno}; 0 if it did not.
    @ivar received: what came and nobody has read yet.
    @ivar ended: whether the other end has nothing more to say.
    @ivar hops: see L{Segment}.
    """

    local: Address
    remote: Address
    number: int
    _clock: IReactorTime
    _around: Surroundings
    listener: Owner | None = None
    hops: int = HOPS
    state: State = field(default=State.SYN_SENT, init=False)
    error: int = field(default=0, init=False)
    received: bytes = field(default=b"", init=False)
    ended: bool = field(default=False, init=False)
    owner: Owner | None = field(default=None, init=False)
    _expected: int = field(default=0, init=False)
    _unacknowledged: int = field(default=0, init=False)
    _pending: bytes = field(default=b"", init=False)
    _sent: int = field(default=0, init=False)
    _finishing: bool = field(default=False, init=False)
    _early: dict[int, Segment] = field(factory=dict, init=False)
    _repeat: IDelayedCall | None = field(default=None, init=False)
    _repeats: int = field(default=0, init=False)
    _began: float = field(default=0.0, init=False)
    _roundTrip: float = field(default=0.0, init=False)

    # What the own side does.

    def dial(self) -> None:
        """
        Send the first SYN.
        """
        self._began = self._clock.seconds()
        self._say(self.number, acknowledging=False, syn=True)
        self._repeatLater(SYN_PAUSES)

    def answer(self, segment: Segment) -> None:
        """
        A SYN came in for a listener.
        """
        self._began = self._clock.seconds()
        self._crossed(segment)

    def write(self, data: bytes) -> None:
        """
        Send C{data}, some time.
        """
        self._pending += data
        self._push()

    def finish(self) -> None:
        """
        There is nothing more to say.
        """
        if not self._finishing:
            self._finishing = True
            self._push()

    def abort(self) -> None:
        """
        End it at once; the other end hears of it if it knows this one already.
        """
        if self.state is State.ESTABLISHED or (
            self.state is State.SYN_RECEIVED and self.listener is None
        ):
            # What was not sent is dropped, so this is where the other end expects us.
            self._send(Segment(self.local, self.remote, self._next, self._expected, rst=True))
        self._end(0)

    def drop(self) -> None:
        """
        Forget it without a word: a socket that was closed while it dialled.
        """
        self._end(0)

    @property
    def isSaid(self) -> bool:
        """
        Whether all that was to be said, and the end of it, has arrived.
        """
        return self._finishing and self._unacknowledged == len(self._pending) + 1

    # What comes from the wire.

    def arrived(self, segment: Segment) -> None:
        """
        A segment of the other end's.
        """
        if self.state is State.SYN_SENT:
            self._arrivedWhileDialling(segment)
        elif segment.rst:
            if segment.number >= self._expected:
                dialled = self.state is State.SYN_RECEIVED
                self._end(errno.ECONNREFUSED if dialled else errno.ECONNRESET)
        elif segment.opens:
            self._arrivedAgain(segment)
        elif self.state is State.SYN_RECEIVED:
            if segment.acknowledges != self.number + 1:
                self._refuse(segment)
                return
            self._establish(answering=segment.syn)
            self._arrivedOpen(segment)
        else:
            self._arrivedOpen(segment)

    def complained(self, complaint: Complaint) -> None:
        """
        An ICMP error about a segment of ours. Linux ends a connection by it only while it is being
        opened (RFC 5461).
        """
        if self.state is State.SYN_SENT:
            self._end(complaint.number)

    def _arrivedWhileDialling(self, segment: Segment) -> None:
        if segment.acknowledges is not None and segment.acknowledges != self.number + 1:
            # It answers a socket that dialled the same before this one.
            self._refuse(segment)
        elif segment.rst:
            if segment.acknowledges is not None:
                self._end(errno.ECONNREFUSED)
        elif segment.syn and segment.acknowledges is not None:
            self._expected = segment.number + 1
            self._establish(answering=True)
        elif segment.syn:
            self._crossed(segment)

    def _crossed(self, segment: Segment) -> None:
        self._expected = segment.number + 1
        self.state = State.SYN_RECEIVED
        self._say(self.number, syn=True)
        self._repeatLater(ANSWER_PAUSES)

    def _arrivedAgain(self, segment: Segment) -> None:
        if segment.number == self._expected - 1 and self.state is State.SYN_RECEIVED:
            self._say(self.number, syn=True)
        else:
            # A SYN of another try: the other end hears what this one knows of, and resets it.
            self._say(self._next)

    def _establish(self, answering: bool) -> None:
        self.state = State.ESTABLISHED
        self._roundTrip = self._clock.seconds() - self._began
        self._stopRepeating()
        if answering:
            self._say(self._next)
        self._around.opened(self)
        self._tell()
        self._push()

    def _arrivedOpen(self, segment: Segment) -> None:
        if segment.acknowledges is not None:
            done = segment.acknowledges - self.number - 1
            if self._unacknowledged < done <= self._sent:
                self._unacknowledged = done
                self._stopRepeating()
                self._repeatIfNeeded()
                self._leaveIfDone()
        if segment.syn:
            # A repeated answer: our acknowledgement of the first was lost.
            self._say(self._next)
        elif segment.data or segment.fin:
            self._early[segment.number] = segment
            self._takeInOrder()
            if self.state is not State.OVER:
                self._say(self._next)
            self._leaveIfDone()

    def _takeInOrder(self) -> None:
        before = (len(self.received), self.ended)
        while self._early:
            number = min(self._early)
            if number > self._expected:
                break
            segment = self._early.pop(number)
            rest = segment.data[self._expected - number :]
            self.received += rest
            self._expected += len(rest)
            if segment.fin and number + len(segment.data) == self._expected and not self.ended:
                self.ended = True
                self._expected += 1
        if (len(self.received), self.ended) != before:
            self._tell()

    # Sending.

    @property
    def _next(self) -> int:
        return self.number + 1 + self._sent

    def _push(self) -> None:
        if self.state is not State.ESTABLISHED:
            return
        while self._sent < len(self._pending):
            self._sendFrom(self._sent)
            self._sent += min(MOST_DATA, len(self._pending) - self._sent)
        if self._finishing and self._sent == len(self._pending):
            self._say(self._next, fin=True)
            self._sent += 1
        self._repeatIfNeeded()

    def _sendFrom(self, offset: int) -> None:
        data = self._pending[offset : offset + MOST_DATA]
        self._say(self.number + 1 + offset, fin=not data, data=data)

    def _say(
        self,
        number: int,
        acknowledging: bool = True,
        syn: bool = False,
        fin: bool = False,
        data: bytes = b"",
    ) -> None:
        expected = self._expected if acknowledging else None
        self._send(Segment(self.local, self.remote, number, expected, syn=syn, fin=fin, data=data))

    def _send(self, segment: Segment) -> None:
        self._around.send(evolve(segment, hops=self.hops))

    def _refuse(self, segment: Segment) -> None:
        refusal = segment.refusal()
        if refusal is not None:
            self._send(refusal)

    # Repeating.

    def _repeatLater(self, pauses: tuple[int, ...]) -> None:
        self._stopRepeating()
        self._repeat = self._clock.callLater(pauses[0], self._repeatOpening, pauses[1:])

    def _repeatOpening(self, pauses: tuple[int, ...]) -> None:
        self._repeat = None
        if not pauses:
            self._end(errno.ETIMEDOUT)
            return
        self._say(self.number, acknowledging=self.state is State.SYN_RECEIVED, syn=True)
        self._repeat = self._clock.callLater(pauses[0], self._repeatOpening, pauses[1:])

    def _repeatIfNeeded(self) -> None:
        if self._repeat is None and self._unacknowledged < self._sent:
            pause = max(LEAST_PAUSE, 2 * self._roundTrip) * 2**self._repeats
            self._repeat = self._clock.callLater(pause, self._repeatData)

    def _repeatData(self) -> None:
        self._repeat = None
        self._repeats += 1
        if self._repeats > MOST_REPEATS:
            self._end(errno.ETIMEDOUT)
            return
        self._sendFrom(self._unacknowledged)
        self._repeatIfNeeded()

    def _stopRepeating(self) -> None:
        self._repeats = 0
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None

    # The end.

    def _leaveIfDone(self) -> None:
        if self.isSaid and self.ended:
            self._end(0)

    def _end(self, error: int) -> None:
        if self.state is State.OVER:
            return
        self.state = State.OVER
        self.error = error
        self._stopRepeating()
        self._around.forget(self)
        self._tell()

    def _tell(self) -> None:
        if self.owner is not None:
            self.owner.changed()
