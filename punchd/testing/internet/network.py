"""
The public part of the in-memory internet: how long packets take, which are lost; and its time.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol as Typing

from attrs import define, field
from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

from punchd.testing.internet.segments import Packet

#: Things that may happen in one and the same moment, before somebody must be running in circles.
MOST_AT_ONCE = 100_000


class VirtualClock(Clock):
    """
    A clock that goes from one event to the next, without waiting.
    """

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> DelayedCall:
        """
        As C{IReactorTime} has it; quicker than Twisted's when thousands are waiting.
        """
        due = self.rightNow + delay
        call = DelayedCall(due, callable, args, kwargs, _stay, self._moved, self.seconds)
        insort(self.calls, call, key=DelayedCall.getTime)
        return call

    def _moved(self, call: DelayedCall) -> None:
        self.calls.sort(key=DelayedCall.getTime)

    def getDelayedCalls(self) -> Sequence[DelayedCall]:
        """
        As C{IReactorTime} has it.
        """
        return [call for call in self.calls if call.active()]

    def advance(self, amount: float) -> None:
        """
        Let time go on by C{amount}.
        """
        self.run(limit=amount)

    def run(self, isDone: Callable[[], bool] = lambda: False, limit: float = 60.0) -> bool:
        """
        Let things happen until C{isDone}, or nothing is left to happen, or C{limit} seconds later.

        @return: whether it is done.
        @raise RuntimeError: when time does not go on.
        """
        until, atOnce = self.rightNow + limit, 0
        while not isDone():
            if not self.calls or self.calls[0].getTime() > until:
                self.rightNow = until
                return isDone()
            call = self.calls.pop(0)
            if not call.active():
                continue
            atOnce = atOnce + 1 if call.getTime() <= self.rightNow else 0
            if atOnce > MOST_AT_ONCE:
                raise RuntimeError(f"there is no end of what happens at {self.rightNow:.6f} s")
            self.rightNow = max(self.rightNow, call.getTime())
            call.called = 1
            call.func(*call.args, **call.kw)
        return True


def _stay(call: DelayedCall) -> None:
    """
    What was cancelled is left where it is, and passed over when its time has come: to look for it
    among thousands takes longer.
    """


class Gate(Typing):
    """
    Where a site is connected: a public host, or a router.
    """

    def inward(self, packet: Packet) -> None:
        """A packet that is addressed to the site."""


@define(eq=False)
class Site:
    """
    A place with one line to the public network.

    @ivar delay: its share of the one-way time to any other site, in seconds.
    @ivar gate: what is at its end of the line.
    """

    delay: float
    gate: Gate
    isCut: bool = False


@define(eq=False)
class Network:
    """
    Connects sites by their public addresses.

    @ivar jitter: seconds by which a packet may be late, at random; packets between the same two
        addresses keep their order.
    @ivar loss: the share of packets that are lost.
    @ivar watch: sees each packet that enters it.
    @ivar strays: packets for addresses that nobody has, such as private ones.
    """

    clock: VirtualClock
    random: Random
    jitter: float = 0.0
    loss: float = 0.0
    watch: Callable[[Packet], None] = lambda packet: None
    strays: list[Packet] = field(factory=list, init=False)
    _apart: set[frozenset[Site]] = field(factory=set, init=False)
    _sites: dict[str, Site] = field(factory=dict, init=False)
    _latest: dict[tuple[str, str], float] = field(factory=dict, init=False)

    def connect(self, host: str, site: Site) -> None:
        """
        C{host} is a public address at C{site}.
        """
        self._sites[host] = site

    def siteOf(self, host: str) -> Site:
        """
        Where that address is.
        """
        return self._sites[host]

    def keepApart(self, one: Site, other: Site) -> None:
        """
        Lose whatever these two send each other.
        """
        self._apart.add(frozenset((one, other)))

    def outward(self, packet: Packet) -> None:
        """
        Carry a packet from one site to another.
        """
        self.watch(packet)
        source = self._sites.get(packet.source.host)
        destination = self._sites.get(packet.destination.host)
        if source is None or destination is None:
            # Nobody routes private addresses, and nobody would find the way back to one.
            self.strays.append(packet)
            return
        isLost = self.random.random() < self.loss or {source, destination} in self._apart
        if source.isCut or destination.isCut or isLost:
            return
        way = (packet.source.host, packet.destination.host)
        due = self.clock.seconds() + source.delay + destination.delay
        if self.jitter:
            due += self.random.uniform(0, self.jitter)
            due = self._latest[way] = max(due, self._latest.get(way, 0.0))
        self.clock.callLater(due - self.clock.seconds(), self._arrive, destination, packet)

    @staticmethod
    def _arrive(destination: Site, packet: Packet) -> None:
        if not destination.isCut:
            destination.gate.inward(packet)
