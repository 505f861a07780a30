"""
A TCP connection that may be a punched one, until it has proven to be.

Data's way: raw bytes come in here; the preamble is taken off; what follows is TLS, whose plaintext
is the frames of a L{Path<punchd.link.path.Path>}. Both sides write their preamble as soon as
they know the session, the caller its TLS greeting with it, so that authentication costs one round
trip and a half, whichever way TCP was opened.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import NotTrusted, ProtocolViolation, PunchdError, Unreachable
from punchd.identity.tls import Verdict
from punchd.link.path import Path
from punchd.link.secure import SecureConnection
from punchd.link.tickets import Ticket
from punchd.values.addresses import endsOf
from punchd.values.outcomes import Way
from punchd.wire.preamble import PREAMBLE_LENGTH, Preamble, Side, checkBeginning

#: Seconds after TCP opened by which a connection must be authenticated. It takes 1.5 round trips.
DEADLINE = 5.0

#: TCP keep-alive: seconds of idling, between probes, and their number. RFC 5382 wants NATs to keep
#: idle mappings for two hours, but many drop them after five minutes.
KEEP_ALIVE = (60, 15, 4)

#: Milliseconds after which data in flight that nobody acknowledges ends the connection (RFC 5482),
#: and data that nobody reads. The link goes on over another one, if need be over the same path. A
#: relay may stop reading for longer, when it has been told to be slow.
USER_TIMEOUT = 2000

#: Who knows which sessions are under way at a port.
TicketFinder = Callable[[bytes], Ticket | None]


class PunchedConnection(Protocol):
    """
    Made for every connection that was dialled for an introduction or accepted on a held port. It
    ends itself unless it is authenticated by L{DEADLINE}; afterwards it belongs to whoever has its
    C{path}.

    @ivar connectedAt: when TCP was open, on the clock.
    @ivar ticket: C{None} while an accepted connection has not said which session it belongs to.
    @ivar path: the plaintext side, once it is settled.
    """

    def __init__(
        self,
        clock: IReactorTime,
        way: Way,
        remote: IAddress | None,
        ticket: Ticket | None,
        findTicket: TicketFinder = lambda session: None,
    ) -> None:
        self.way = way
        self.remote = remote
        self.ticket = ticket
        self.connectedAt: float | None = None
        self._clock = clock
        self._findTicket = findTicket
        self._received = b""
        self._greeted = False
        self._tls: Any = None
        self._verdict: Verdict | None = None
        self._deadline: IDelayedCall | None = None
        self._settled: PunchdError | bool = False
        self._waiting: list[Deferred[PunchedConnection]] = []
        self._error: PunchdError | None = None
        self.path = Path(clock, self._proven, isDirect=way is not Way.RELAYED)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        idle, interval, probes = KEEP_ALIVE
        handle = transport.getHandle()
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
        if self.way is not Way.RELAYED:
            _tune(handle, "TCP_USER_TIMEOUT", USER_TIMEOUT)
        if self.path.isDirect:
            self.path.ends = endsOf(transport)
        self.connectedAt = self._clock.seconds()
        self._deadline = self._clock.callLater(DEADLINE, self._tooLate)
        if self.ticket is not None:
            self._greet(self.ticket)

    def dataReceived(self, data: bytes) -> None:
        if self._greeted:
            self._tls.dataReceived(data)
            return
        self._received += data
        try:
            checkBeginning(self._received)
            if len(self._received) >= PREAMBLE_LENGTH:
                rest = self._received[PREAMBLE_LENGTH:]
                self._preambleReceived(Preamble.unpack(self._received[:PREAMBLE_LENGTH]))
                self._received = b""
                if rest:
                    self._tls.dataReceived(rest)
        except PunchdError as error:
            self._fail(error)

    def _preambleReceived(self, theirs: Preamble) -> None:
        if self.ticket is None:
            ticket = self._findTicket(theirs.session)
            if ticket is None:
                raise ProtocolViolation("a connection for no introduction that is under way here")
            self.ticket = ticket
            ticket.check(theirs)
            self._greet(ticket)
        else:
            self.ticket.check(theirs)
        if self._tls is None:
            self._startTLS(self.ticket)
        self._greeted = True

    def _greet(self, ticket: Ticket) -> None:
        transport: Any = self.transport
        transport.write(ticket.preamble.pack())
        if ticket.side is Side.CALLER:
            self._startTLS(ticket)

    def _startTLS(self, ticket: Ticket) -> None:
        self.path.peerID = ticket.expected
        creator, self._verdict = ticket.connectionCreator()
        isClient = ticket.side is Side.CALLER
        self._tls = SecureConnection(self._clock, creator, isClient, self.path)
        self._tls.makeConnection(self.transport)

    def whenSettled(self) -> Deferred[PunchedConnection]:
        """
        Fires with this connection when the other end is proven to be the one of the ticket; fails
        with a L{PunchdError} when that will not come to pass.
        """
        if self._settled is True:
            return succeed(self)
        if isinstance(self._settled, PunchdError):
            return fail(self._settled)
        waiting: Deferred[PunchedConnection] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _proven(self) -> None:
        self._stopDeadline()
        self._settle(True)

    def _settle(self, result: PunchdError | bool) -> None:
        self._settled = result
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if isinstance(result, PunchdError):
                one.errback(result)
            else:
                one.callback(self)

    def abort(self) -> None:
        """
        End the connection now.
        """
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _tooLate(self) -> None:
        self._deadline = None
        self._fail(Unreachable("the other end did not prove itself in time"))

    def _fail(self, error: PunchdError) -> None:
        self._error = self._error or error
        self.abort()

    def _stopDeadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stopDeadline()
        if self._tls is not None:
            self._tls.connectionLost(reason)
        if self._settled is False:
            self._settle(self._whyLost(reason))

    def _whyLost(self, reason: Failure) -> PunchdError:
        if self._error is not None:
            return self._error
        if self._verdict is not None and self._verdict.refusal is not None:
            return self._verdict.refusal
        if self.path.violation is not None:
            return self.path.violation
        if reason.check(ConnectionClosed) is None:
            return NotTrusted(f"TLS failed: {reason.getErrorMessage() or repr(reason.value)}")
        return Unreachable("the connection ended before the other end had proven itself")


def _tune(handle: socket.socket, name: str, value: int) -> None:
    """
    Set an option that only Linux has.
    """
    option = getattr(socket, name, None)
    if option is not None:
        handle.setsockopt(socket.IPPROTO_TCP, option, value)
