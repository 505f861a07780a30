"""
Connections that come in on a held port.
"""

from __future__ import annotations

from collections.abc import Callable
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

    @ivar _findPunch: the introduction that has this session, if one is under way.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, findPunch: Callable[[bytes], Punch | None]) -> None:
        self._clock = clock
        self._findPunch = findPunch
        self._strangers = 0
        self._lines = Allowance(clock, LINES_PER_SECOND, LINES_AT_ONCE)

    def buildProtocol(self, addr: IAddress | None) -> PunchedConnection | None:
        if self._strangers >= MOST_STRANGERS:
            return None
        self._strangers += 1
        connection = PunchedConnection(
            self._clock, Way.ACCEPTED, addr, None, lambda session: self._claim(connection, session)
        )
        connection.whenSettled().addBoth(self._settled, addr)
        return connection

    def _claim(self, connection: PunchedConnection, session: bytes) -> Ticket | None:
        punch = self._findPunch(session)
        if punch is None:
            return None
        transport: Any = connection.transport
        remote: Address = transport.getPeer()
        punch.accepted(connection, transport.getHost().port, remote)
        return punch.ticket

    def _settled(self, result: Any, addr: IAddress | None) -> None:
        self._strangers -= 1
        error = getattr(result, "value", None)
        if isinstance(error, PunchdError) and self._lines.take():
            _log.info(
                "a connection from {remote} is not for us: {error}",
                remote=showAddress(addr),
                error=error,
            )
