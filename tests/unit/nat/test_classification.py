"""
Tests for L{punchd.nat.classification} and L{punchd.nat.report}.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as some

from punchd.nat.classification import (
    MOST_STEP,
    DialledBack,
    Hop,
    Observations,
    Seen,
    classify,
    stepOf,
)
from punchd.nat.report import NatReport
from punchd.values.addresses import Address, makeAddress
from punchd.values.nat import Allocation, Filtering, Mapping, Unsolicited
from punchd.values.probes import Answer
from tests.unit.nat.pretending import ASSISTS, INSIDE, OUTSIDE

TOUCHED, OTHER = ASSISTS[0], ASSISTS[2]


def observed(*outsides: int, **more: Any) -> Observations:
    """
    What the server sees of ports 40000, 40001…, one after the other.
    """
    seen = tuple(
        Seen(port, 40000 + port, TOUCHED, makeAddress(OUTSIDE, outside))
        for port, outside in enumerate(outsides)
    )
    return Observations(frozenset([INSIDE]), makeAddress(OUTSIDE, 39999), seen=seen, **more)


USUAL = observed(40000, 40001, 40002, 40003, 40004)


def dialled(*answers: Answer, source: Address = TOUCHED, **more: Any) -> tuple[DialledBack, ...]:
    return tuple(
        DialledBack(TOUCHED, source.host, answer, answer is Answer.CONNECTED, **more)
        for answer in answers
    )


@given(
    some.integers(1, 16),
    some.sampled_from([1, -1]),
    some.lists(some.integers(1, 8), min_size=4, max_size=4),
    some.integers(10000, 50000),
)
def test_aCountingNatIsOneWhateverOthersTake(
    delta: int, direction: int, taken: list[int], first: int
) -> None:
    ports = [first]
    for count in [*taken, 1]:
        ports.append(ports[-1] + direction * delta * count)
    assert stepOf(ports) == direction * delta


@given(some.integers(1, 8), some.integers(1, 4))
def test_aCountingNatMayBeginAnew(delta: int, at: int) -> None:
    ports = [65000 + delta * number for number in range(at)]
    ports += [1024 + delta * number for number in range(6 - at)]
    assert stepOf(ports) == delta


@given(some.lists(some.integers(1024, 65535), min_size=5, max_size=5))
def test_aStepIsNeverALongOne(ports: list[int]) -> None:
    step = stepOf(ports)
    assert abs(step) <= MOST_STEP
    if step:
        near = [a for a, b in pairwise(ports) if abs(a - b) <= MOST_STEP]
        assert len(near) >= len(ports) - 2


def test_randomPortsAreNoSteps() -> None:
    assert stepOf([20000, 51234, 3000, 40000, 12]) == 0
    assert stepOf([]) == 0
    assert stepOf([1, 1, 1, 1]) == 0


def test_aPortThatWasTakenIsPreservedAllTheSame() -> None:
    report = classify(observed(40000, 1024, 40002, 40003, 40004), False)
    assert report.allocation is Allocation.PRESERVING


def test_twoPortsAreTooFewToTell() -> None:
    assert classify(observed(50000, 50001), False).allocation is None


def test_nothingSeenIsNothingKnown() -> None:
    report = classify(observed(), False)
    assert report.translated is None
    assert report.mapping is None
    assert report.preserving is None
    assert report.behaviour.kind == "?/?/?/?"


@pytest.mark.parametrize(
    ("same", "other", "filtering"),
    [
        ([Answer.CONNECTED, Answer.CONNECTED], [Answer.CONNECTED], Filtering.ENDPOINT_INDEPENDENT),
        ([Answer.CONNECTED, Answer.CONNECTED], [Answer.SILENCE], Filtering.ADDRESS_DEPENDENT),
        ([Answer.CONNECTED, Answer.CONNECTED], [], Filtering.ADDRESS_DEPENDENT),
        (
            [Answer.CONNECTED, Answer.CONNECTED],
            [Answer.UNREACHABLE],
            Filtering.ADDRESS_DEPENDENT,
        ),
        ([Answer.RESET, Answer.RESET], [Answer.RESET], Filtering.ADDRESS_AND_PORT_DEPENDENT),
        ([Answer.SILENCE, Answer.SILENCE], [], Filtering.ADDRESS_AND_PORT_DEPENDENT),
        ([Answer.UNREACHABLE, Answer.EXPIRED], [], None),
        ([], [Answer.CONNECTED], None),
    ],
)
def test_filteringIsWhoIsLetIn(
    same: list[Answer], other: list[Answer], filtering: Filtering | None
) -> None:
    both = dialled(*same) + dialled(*other, source=OTHER)
    report = classify(evolve(USUAL, dialled=both), True)
    assert report.filtering is filtering
    assert report.contradictions == ()


@pytest.mark.parametrize(
    ("other", "isGuessed"),
    [([], True), ([Answer.UNREACHABLE], True), ([Answer.SILENCE], False)],
)
def test_whoIsNotDialledFromASecondAddressIsGuessedAt(other: list[Answer], isGuessed: bool) -> None:
    both = dialled(Answer.CONNECTED) + dialled(*other, source=OTHER)
    seen = (*USUAL.seen, Seen(4, 40004, OTHER, makeAddress(OUTSIDE, 40004)))
    report = classify(evolve(USUAL, seen=seen, dialled=both), True)
    assert report.filtering is Filtering.ADDRESS_DEPENDENT
    assert report.fromOneAddress is isGuessed
    assert any("is let in" in text for text in report.unclear) is isGuessed


@pytest.mark.parametrize(
    ("answers", "unsolicited"),
    [
        ([Answer.SILENCE, Answer.SILENCE], Unsolicited.DROP),
        ([Answer.RESET, Answer.RESET], Unsolicited.RESET),
        ([Answer.ICMP, Answer.ICMP], Unsolicited.ICMP),
        # A limit of so many messages a second.
        ([Answer.ICMP, Answer.SILENCE], Unsolicited.ICMP),
        ([Answer.UNREACHABLE, Answer.RESET], Unsolicited.RESET),
        ([Answer.UNREACHABLE], None),
    ],
)
def test_unsolicitedIsWhatComesBack(answers: list[Answer], unsolicited: Unsolicited | None) -> None:
    report = classify(evolve(USUAL, dialled=dialled(*answers)), True)
    assert report.unsolicited is unsolicited
    assert report.contradictions == ()


def contradictory(**more: Any) -> NatReport:
    report = classify(evolve(USUAL, **more), True)
    assert len(report.contradictions) == 1
    assert "contradiction" in report.line()
    return report


def test_resetsAndMessagesContradictEachOther() -> None:
    assert contradictory(dialled=dialled(Answer.RESET, Answer.ICMP)).unsolicited is None


def test_whoIsLetInOnceAndThenNotContradictsItself() -> None:
    assert contradictory(dialled=dialled(Answer.CONNECTED, Answer.SILENCE)).filtering is None


def test_whoWasNeverDialledIsNotLetInAlone() -> None:
    both = dialled(Answer.SILENCE) + dialled(Answer.CONNECTED, source=OTHER)
    assert contradictory(dialled=both).filtering is None


def test_aConnectionThatNeverCameIsAContradiction() -> None:
    lie = DialledBack(TOUCHED, TOUCHED.host, Answer.CONNECTED, False)
    assert contradictory(dialled=(lie,)).filtering is None


def test_severalAddressesAreAContradiction() -> None:
    more = Seen(4, 40004, ASSISTS[1], makeAddress("198.51.100.8", 40004))
    report = contradictory(seen=(*USUAL.seen, more))
    assert (report.address, report.mapping) == (None, None)
    assert OUTSIDE in report.contradictions[0]
    assert "198.51.100.8" in report.contradictions[0]


def test_theMasterConnectionCountsToo() -> None:
    report = contradictory(observed=makeAddress("198.51.100.8", 1))
    assert report.address is None


def test_aServerThatIsTooNearIsAContradiction() -> None:
    contradictory(hops=(Hop(1, Answer.CONNECTED),))


@pytest.mark.parametrize(
    ("hops", "hasSecond"),
    [
        ([Hop(1, Answer.EXPIRED, "192.168.1.1"), Hop(2, Answer.EXPIRED, "100.64.0.1")], True),
        ([Hop(2, Answer.EXPIRED, "10.0.0.1"), Hop(1, Answer.SILENCE)], True),
        ([Hop(1, Answer.EXPIRED, "192.168.1.1"), Hop(2, Answer.EXPIRED, "203.0.113.9")], False),
        ([Hop(1, Answer.EXPIRED, "192.168.1.1"), Hop(2, Answer.CONNECTED)], False),
        ([Hop(1, Answer.EXPIRED, "192.168.1.1"), Hop(2, Answer.SILENCE)], None),
        ([Hop(3, Answer.EXPIRED, "172.16.0.1"), Hop(2, Answer.SILENCE)], True),
        ([], None),
    ],
)
def test_aSecondNatHasItsSigns(hops: list[Hop], hasSecond: bool | None) -> None:
    assert classify(evolve(USUAL, hops=tuple(hops)), True).doubleNat is hasSecond


def test_anAddressOfCarriersIsASign() -> None:
    inside = tuple(
        evolve(one, outside=makeAddress("100.64.1.1", one.outside.port)) for one in USUAL.seen
    )
    report = classify(evolve(USUAL, seen=inside, observed=makeAddress("100.64.1.1", 1)), True)
    assert report.doubleNat is True


def test_anAddressOfAPrivateNetworkSaysNothing() -> None:
    inside = tuple(
        evolve(one, outside=makeAddress("10.0.0.9", one.outside.port)) for one in USUAL.seen
    )
    report = classify(evolve(USUAL, seen=inside, observed=makeAddress("10.0.0.9", 1)), True)
    assert report.doubleNat is None


@pytest.mark.parametrize(
    ("before", "changed"), [(None, None), (OUTSIDE, False), ("198.51.100.9", True)]
)
def test_aChangeOfTheAddressIsSeen(before: str | None, changed: bool | None) -> None:
    report = classify(evolve(USUAL, before=before), True)
    assert report.changed is changed
    assert ("before as" in report.line()) is bool(changed)


ADDRESSES = some.builds(
    makeAddress, some.sampled_from([INSIDE, OUTSIDE, "198.51.100.8"]), some.integers(0, 65535)
)
ANY = some.builds(
    Observations,
    own=some.just(frozenset([INSIDE])),
    observed=ADDRESSES,
    seen=some.lists(
        some.builds(
            Seen,
            port=some.integers(0, 4),
            inside=some.integers(1, 65535),
            assist=some.sampled_from(list(ASSISTS.values())),
            outside=ADDRESSES,
        ),
        max_size=8,
    ).map(tuple),
    dialled=some.lists(
        some.builds(
            DialledBack,
            touched=some.just(TOUCHED),
            source=some.sampled_from([TOUCHED.host, OTHER.host]),
            answer=some.sampled_from(Answer),
            arrived=some.booleans(),
            listening=some.booleans(),
        ),
        max_size=4,
    ).map(tuple),
    hops=some.lists(
        some.builds(
            Hop,
            hops=some.integers(1, 4),
            answer=some.sampled_from(Answer),
            router=some.sampled_from([None, "10.0.0.1", "203.0.113.5"]),
        ),
        max_size=4,
    ).map(tuple),
    hairpin=some.sampled_from([None, True, False]),
    before=some.sampled_from([None, OUTSIDE]),
)


@given(ANY, some.booleans())
def test_anyObservationsMakeAReport(observations: Observations, isComplete: bool) -> None:
    report = classify(observations, isComplete)
    assert "\n" not in report.line()
    assert json.loads(json.dumps(report.toJSON())) == report.toJSON()
    hosts = {one.outside.host for one in observations.seen} | {observations.observed.host}
    assert (report.address is None) == (len(hosts) > 1)
    assert abs(report.behaviour.delta) <= MOST_STEP


def test_theLineNamesTheKind() -> None:
    report = NatReport(
        address=OUTSIDE,
        translated=True,
        mapping=Mapping.ENDPOINT_INDEPENDENT,
        filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        unsolicited=Unsolicited.DROP,
        allocation=Allocation.PRESERVING,
        hairpin=False,
        doubleNat=True,
        isComplete=True,
    )
    assert report.line() == (
        "port-restricted cone (EIM/APDF), keeps ports, drops what nobody asked for, does not "
        f"hairpin, behind a second NAT, seen as {OUTSIDE}"
    )


def test_theContractsKeysAreThere() -> None:
    report = classify(observed(20000, 20002, 20004, 20006, 20008), True)
    said = report.toJSON()
    assert said["allocation"] == "counting"
    assert said["delta"] == 2
    assert said["preserving"] is False
    contract = ("mapping", "filtering", "unsolicited", "hairpin", "address")
    assert all(key in said for key in contract)
