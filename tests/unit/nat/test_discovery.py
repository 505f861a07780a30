"""
Tests for L{punchd.nat.discovery}, with NATs that are functions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from punchd.errors import Unreachable
from punchd.nat.discovery import (
    PORTS,
    BeDialled,
    Discovery,
    PassOn,
    ReachOwn,
    Show,
    Surroundings,
    quickProbes,
    slowProbes,
)
from punchd.nat.report import NatReport
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Allocation, Filtering, Mapping, Unsolicited
from punchd.values.probes import Answer
from tests.unit.nat.pretending import (
    ASSISTS,
    INSIDE,
    OUTSIDE,
    ROUND_TRIP,
    SILENCE,
    PretendedInstruments,
    around,
)


class Running:
    """
    A discovery that is under way.
    """

    def __init__(self, surroundings: Surroundings | None = None, **nat: Any) -> None:
        self.clock = Clock()
        self.instruments = PretendedInstruments(self.clock, **nat)
        self.quick: list[NatReport] = []
        self.results: list[Any] = []
        discovery = Discovery(self.instruments, surroundings or around(), None, self.quick.append)
        self.running: Deferred[Any] = Deferred.fromCoroutine(discovery.run())
        self.running.addBoth(self.results.append)

    def finish(self) -> NatReport:
        for _ in range(100):
            self.clock.advance(0.05)
        [report] = self.results
        assert isinstance(report, NatReport), report
        assert self.instruments.isClosed
        assert self.clock.getDelayedCalls() == []
        return report


def outside(port: int) -> Address:
    return makeAddress(OUTSIDE, port)


def counting(step: int) -> Callable[[int, Address, int], Address]:
    return lambda inside, remote, number: outside(20000 + step * number)


def anyPort(inside: int, remote: Address, number: int) -> Address:
    return outside(random.Random(f"{inside} {remote} {number}").randrange(1024, 65536))


def byAddress(inside: int, remote: Address, number: int) -> Address:
    return outside(random.Random(f"{inside} {remote.host}").randrange(1024, 65536))


def shifted(inside: int, remote: Address, number: int) -> Address:
    return outside(inside ^ 0x1A5B)


def noNat(inside: int, remote: Address, number: int) -> Address:
    return makeAddress(INSIDE, inside)


def admitting(source: Address, touched: Address) -> Answer:
    return Answer.CONNECTED


def byHost(source: Address, touched: Address) -> Answer:
    return Answer.CONNECTED if source.host == touched.host else Answer.SILENCE


def resetting(source: Address, touched: Address) -> Answer:
    return Answer.RESET


EIM, ADM, APDM = Mapping
EIF, ADF, APDF = Filtering


@pytest.mark.parametrize(
    ("nat", "mapping", "filtering", "unsolicited", "allocation", "delta"),
    [
        ({}, EIM, APDF, Unsolicited.DROP, Allocation.PRESERVING, 0),
        ({"filtering": admitting}, EIM, EIF, None, Allocation.PRESERVING, 0),
        ({"filtering": byHost}, EIM, ADF, Unsolicited.DROP, Allocation.PRESERVING, 0),
        ({"filtering": resetting}, EIM, APDF, Unsolicited.RESET, Allocation.PRESERVING, 0),
        ({"mapping": shifted}, EIM, APDF, Unsolicited.DROP, Allocation.RANDOM, 0),
        ({"mapping": counting(1)}, APDM, APDF, Unsolicited.DROP, Allocation.COUNTING, 1),
        ({"mapping": counting(-2)}, APDM, APDF, Unsolicited.DROP, Allocation.COUNTING, -2),
        ({"mapping": byAddress}, ADM, APDF, Unsolicited.DROP, Allocation.RANDOM, 0),
        ({"mapping": anyPort}, APDM, APDF, Unsolicited.DROP, Allocation.RANDOM, 0),
    ],
)
def test_natsAreNamed(
    nat: dict[str, Any],
    mapping: Mapping,
    filtering: Filtering,
    unsolicited: Unsolicited | None,
    allocation: Allocation,
    delta: int,
) -> None:
    report = Running(**nat).finish()
    assert report.behaviour.mapping is mapping
    assert report.behaviour.filtering is filtering
    assert report.behaviour.unsolicited is unsolicited
    assert report.behaviour.allocation is allocation
    assert report.behaviour.delta == delta
    assert report.translated is True
    assert report.hairpin is False
    assert report.doubleNat is False
    assert report.address == OUTSIDE
    assert report.contradictions == ()
    assert not report.fromOneAddress


def test_noNatIsNone() -> None:
    surroundings = Surroundings(ASSISTS, frozenset([INSIDE]), makeAddress(INSIDE, 40000))
    report = Running(surroundings, mapping=noNat, filtering=admitting).finish()
    assert report.translated is False
    assert report.type == "no NAT"
    # At a port where nobody listens, the host itself resets.
    assert report.unsolicited is Unsolicited.RESET
    assert report.hairpin is None


def test_aFirewallIsNoNat() -> None:
    surroundings = Surroundings(ASSISTS, frozenset([INSIDE]), makeAddress(INSIDE, 40000))
    report = Running(surroundings, mapping=noNat).finish()
    assert report.type == "no NAT, but a firewall"
    assert report.unsolicited is Unsolicited.DROP


def test_aHairpinIsSeen() -> None:
    assert Running(hairpins=True).finish().hairpin is True


def test_theQuickPartIsThereAfterThreeRoundTrips() -> None:
    running = Running(mapping=counting(1))
    running.clock.advance(ROUND_TRIP)
    running.clock.advance(2 * ROUND_TRIP)
    [report] = running.quick
    assert report.mapping is APDM
    assert report.allocation is Allocation.COUNTING
    assert report.filtering is None
    assert not report.isComplete
    running.finish()


def test_allOfItTakesSixRoundTripsAndTheSilence() -> None:
    running = Running()
    running.clock.advance(ROUND_TRIP)
    running.clock.advance(2 * ROUND_TRIP)
    running.clock.advance(3 * ROUND_TRIP + SILENCE)
    assert len(running.results) == 1


def test_portsAreShownOneAfterTheOther() -> None:
    running = Running()
    running.finish()
    shows = [arguments for _, what, arguments in running.instruments.done if what == "show"]
    assert shows == [*((port, 0) for port in range(PORTS)), (PORTS - 1, 1), (PORTS - 1, 2)]
    assert len({when for when, what, _ in running.instruments.done if what == "show"}) == 1


def test_oneAddressIsNotEnoughForEverything() -> None:
    here = {0: ASSISTS[0], 1: ASSISTS[1]}
    running = Running(around(here), mapping=byAddress, filtering=byHost, assists=here)
    report = running.finish()
    assert report.fromOneAddress
    assert (report.mapping, report.filtering) == (EIM, ADF)
    assert sum("second address" in text for text in report.unclear) == 2


def test_oneServiceTellsNoMapping() -> None:
    here = {3: ASSISTS[0]}
    report = Running(around(here), assists=here).finish()
    assert report.mapping is None
    assert report.allocation is Allocation.PRESERVING
    assert report.filtering is APDF


def test_oneServiceOnEachAddressTellsThatItIsSymmetric() -> None:
    here = {0: ASSISTS[0], 1: ASSISTS[2]}
    report = Running(around(here), mapping=byAddress, assists=here).finish()
    assert report.mapping is APDM
    assert any("one of its addresses" in text for text in report.unclear)


def test_twoServicesOnTheSecondAddressTellAll() -> None:
    here = {0: ASSISTS[0], 1: ASSISTS[2], 2: makeAddress(ASSISTS[2].host, 7763)}
    assert Running(around(here), mapping=byAddress, assists=here).finish().mapping is ADM
    assert Running(around(here), mapping=anyPort, assists=here).finish().mapping is APDM
    assert Running(around(here), assists=here).finish().mapping is EIM


def test_aServerWithoutAssistServicesTellsNothing() -> None:
    running = Running(around({}))
    assert running.results[0].check(Unreachable) is not None
    assert running.instruments.isClosed


@pytest.mark.parametrize("broken", ["beDialled", "reachOwn", "passOn"])
def test_whatFailsIsNotKnown(broken: str) -> None:
    report = Running(broken=frozenset([broken])).finish()
    assert report.mapping is EIM
    unknown = {
        "beDialled": report.filtering,
        "reachOwn": report.hairpin,
        "passOn": report.doubleNat,
    }
    assert [what for what, found in unknown.items() if found is None] == [broken]
    assert f"not all could be probed: {broken} does not work" in report.unclear


@pytest.mark.parametrize("broken", ["prepare", "show"])
def test_withoutTheFirstThereIsNoReport(broken: str) -> None:
    running = Running(broken=frozenset([broken]))
    for _ in range(10):
        running.clock.advance(1)
    assert running.results[0].check(Unreachable) is not None
    assert running.instruments.isClosed


@pytest.mark.parametrize("seconds", [0.0, ROUND_TRIP, 3 * ROUND_TRIP, 4 * ROUND_TRIP])
def test_itCanBeCancelledAtAnyTime(seconds: float) -> None:
    running = Running()
    while running.clock.seconds() < seconds - 0.01:
        running.clock.advance(ROUND_TRIP)
    running.running.cancel()
    assert running.results[0].check(CancelledError) is not None
    assert running.instruments.isClosed
    assert running.clock.getDelayedCalls() == []


def test_aServerThatLiesContradictsItself() -> None:
    report = Running(filtering=admitting, lies=True).finish()
    assert report.filtering is None
    assert any("nothing came here" in text for text in report.contradictions)


def test_planIsPure() -> None:
    assert quickProbes(ASSISTS) == quickProbes(dict(ASSISTS))
    assert quickProbes({}) == ()
    assert quickProbes({4: ASSISTS[0]}) == tuple(Show(port, 4) for port in range(PORTS))


def test_onlyWhoIsTranslatedLooksForHairpinsAndRouters() -> None:
    kinds = {type(probe) for probe in slowProbes(ASSISTS, NatReport(translated=True))}
    assert kinds == {BeDialled, ReachOwn, PassOn}
    probes = slowProbes(ASSISTS, NatReport(translated=False))
    assert {type(probe) for probe in probes} == {BeDialled}
    assert [probe for probe in probes if isinstance(probe, BeDialled) and not probe.listening]
