"""
A race of connections from one held port.

What real NATs and kernels do decides the rules here (C{docs/explanation/hole-punching.rst} has the
measurements):

  - A try that fails (refused, reset, unreachable) is over at once; the next needs a new socket, and
    begins at once, because a SYN of the other side that comes in between finds no socket, and may
    spoil the four-tuple. When that has gone on for a while, it begins after a short random pause,
    because two sides that retry in step may never meet.
  - A try that hears nothing is left alone: the kernel repeats its SYN, and a socket in SYN_SENT is
    what lets the other side's crossing SYN in.
  - "Address not available" means that the four-tuple exists already: mostly the other side's SYN
    came first and the listener has it. Behind some NATs it is a half-open leftover that only goes
    away with the listener; so after a while the listener is put down, and the dialling goes on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.net.held import HeldPort
from punchd.values.addresses import Address
from punchd.values.outcomes import Result, Try, Way

#: The share of the tries that follow one another at once: as long as the other side may be only a
#: little late. Measured where an ICMP error answers the SYN that comes first, one way being 10 ms,
#: the other side 0.7 s late: with a third of 60 tries, 25 of 40 punches were lost for good, with
#: two thirds 4. The rest are for one that is later still.
AT_ONCE = 2 / 3

#: The pause before each later one: uniformly from 0 to this many seconds. Measured: on NATs that
#: reset, fixed steps of 340 ms never met in 6 s, random ones up to 60 ms met in 0.2-0.5 s.
LONGEST_PAUSE = 0.06

#: How long an address that is "not available" is left to the listener.
TAKEN_PAUSE = 0.3


class RaceLost(PunchdError):
    """
    Every remote has used up its tries.
    """


@define(eq=False)
class _Lane:
    """
    The tries toward one remote, one after the other.
    """

    remote: Address
    triesLeft: int
    began: float = 0.0
    dialling: Deferred[IProtocol] | None = None
    pause: IDelayedCall | None = None
    proving: bool = False
    finished: bool = False


@implementer(IStreamClientEndpoint)
@define(eq=False)
class RacingEndpoint:
    """
    Dials several remotes at once from one held port, each again and again, and keeps that port
    listening meanwhile if asked to; what is accepted goes to the port's own acceptor.

    The winner is the first connection that is I{proven}: a connection that merely opened proves
    nothing on a port where strangers may knock. Connections that come too late are aborted.

    @ivar prove: gets each connected protocol; fires when it is proven, fails with a
        L{PunchdError} when it is not.
    @ivar retries: how many sockets per remote.
    @ivar tries: what came of every socket that is done with, in that order.
    """

    _clock: IReactorTime
    _port: HeldPort
    _remotes: Sequence[Address]
    _random: Random
    prove: Callable[[IProtocol], Deferred[Any]]
    listening: bool = False
    retries: int = 1
    tries: list[Try] = field(factory=list, init=False)
    _lanes: list[_Lane] = field(factory=list, init=False)
    _won: Deferred[IProtocol] | None = field(default=None, init=False)
    _listens: bool = field(default=False, init=False)
    _unlistening: IDelayedCall | None = field(default=None, init=False)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Start. To be called once.

        @return: fires with the proven protocol, or fails with L{RaceLost}. When it is cancelled,
            everything that is not yet connected is closed.
        """
        won: Deferred[IProtocol] = Deferred(lambda _: self._stop(Result.CANCELLED))
        self._won = won
        if self.listening:
            self._startListening()
        self._lanes = [_Lane(remote, self.retries) for remote in self._remotes]
        for lane in self._lanes:
            self._dial(lane, protocolFactory)
        self._giveUpIfDone()
        return won

    def _startListening(self) -> None:
        try:
            self._port.listen()
            self._listens = True
        except CannotListenError:
            # A listener of somebody else on our port; dialling may still do.
            self._listens = False

    def _stopListening(self) -> None:
        if self._unlistening is not None and self._unlistening.active():
            self._unlistening.cancel()
        if self._listens:
            self._listens = False
            self._port.unlisten()

    def _putListenerDown(self) -> None:
        self._stopListening()
        self._giveUpIfDone()

    def _dial(self, lane: _Lane, factory: IProtocolFactory) -> None:
        lane.pause = None
        lane.triesLeft -= 1
        lane.began = self._clock.seconds()
        lane.dialling = self._port.to(lane.remote).connect(factory)
        lane.dialling.addCallbacks(
            lambda protocol: self._connected(lane, factory, protocol),
            lambda failure: self._failed(lane, factory, failure),
        )
        lane.dialling.addErrback(self._broken)

    def _connected(self, lane: _Lane, factory: IProtocolFactory, protocol: IProtocol) -> None:
        lane.dialling = None
        if self._won is None:
            # Connected while being cancelled: too late.
            abort(protocol)
            return
        lane.proving = True
        self.prove(protocol).addCallbacks(
            lambda _: self._proven(lane, protocol),
            lambda failure: self._unproven(lane, factory, protocol, failure),
        ).addErrback(self._broken)

    def _proven(self, lane: _Lane, protocol: IProtocol) -> None:
        lane.proving, lane.finished = False, True
        won = self._won
        if won is None:
            abort(protocol)
            return
        self._note(lane, Result.CONNECTED)
        self._stop(Result.CANCELLED)
        won.callback(protocol)

    def _unproven(
        self, lane: _Lane, factory: IProtocolFactory, protocol: IProtocol, failure: Failure
    ) -> None:
        lane.proving = False
        abort(protocol)
        if self._won is None:
            return
        self._note(lane, Result.NOT_AUTHENTICATED, failure.getErrorMessage())
        self._again(lane, factory, self._random.uniform(0, LONGEST_PAUSE))

    def _failed(self, lane: _Lane, factory: IProtocolFactory, failure: Failure) -> None:
        lane.dialling = None
        if self._won is None or failure.check(CancelledError) is not None:
            return
        result, detail = whatFailed(failure.value)
        self._note(lane, result, detail)
        pause = self._random.uniform(0, LONGEST_PAUSE)
        if result is Result.PORT_TAKEN:
            pause += TAKEN_PAUSE
            if self._listens and self._unlistening is None:
                self._unlistening = self._clock.callLater(TAKEN_PAUSE, self._putListenerDown)
        elif self.retries - lane.triesLeft <= AT_ONCE * self.retries:
            pause = 0.0
        self._again(lane, factory, pause)

    def _again(self, lane: _Lane, factory: IProtocolFactory, pause: float) -> None:
        if lane.triesLeft > 0:
            lane.pause = self._clock.callLater(pause, self._dial, lane, factory)
        else:
            lane.finished = True
            self._giveUpIfDone()

    def _giveUpIfDone(self) -> None:
        # While the port listens, somebody may still come in: then only cancelling ends the race.
        won = self._won
        if won is None or self._listens or not all(lane.finished for lane in self._lanes):
            return
        self._stop(Result.CANCELLED)
        won.errback(RaceLost("no connection from this port was proven"))

    def _stop(self, result: Result) -> None:
        self._won = None
        self._stopListening()
        for lane in self._lanes:
            if lane.pause is not None and lane.pause.active():
                lane.pause.cancel()
            if lane.dialling is not None:
                dialling, lane.dialling = lane.dialling, None
                dialling.cancel()
                self._note(lane, result)
            elif lane.proving:
                self._note(lane, result)

    def _note(self, lane: _Lane, result: Result, detail: str = "") -> None:
        seconds = self._clock.seconds() - lane.began
        self.tries.append(Try(Way.DIALLED, lane.remote, result, seconds, detail))

    def _broken(self, failure: Failure) -> None:
        # A bug in here or in the proof: the race must not hang because of it.
        won = self._won
        if won is None:
            failure.trap(CancelledError)
            return
        self._stop(Result.FAILED)
        won.errback(failure)


def whatFailed(error: BaseException | None) -> tuple[Result, str]:
    """
    What became of a try that ended with C{error}, and more of it where that does not say all.
    """
    number = getattr(error, "osError", None)
    if isinstance(error, ConnectionRefusedError):
        return Result.REFUSED, ""
    if isinstance(error, ConnectBindError) or number == errno.EADDRNOTAVAIL:
        return Result.PORT_TAKEN, ""
    if isinstance(error, TimeoutError | TCPTimedOutError):
        return Result.TIMED_OUT, ""
    if isinstance(error, NoRouteError):
        return Result.UNREACHABLE, ""
    if isinstance(error, ConnectError):
        name = errno.errorcode.get(number or 0, str(error) or type(error).__name__)
        reached = number in (errno.ECONNRESET, errno.EPROTO)
        return (Result.REFUSED if reached else Result.UNREACHABLE), name
    return Result.FAILED, f"{type(error).__name__}: {error}"


def abort(protocol: IProtocol) -> None:
    """
    End a connection at once, if it is one yet.
    """
    transport = getattr(protocol, "transport", None)
    if transport is not None:
        transport.abortConnection()
