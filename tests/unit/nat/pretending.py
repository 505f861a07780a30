"""
NATs that exist only as functions, for the tests of what finds out about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from punchd.errors import Unreachable
from punchd.nat.discovery import Surroundings
from punchd.values.addresses import Address, makeAddress
from punchd.values.probes import Answer, Finding

INSIDE = "192.168.1.10"
OUTSIDE = "198.51.100.7"

#: Two ports of one address of the server, and one of another.
ASSISTS = {
    0: makeAddress("203.0.113.1", 7762),
    1: makeAddress("203.0.113.1", 7763),
    2: makeAddress("203.0.113.2", 7762),
}

#: Seconds to the server and back.
ROUND_TRIP = 0.1

#: Seconds after which silence is taken for it.
SILENCE = 2.0


def around(assists: dict[int, Address] | None = None) -> Surroundings:
    return Surroundings(
        ASSISTS if assists is None else assists,
        frozenset([INSIDE]),
        makeAddress(OUTSIDE, 40000),
    )


def portRestricted(inside: int, remote: Address, number: int) -> Address:
    """
    The mapping of the usual NAT.

    @param number: how many were made before.
    """
    return makeAddress(OUTSIDE, inside)


def dropping(source: Address, touched: Address) -> Answer:
    """
    The filtering of the usual NAT.
    """
    return Answer.SILENCE


@define(eq=False)
class PretendedInstruments:
    """
    A NAT, a server and what lies between, in a clock's time.

    @ivar mapping: makes an outside address.
    @ivar filtering: what comes back for a SYN from that address, to a port that touched another.
    @ivar broken: probes that fail, by the method's name.
    @ivar done: what was asked, and when.
    """

    clock: Clock
    mapping: Callable[[int, Address, int], Address] = portRestricted
    filtering: Callable[[Address, Address], Answer] = dropping
    hairpins: bool = False
    routers: Sequence[str] = (INSIDE[:-2] + "1", "198.51.100.1")
    broken: frozenset[str] = frozenset()
    lies: bool = False
    assists: dict[int, Address] = field(factory=lambda: dict(ASSISTS))
    done: list[tuple[float, str, tuple[Any, ...]]] = field(factory=list)
    inside: list[int] = field(factory=list)
    isClosed: bool = False
    _mappings: int = 0

    def _after(self, seconds: float, what: str, *arguments: Any) -> Deferred[Any]:
        self.done.append((self.clock.seconds(), what, arguments))
        waited: Deferred[Any] = deferLater(self.clock, seconds)

        def breaks(result: Any) -> Any:
            if what in self.broken:
                raise Unreachable(f"{what} does not work")
            return result

        return waited.addCallback(breaks)

    async def prepare(self, ports: int, shows: int) -> Sequence[int]:
        await self._after(ROUND_TRIP, "prepare", ports, shows)
        self.inside = [41000 + 977 * port for port in range(ports)]
        return self.inside

    def show(self, port: int, assist: int) -> Deferred[Address]:
        remote = self.assists[assist]
        outside = self.mapping(self.inside[port], remote, self._mappings)
        self._mappings += 1
        return self._after(2 * ROUND_TRIP, "show", port, assist).addCallback(lambda _: outside)

    def beDialled(self, port: int, source: int, listening: bool) -> Deferred[tuple[Answer, bool]]:
        host = makeAddress(self.assists[source].host, 50000)
        answer = self.filtering(host, self.assists[next(iter(self.assists))])
        if answer is Answer.CONNECTED and not listening:
            answer = Answer.RESET
        wait = SILENCE if answer is Answer.SILENCE else ROUND_TRIP
        arrived = answer is Answer.CONNECTED and not self.lies
        return self._after(ROUND_TRIP + wait, "beDialled", port, source, listening).addCallback(
            lambda _: (answer, arrived)
        )

    def reachOwn(self, one: int, other: int) -> Deferred[bool]:
        wait = ROUND_TRIP if self.hairpins else SILENCE
        return self._after(wait, "reachOwn", one, other).addCallback(lambda _: self.hairpins)

    def passOn(self, hops: int) -> Deferred[Finding]:
        found = Finding(Answer.CONNECTED)
        if hops <= len(self.routers):
            found = Finding(Answer.EXPIRED, router=self.routers[hops - 1])
        return self._after(ROUND_TRIP, "passOn", hops).addCallback(lambda _: found)

    async def close(self) -> None:
        self.isClosed = True
