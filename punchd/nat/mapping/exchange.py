"""
One question by UDP to the router, asked again until it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from punchd.errors import PunchdError, Unreachable

#: Datagrams that are looked at for one answer: more come only from somebody who guesses.
MOST_DATAGRAMS = 64


# What it asks is in no log: PCP's nonces are secrets.
@define(eq=False, repr=False)
class Exchange(DatagramProtocol):
    """
    Made by L{exchange} for one question. It has a port of its own, which nobody can guess.

    @ivar _read: what an answer says; C{None} for what is no answer to this question. A
        L{PunchdError} that it raises is the answer.
    """

    noisy = False

    _clock: Any
    _remote: tuple[str, int]
    _question: bytes
    _read: Callable[[bytes], Any]
    _waits: Iterator[float]
    _isConnected: bool
    answered: Deferred[Any] = field(init=False)
    _waiting: IDelayedCall | None = field(default=None, init=False)
    _left: int = field(default=MOST_DATAGRAMS, init=False)

    transport: Any = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.answered = Deferred(lambda _: self._stop())

    def startProtocol(self) -> None:
        if self._isConnected:
            # The kernel then drops what others send, and tells when nobody is there.
            self.transport.connect(*self._remote)
        self._ask()

    def _ask(self) -> None:
        self._waiting = None
        wait = next(self._waits, None)
        if wait is None:
            self._end(Failure(Unreachable("the router does not answer")))
            return
        self._waiting = self._clock.callLater(wait, self._ask)
        try:
            self.transport.write(self._question, self._remote)
        except OSError as error:
            self._end(Failure(Unreachable(f"cannot send to the router: {error.strerror}")))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        # What comes unconnected may come from another port of the same host (UPnP DA 1.1, 1.3.3).
        if self.answered.called or addr[0] != self._remote[0]:
            return
        if self._isConnected and addr[1] != self._remote[1]:
            return
        self._left -= 1
        try:
            answer = self._read(datagram)
        except PunchdError as error:
            self._end(Failure(error))
            return
        if answer is not None:
            self._end(answer)
        elif self._left <= 0:
            self._end(Failure(Unreachable("the router answers something else")))

    def connectionRefused(self) -> None:
        if not self.answered.called:
            self._end(Failure(Unreachable("the router has nobody who would answer that")))

    def _end(self, result: Any) -> None:
        self._stop()
        self.answered.callback(result)

    def _stop(self) -> None:
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._waiting = None
        if self.transport is not None:
            self.transport.stopListening()


def exchange(
    datagrams: Any,
    remote: tuple[str, int],
    question: bytes,
    read: Callable[[bytes], Any],
    waits: Iterable[float],
    isConnected: bool = True,
) -> Deferred[Any]:
    """
    Ask C{remote}, and only believe what comes from there.

    @param datagrams: gives UDP ports, as an C{IReactorUDP}, and the time.
    @param read: as L{Exchange}.
    @param waits: seconds after each time that the question is sent until the next; after the last
        of them nobody waits any more.
    @return: fires with what C{read} made of the answer.
    @raise Unreachable: when there is none.
    """
    asking = Exchange(datagrams, remote, question, read, iter(waits), isConnected)
    try:
        datagrams.listenUDP(0, asking)
    except (CannotListenError, OSError) as error:
        asking.answered.addErrback(lambda _: None)
        asking.answered.cancel()
        reason = error.socketError if isinstance(error, CannotListenError) else error
        return _failed(Unreachable(f"cannot take a UDP port: {reason}"))
    return asking.answered


def _failed(error: PunchdError) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(Failure(error))
    return failed
