"""
Connections that come in on a held port.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from punchd.errors import PunchdError
from punchd.link.punched import PunchedConnection
from punchd.link.tickets import Ticket
from punchd.net.pacing import Allowance
from punchd.peer.punching import Punch
from punchd.values.addresses import Address, showAddress
from punchd.values.outcomes import Way
from punchd.wire.proving import CHALLENGE_LENGTH, Challenge, mayBegin

_log = Logger()

#: Connections that have not proven themselves yet, on all held ports together. Each is held for a
#: few seconds at most; a stranger who takes all places can delay a listener's connections, not
#: dialled ones.
MOST_STRANGERS = 64

#: Lines in the log about connections that are not for us, a second and at once.
LINES_PER_SECOND = 1.0
LINES_AT_ONCE = 20.0


class Arrivals(Factory):
    """
    The acceptor of all of a peer's held ports: tells by the preamble whose a connection is, and
    hands it to that introduction. Lives as long as the peer.

    Servers come here, too, to see whether an address that a router has leased to us is really ours.

    @ivar secrets: what such servers know beside us, as long as we expect them.
    @ivar _findPunch: the introduction that has this session, if one is under way.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, findPunch: Callable[[bytes], Punch | None]) -> None:
        self._clock = clock
        self.secrets: set[bytes] = set()
        self._findPunch = findPunch
        self._strangers = 0
        self._lines = Allowance(clock, LINES_PER_SECOND, LINES_AT_ONCE)

    def buildProtocol(self, addr: IAddress | None) -> PunchedConnection | None:
        if self._strangers >= MOST_STRANGERS:
            return None
        self._strangers += 1
        connection = _Arrival(
            self._clock, Way.ACCEPTED, addr, None, lambda session: self._claim(connection, session)
        )
        connection.secrets = self.secrets
        connection.whenSettled().addBoth(self._settled, connection)
        return connection

    def _claim(self, connection: PunchedConnection, session: bytes) -> Ticket | None:
        punch = self._findPunch(session)
        if punch is None:
            return None
        transport: Any = connection.transport
        remote: Address = transport.getPeer()
        punch.accepted(connection, transport.getHost().port, remote)
        return punch.ticket

    def _settled(self, result: Any, connection: _Arrival) -> None:
        self._strangers -= 1
        error = getattr(result, "value", None)
        if connection.isProof:
            return
        if isinstance(error, PunchdError) and self._lines.take():
            _log.info(
                "a connection from {remote} is not for us: {error}",
                remote=showAddress(connection.remote),
                error=error,
            )


class _Arrival(PunchedConnection):
    """
    A connection that came in: a punched one, unless it begins with a server's challenge.

    @ivar secrets: of whom we expect one.
    @ivar isProof: whether it was one, and is answered.
    """

    secrets: Collection[bytes] = ()
    isProof = False
    _beginning: bytes | None = b""

    def dataReceived(self, data: bytes) -> None:
        if self._beginning is None:
            super().dataReceived(data)
            return
        self._beginning += data
        if not self.secrets or not mayBegin(self._beginning):
            beginning, self._beginning = self._beginning, None
            super().dataReceived(beginning)
        elif len(self._beginning) >= CHALLENGE_LENGTH:
            self._challenged(self._beginning)

    def _challenged(self, packed: bytes) -> None:
        try:
            answer = None if self.isProof else Challenge.unpack(packed).answer(self.secrets)
        except PunchdError:
            answer = None
        if answer is None:
            # Nobody whom we expect; the server closes after its answer, and says nothing more.
            self.abort()
            return
        self.isProof = True
        transport: Any = self.transport
        transport.write(answer)
