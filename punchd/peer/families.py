"""
The addresses that a peer has beside the one that its connection to the server comes from: those of
other interfaces, and one of IPv6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from punchd.errors import PunchdError
from punchd.net.held import HeldPort
from punchd.peer.ports import FreshPorts, inBackground
from punchd.values.addresses import Address, isGlobalIPv6, makeAddress, showAddress
from punchd.values.parties import isShareableHost
from punchd.wire.commands import MOST_HOSTS

_log = Logger()

#: How often a peer looks whether its IPv6 address is still the one that it has offered: privacy
#: addresses (RFC 8981) and new prefixes come without notice.
GLANCE = 10.0

#: Seconds for a fresh port: an introduction waits for it, and IPv4 may do without.
FRESH_PATIENCE = 1.0

#: Seconds until the assist service is tried again from an address from which it did not answer.
PATIENCE = 300.0


def hostCandidates(first: str, others: Iterable[str]) -> tuple[str, ...]:
    """
    The hosts that a peer offers as its own: the one that its connection to the server comes from,
    then those of its other interfaces that mean something to a neighbour.

    @param others: of IPv4, all that it has.
    """
    hosts = [first]
    if isinstance(makeAddress(first, 0), IPv4Address):
        hosts += [host for host in others if isShareableHost(makeAddress(host, 1))]
    return tuple(dict.fromkeys(hosts))[:MOST_HOSTS]


@define(eq=False)
class IPv6Candidate:
    """
    The port at a global IPv6 address that a peer's offer names, and fresh ones like it. Made for
    each L{MasterClient<punchd.peer.master.MasterClient>}; L{begin} and L{end} come with its
    connections, as the server knows a port only as long as the connection lives by which the token
    came.

    The server hears of a port as it hears of any other: its assist service is touched from it. So
    nothing is believed that a peer merely says.

    @ivar port: C{None} while there is none: no address, or no assist service that can be reached.
    @ivar _assist: where the server has an assist service for IPv6.
    @ivar _source: see L{punchd.net.own.sourceToward}.
    @ivar _changed: to be called when there is another port than before.
    """

    _clock: IReactorTime
    _ports: FreshPorts
    _assist: Callable[[], Address | None]
    _source: Callable[[Address], str | None]
    _changed: Callable[[], None]
    port: HeldPort | None = field(default=None, init=False)
    _connection: object | None = field(default=None, init=False)
    _glance: IDelayedCall | None = field(default=None, init=False)
    _failed: tuple[str, float] | None = field(default=None, init=False)

    @property
    def token(self) -> bytes | None:
        """
        What the server knows the port by.
        """
        return None if self.port is None else self.port.token

    def begin(self) -> None:
        """
        There is a new connection to the server.
        """
        self.end()
        self._connection = object()
        self._look(self._connection)

    def end(self) -> None:
        """
        The connection has ended.
        """
        self._connection = self._failed = None
        if self._glance is not None and self._glance.active():
            self._glance.cancel()
        self._letGo()

    def fresh(self) -> Deferred[HeldPort | None]:
        """
        Another port, which the server has just observed; to be released. C{None} if there is none
        to be had; it never fails, but for being cancelled.
        """
        taking = Deferred.fromCoroutine(self._fresh())
        return taking.addTimeout(FRESH_PATIENCE, self._clock, lambda result, timeout: None)

    async def _fresh(self) -> HeldPort | None:
        # Without the one there are no others.
        assist = self._assist() if self.port is not None else None
        if self.port is None or assist is None:
            return None
        try:
            return await self._take(assist, self.port.interface)
        except PunchdError as error:
            _log.debug("no fresh IPv6 port: {error}", error=error)
            return None

    def _look(self, connection: object) -> None:
        self._glance = self._clock.callLater(GLANCE, self._look, connection)
        inBackground(self._renew(connection))

    async def _renew(self, connection: object) -> None:
        assist = self._assist()
        source = None if assist is None else self._source(assist)
        if assist is None or source is None or not isGlobalIPv6(makeAddress(source, 1)):
            if self.port is not None:
                self._letGo()
                self._changed()
            return
        now = self._clock.seconds()
        if self.port is not None and self.port.interface == source:
            return
        if self._failed is not None and self._failed[0] == source and now < self._failed[1]:
            return
        self._failed = (source, now + PATIENCE)
        port = await self._take(assist, source)
        if self._connection is not connection or port is None:
            if port is not None:
                self._ports.release(port)
            return
        self._failed = None
        self._letGo()
        self.port = port
        _log.debug("IPv6 candidate {address}", address=showAddress(port.observed))
        self._changed()

    async def _take(self, assist: Address, source: str) -> HeldPort | None:
        port = await self._ports.take(assist, source)
        if port.observed is None or not isGlobalIPv6(port.observed):
            self._ports.release(port)
            return None
        return port

    def _letGo(self) -> None:
        port, self.port = self.port, None
        if port is not None:
            self._ports.release(port)
