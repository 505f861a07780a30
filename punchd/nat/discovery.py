"""
Finding out what stands between this host and the public network: as RFC 5780 does it, but over TCP.

What is to be probed is decided by two pure functions, L{quickProbes} and L{slowProbes}; a
L{Instruments} does it; L{classify<punchd.nat.classification.classify>} says what it means. The
quick ones take two round trips and tell what an offer needs most; the slow ones wait for silence.
The probes of either part run at the same time, as none disturbs another: each has ports of its own,
and none of them is the port that the peer is called at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from typing import Protocol as Typing

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredList

from punchd.errors import PunchdError, Unreachable
from punchd.nat.classification import DialledBack, Hop, Observations, Seen, classify
from punchd.nat.report import NatReport
from punchd.values.addresses import Address
from punchd.values.probes import Answer, Finding

#: Ports that are touched. The first is dialled back and the last shown to several services; of
#: those between, which tell how ports are allocated, two are for the hairpin and one is dialled
#: back where nobody listens.
PORTS = 5
_DIALLED, _HAIRPIN, _OTHER, _CLOSED, _SHOWN = range(PORTS)

#: How many routers away the signs of a second NAT are looked for.
MOST_HOPS = 4


@frozen
class Show:
    """
    Let an assist service see a port.

    @ivar assist: the service's place among the server's.
    """

    port: int
    assist: int


@frozen
class BeDialled:
    """
    Let the server dial a port, from the host of the assist service at that place.
    """

    port: int
    source: int
    listening: bool = True


@frozen
class ReachOwn:
    """
    Let two ports dial each other where they are seen.
    """

    one: int
    other: int


@frozen
class PassOn:
    """
    Let only so many routers pass a SYN on to the server.
    """

    hops: int


@frozen
class Surroundings:
    """
    What is known before anything is probed.

    @ivar assists: the assist services that can be used, by their places among the server's.
    @ivar own: the addresses of this host.
    @ivar observed: how the server sees the master connection.
    """

    assists: dict[int, Address]
    own: frozenset[str]
    observed: Address


def quickProbes(assists: dict[int, Address]) -> tuple[Show, ...]:
    """
    Which ports to show to whom, in this order: all to one service, then the last one to others.
    """
    places = list(assists)
    if not places:
        return ()
    same, others = _bySide(assists)
    # Two of one address somewhere, to tell addresses from ports.
    shown = (*same[:1], *others[: 1 if same else 2])
    return (
        *(Show(port, places[0]) for port in range(PORTS)),
        *(Show(_SHOWN, place) for place in shown),
    )


def _bySide(assists: dict[int, Address]) -> tuple[list[int], list[int]]:
    """
    The assist services beside the first one: those of its address, and those of another one.
    """
    first, *more = assists
    host = assists[first].host
    same = [place for place in more if assists[place].host == host]
    others = [place for place in more if assists[place].host != host]
    beside = assists[others[0]].host if others else ""
    return same, [place for place in others if assists[place].host == beside]


def slowProbes(
    assists: dict[int, Address], report: NatReport
) -> tuple[BeDialled | ReachOwn | PassOn, ...]:
    """
    What to look at when the quick ones are known.
    """
    places = list(assists)
    same, others = _bySide(assists)
    # Twice from the one address, so that chance shows.
    sources = (places[0], *(same[:1] or places[:1]), *others[:1])
    probes: list[BeDialled | ReachOwn | PassOn] = [
        BeDialled(_DIALLED, source) for source in sources
    ]
    if report.translated:
        probes.append(ReachOwn(_HAIRPIN, _OTHER))
        probes.extend(PassOn(hops) for hops in range(1, MOST_HOPS + 1))
    else:
        # Who lets everything in resets by itself where nobody listens.
        probes.append(BeDialled(_CLOSED, places[0], listening=False))
    return tuple(probes)


class Instruments(Typing):
    """
    What a discovery does to the world. Each wait has an end, and what is cancelled leaves nothing.
    """

    async def prepare(self, ports: int, shows: int) -> Sequence[int]:
        """
        Take that many fresh ports, and get ready to show them so often.

        @return: their numbers on this host.
        """

    def show(self, port: int, assist: int) -> Deferred[Address]:
        """
        Let an assist service see a port, and begin with that at once. The connection stays open.

        @param port: counted from 0.
        """

    def beDialled(self, port: int, source: int, listening: bool) -> Deferred[tuple[Answer, bool]]:
        """
        Let the server dial a port that was shown to the first service.

        @return: what came back, and whether a connection came in from there.
        """

    def reachOwn(self, one: int, other: int) -> Deferred[bool]:
        """
        Let two ports dial each other where they are seen.

        @return: whether they have met.
        """

    def passOn(self, hops: int) -> Deferred[Finding]:
        """
        Send the first service a SYN that only so many routers may pass on.
        """

    async def close(self) -> None:
        """
        Let go of the ports, and of all connections.
        """


@define(eq=False)
class Discovery:
    """
    One discovery, from its first probe to its last.

    @ivar found: gets the report when the quick part is known; the whole one is L{run}'s result.
    """

    _instruments: Instruments
    _surroundings: Surroundings
    _before: str | None
    found: Callable[[NatReport], None]
    _observations: Observations = field(init=False)

    def __attrs_post_init__(self) -> None:
        around = self._surroundings
        self._observations = Observations(around.own, around.observed, before=self._before)

    async def run(self) -> NatReport:
        """
        Find out.

        @raise PunchdError: when the server, or all of its assist services, are not to be had.
        """
        try:
            return await self._run()
        finally:
            await self._instruments.close()

    async def _run(self) -> NatReport:
        assists = self._surroundings.assists
        shows = quickProbes(assists)
        if not shows:
            raise Unreachable("the server has no assist service that this host can use")
        inside = await self._instruments.prepare(PORTS, len(shows))
        problems = await self._together([self._show(probe, inside) for probe in shows])
        if not self._observations.seen:
            raise problems[0]
        report = classify(self._observations, isComplete=False)
        self.found(report)
        slow = slowProbes(assists, report)
        problems = await self._together([self._begin(probe) for probe in slow])
        report = classify(self._observations, isComplete=True)
        whyNot = dict.fromkeys(f"not all could be probed: {problem}" for problem in problems)
        return evolve(report, unclear=(*report.unclear, *whyNot))

    async def _together(self, probes: Sequence[Deferred[Any]]) -> list[PunchdError]:
        """
        Wait for all of them; what a probe could not find out is missing then.

        @return: why not.
        """
        problems = []
        for isDone, result in await DeferredList(probes, consumeErrors=True):
            if isDone:
                continue
            if not isinstance(result.value, PunchdError):
                result.raiseException()
            problems.append(result.value)
        return problems

    def _show(self, probe: Show, inside: Sequence[int]) -> Deferred[None]:
        assist = self._surroundings.assists[probe.assist]
        shown = self._instruments.show(probe.port, probe.assist)

        def seen(outside: Address) -> None:
            one = Seen(probe.port, inside[probe.port], assist, outside)
            # Sorted as planned, whatever comes first.
            self._note(seen=tuple(sorted((*self._observations.seen, one), key=self._order)))

        return shown.addCallback(seen)

    def _order(self, one: Seen) -> tuple[int, int]:
        return one.port, list(self._surroundings.assists.values()).index(one.assist)

    def _begin(self, probe: BeDialled | ReachOwn | PassOn) -> Deferred[None]:
        if isinstance(probe, ReachOwn):
            reaching = self._instruments.reachOwn(probe.one, probe.other)
            return reaching.addCallback(lambda isMet: self._note(hairpin=isMet))
        if isinstance(probe, PassOn):
            return self._instruments.passOn(probe.hops).addCallback(partial(self._passed, probe))
        dialled = self._instruments.beDialled(probe.port, probe.source, probe.listening)
        return dialled.addCallback(partial(self._dialled, probe))

    def _passed(self, probe: PassOn, finding: Finding) -> None:
        hop = Hop(probe.hops, finding.answer, finding.router)
        self._note(hops=(*self._observations.hops, hop))

    def _dialled(self, probe: BeDialled, came: tuple[Answer, bool]) -> None:
        assists = self._surroundings.assists
        one = DialledBack(
            next(iter(assists.values())), assists[probe.source].host, *came, probe.listening
        )
        self._note(dialled=(*self._observations.dialled, one))

    def _note(self, **more: Any) -> None:
        self._observations = evolve(self._observations, **more)
