"""
One introduction, on one side of it: the punch, and at the same time the way through the relay.

Data's way: the GO starts both. Each proves the other side on its connections; the caller elects one
of the punch's, and takes the relayed one too if that is there first. What is found goes to the
link, which moves from the relayed path to the direct one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from punchd.errors import NoPath, PunchdError, Unreachable
from punchd.link.path import Path
from punchd.link.punched import PunchedConnection
from punchd.peer.punches import Punches
from punchd.peer.punching import Punch
from punchd.values.addresses import Ends
from punchd.values.outcomes import Way
from punchd.wire.frames import Join
from punchd.wire.preamble import Side

#: Seconds until the other side must have come to the relay, too: as long as a plan may take, so
#: that who waits for any path is not told later than who waits for a direct one.
RELAYING = 8.0

#: Seconds for which the callee keeps a relayed connection that the caller has not joined.
JOINING = 15.0

#: Gives a connection its transport: one through the relay. Cancelling it closes that.
RelayDialler = Callable[[PunchedConnection], Deferred[None]]


@define(eq=False)
class Meeting:
    """
    Made at the GO; over when the punch is, and the relayed connection has been taken or given up.

    @ivar punch: what finds the direct path.
    @ivar found: called with each path that is to be used, and with this.
    @ivar began: when it was asked for, on the clock.
    @ivar direct: the direct path, once there is one; C{relayed}: the one through the relay.
    @ivar problem: why there is no direct path.
    @ivar relayProblem: why there is no relayed path, if one was wanted.
    """

    clock: IReactorTime
    punch: Punch
    found: Callable[[Path, Meeting], None]
    _punches: Punches
    _dialRelay: RelayDialler | None
    began: float
    relayProblem: PunchdError | None = None
    direct: Path | None = field(default=None, init=False)
    relayed: Path | None = field(default=None, init=False)
    problem: PunchdError | None = field(default=None, init=False)
    _relaying: Deferred[Path] | None = field(default=None, init=False)

    def run(self) -> Deferred[None]:
        """
        Look for paths.

        @return: fires when this is over, whatever came of it; cancelling it ends both. Fails with
            C{CancelledError}, and with whatever C{found} raises.
        """
        halves: list[Deferred[None]] = []
        if self._dialRelay is not None:
            self._relaying = Deferred.fromCoroutine(self._relay(self._dialRelay))
            halves.append(self._relaying.addCallbacks(self._foundRelayed, self._noRelayed))
        # Last: it may be won, or lost, before it returns.
        punching = self._punches.run(self.punch)
        halves.append(punching.addCallbacks(self._foundDirect, self._noDirect))

        def failed(failure: Failure) -> Failure:
            for half in halves:
                half.cancel()
            error = failure.value
            return error.subFailure if isinstance(error, FirstError) else failure

        both: Deferred[Any] = DeferredList(halves, fireOnOneErrback=True, consumeErrors=True)
        return both.addCallbacks(lambda _: None, failed)

    def _foundDirect(self, path: Path) -> None:
        self.direct = path
        if self.relayed is None and self._relaying is not None:
            self._relaying.cancel()
        self.found(path, self)

    def _noDirect(self, failure: Failure) -> None:
        self.problem = _expected(failure)

    async def _relay(self, dial: RelayDialler) -> Path:
        ticket = self.punch.ticket
        connection = PunchedConnection(self.clock, Way.RELAYED, None, ticket)
        joined: Deferred[Path] = Deferred()

        def join(path: Path, join: Join) -> None:
            if joined.called or ticket.side is Side.CALLER:
                path.decline("nobody waits for that here")
            else:
                joined.callback(path)

        connection.path.onJoin = join
        try:
            await dial(connection).addTimeout(RELAYING, self.clock, _notThere)
            await connection.whenSettled()
            if ticket.side is Side.CALLEE:
                connection.path.whenLost().addCallback(lambda _: _loseFor(joined))
                await joined.addTimeout(JOINING, self.clock, _notUsed)
        except BaseException:
            connection.abort()
            raise
        return connection.path

    def _foundRelayed(self, path: Path) -> None:
        self.relayed = path
        # What is beyond the relay, nobody knows but the server.
        path.ends = Ends(self.punch.other.reflexive, self.punch.own.reflexive)
        self.punch.note("the relayed path is there")
        self.found(path, self)

    def _noRelayed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is not None and self.direct is not None:
            # It was not needed any more.
            return
        self.relayProblem = _expected(failure)
        self.punch.note(f"no relayed path: {self.relayProblem}")

    @property
    def noPath(self) -> PunchdError | None:
        """
        Why there is no path at all; C{None} if there is one.
        """
        if self.direct is not None or self.relayed is not None:
            return None
        if isinstance(self.problem, NoPath) and self.relayProblem is not None:
            return self.problem.withoutRelay(self.relayProblem)
        return self.problem or Unreachable("given up")


def _notThere(result: object, seconds: float) -> Failure:
    return Failure(
        Unreachable(
            f"nothing came of the relay within {seconds:.0f} s: it does not answer (is its port "
            "open to us?), or the other peer has not come"
        )
    )


def _notUsed(result: object, seconds: float) -> Failure:
    return Failure(Unreachable("the caller has not used the relayed connection"))


def _loseFor(joined: Deferred[Path]) -> None:
    if not joined.called:
        joined.errback(_notUsed(None, 0))


def _expected(failure: Failure) -> PunchdError:
    """
    The error, if it is one of ours; anything else is raised: what was cancelled, and bugs.
    """
    error = failure.value
    if not isinstance(error, PunchdError):
        failure.raiseException()
    return error
