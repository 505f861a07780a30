"""
From what was seen to what it means: pure, and the only place that knows.

Each conclusion rests on observations that say so. Where they contradict one another, there is no
conclusion, and the report has the contradiction instead of an average.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from itertools import pairwise
from math import gcd

from attrs import frozen

from punchd.nat.report import NatReport
from punchd.values.addresses import Address, Scope, makeAddress, scopeOf, showAddress
from punchd.values.nat import Allocation, Filtering, Mapping, Unsolicited
from punchd.values.probes import Answer

#: The farthest that a counting NAT steps, with the steps that others take in between. A NAT that
#: chooses at random out of some ten thousand ports stays below that four times in a row about once
#: in a hundred million discoveries.
MOST_STEP = 256

# Of carrier NATs alone (RFC 6598).
_CARRIER = ip_network("100.64.0.0/10")

_REFUSALS = {
    Answer.SILENCE: Unsolicited.DROP,
    Answer.RESET: Unsolicited.RESET,
    Answer.ICMP: Unsolicited.ICMP,
}

#: What completes a report that was made from one address of the server.
ANOTHER_ADDRESS = "to tell, the server needs an --assist on a second address"


@frozen
class Seen:
    """
    An assist service has seen a port.

    @ivar port: which of the ports, as a number that each has; they are touched in this order.
    @ivar inside: its number on this host.
    @ivar assist: the service that was asked.
    @ivar outside: what it has seen.
    """

    port: int
    inside: int
    assist: Address
    outside: Address


@frozen
class DialledBack:
    """
    The server has dialled a port from another one than that which the port had dialled.

    @ivar touched: the assist service that the port had dialled, and nobody else.
    @ivar source: the host that the server has dialled from.
    @ivar answer: what the server says came back.
    @ivar arrived: whether a connection came in from that host.
    @ivar listening: whether anybody listened for one.
    """

    touched: Address
    source: str
    answer: Answer
    arrived: bool
    listening: bool = True


@frozen
class Hop:
    """
    What came back for a SYN to the server that only so many routers could pass on.
    """

    hops: int
    answer: Answer
    router: str | None = None


@frozen
class Observations:
    """
    All that a discovery has seen.

    @ivar own: the addresses of this host.
    @ivar observed: how the server sees the master connection.
    @ivar hairpin: whether one port reached another at its address on the outside; C{None} if that
        was not tried.
    @ivar before: the address at the discovery before.
    """

    own: frozenset[str]
    observed: Address
    seen: tuple[Seen, ...] = ()
    dialled: tuple[DialledBack, ...] = ()
    hops: tuple[Hop, ...] = ()
    hairpin: bool | None = None
    before: str | None = None


def classify(observations: Observations, isComplete: bool) -> NatReport:
    """
    What the observations say.

    @param isComplete: whether there will be no more of them.
    """
    seen = observations.seen
    contradictions: list[str] = []
    unclear: list[str] = []
    address = _address(observations, contradictions)
    translated = _isTranslated(observations)
    mapping = _mapping(seen, unclear)
    filtering = _filtering(observations.dialled, contradictions)
    unsolicited = _unsolicited(observations.dialled, contradictions)
    fromOneAddress = len({one.assist.host for one in seen}) == 1
    if fromOneAddress and mapping is Mapping.ENDPOINT_INDEPENDENT:
        unclear.append(f"whether another address is shown another port: {ANOTHER_ADDRESS}")
    if isComplete:
        if filtering is Filtering.ADDRESS_DEPENDENT and not _others(observations.dialled):
            fromOneAddress = True
            unclear.append(f"whether another address is let in, too: {ANOTHER_ADDRESS}")
        if unsolicited is None and filtering is not None:
            unclear.append("what answers those that are not let in: everybody was")
    allocation, delta = _allocation(seen)
    _lookForProxy(observations, translated, contradictions)
    return NatReport(
        address=address,
        translated=translated,
        mapping=mapping,
        filtering=filtering,
        unsolicited=unsolicited,
        allocation=allocation,
        delta=delta,
        hairpin=observations.hairpin,
        doubleNat=_hasSecond(observations, translated, address),
        routers=tuple(dict.fromkeys(hop.router for hop in _byDistance(observations) if hop.router)),
        before=observations.before,
        fromOneAddress=fromOneAddress,
        unclear=tuple(unclear),
        contradictions=tuple(contradictions),
        isComplete=isComplete,
    )


def _address(observations: Observations, contradictions: list[str]) -> str | None:
    """
    The host on the outside, if there is one.
    """
    version = ip_address(observations.observed.host).version
    hosts = {one.outside.host for one in observations.seen}
    if all(ip_address(host).version == version for host in hosts):
        hosts.add(observations.observed.host)
    if len(hosts) > 1:
        contradictions.append(
            f"the server sees this host under several addresses: {', '.join(sorted(hosts))}"
        )
        return None
    return hosts.pop()


def _isTranslated(observations: Observations) -> bool | None:
    if not observations.seen:
        return None
    return not all(
        one.outside.host in observations.own and one.outside.port == one.inside
        for one in observations.seen
    )


def _mapping(seen: Sequence[Seen], unclear: list[str]) -> Mapping | None:
    """
    From the one port that was shown to several assist services.
    """
    ports = {one.port for one in seen}
    shown = max((_ofPort(seen, port) for port in sorted(ports)), key=len, default=[])
    if len({one.outside.host for one in shown}) > 1:
        return None
    if len(shown) < 2:
        unclear.append(
            "the mapping: to tell, two assist services must answer (the server has --assist)"
        )
        return None
    byHost: dict[str, list[Address]] = {}
    for one in shown:
        byHost.setdefault(one.assist.host, []).append(one.outside)
    if any(len(set(outsides)) > 1 for outsides in byHost.values()):
        return Mapping.ADDRESS_AND_PORT_DEPENDENT
    if len({one.outside for one in shown}) == 1:
        return Mapping.ENDPOINT_INDEPENDENT
    if any(len(outsides) > 1 for outsides in byHost.values()):
        return Mapping.ADDRESS_DEPENDENT
    unclear.append(
        "whether another port of one address is shown another port: to tell, the server needs two "
        "assist services on one of its addresses"
    )
    return Mapping.ADDRESS_AND_PORT_DEPENDENT


def _ofPort(seen: Iterable[Seen], port: int) -> list[Seen]:
    return [one for one in seen if one.port == port]


def _allocation(seen: Sequence[Seen]) -> tuple[Allocation | None, int]:
    """
    From ports that were shown to the first assist service one after the other.
    """
    if not seen:
        return None, 0
    first = seen[0].assist
    shown = sorted((one for one in seen if one.assist == first), key=lambda one: one.port)
    if len(shown) < 3:
        return None, 0
    # A port that somebody else has already cannot be preserved.
    preserved = sum(one.inside == one.outside.port for one in shown)
    if preserved >= len(shown) - 1:
        return Allocation.PRESERVING, 0
    delta = stepOf([one.outside.port for one in shown])
    return (Allocation.COUNTING, delta) if delta else (Allocation.RANDOM, 0)


def stepOf(ports: Sequence[int]) -> int:
    """
    The step of a NAT that has given out C{ports} in this order, perhaps with some to others in
    between; 0 if it does not count. It may begin anew at some time.
    """
    steps = [after - before for before, after in pairwise(ports)]
    for direction in (1, -1):
        small = [step for step in steps if 0 < step * direction <= MOST_STEP]
        if len(small) >= 2 and len(small) >= len(steps) - 1:
            return direction * gcd(*small)
    return 0


def _others(dialled: Iterable[DialledBack]) -> list[DialledBack]:
    """
    Those from another address than the one that was touched, as far as they tell anything.
    """
    return [
        one
        for one in dialled
        if one.listening
        and one.source != one.touched.host
        and (one.answer is Answer.CONNECTED or one.answer in _REFUSALS)
    ]


def _filtering(dialled: Iterable[DialledBack], contradictions: list[str]) -> Filtering | None:
    same = _letIn(
        [one for one in dialled if one.listening and one.source == one.touched.host],
        "from one and the same address",
        contradictions,
    )
    others = _letIn(_others(dialled), "from another address", contradictions)
    if same is None:
        return None
    if not same:
        if others:
            contradictions.append(
                "an address that was never dialled is let in, and one that was dialled is not"
            )
            return None
        return Filtering.ADDRESS_AND_PORT_DEPENDENT
    return Filtering.ENDPOINT_INDEPENDENT if others else Filtering.ADDRESS_DEPENDENT


def _letIn(dialled: Iterable[DialledBack], who: str, contradictions: list[str]) -> bool | None:
    """
    Whether these were let in; C{None} if nobody knows.
    """
    answers = set()
    for one in dialled:
        if one.answer is Answer.CONNECTED and not one.arrived:
            contradictions.append(
                f"the server has connected from {one.source}, but nothing came here: something in "
                "between answers for this host"
            )
            return None
        if one.answer is Answer.CONNECTED or one.answer in _REFUSALS:
            answers.add(one.answer is Answer.CONNECTED)
    if len(answers) > 1:
        contradictions.append(f"of connections {who}, some are let in and some are not")
    return answers.pop() if len(answers) == 1 else None


def _unsolicited(dialled: Iterable[DialledBack], contradictions: list[str]) -> Unsolicited | None:
    """
    Silence beside an answer is none: who answers does not answer everything (RFC 1812, 4.3.2.8).
    """
    answers = {_REFUSALS[one.answer] for one in dialled if one.answer in _REFUSALS}
    said = answers - {Unsolicited.DROP} or answers
    if len(said) > 1:
        contradictions.append("what is not let in is answered by resets and by ICMP messages")
    return said.pop() if len(said) == 1 else None


def _byDistance(observations: Observations) -> list[Hop]:
    return sorted(observations.hops, key=lambda hop: hop.hops)


def _hasSecond(
    observations: Observations, translated: bool | None, address: str | None
) -> bool | None:
    """
    Whether there is a router with a private address behind the first one, though the server sees a
    public one.
    """
    if not translated or address is None:
        return translated
    if ip_address(address) in _CARRIER:
        return True
    if scopeOf(makeAddress(address, 1)) is not Scope.GLOBAL:
        return None
    beyond = [hop for hop in _byDistance(observations) if hop.hops > 1]
    routers = [hop.router for hop in beyond if hop.router is not None]
    if any(scopeOf(makeAddress(router, 1)) is Scope.PRIVATE for router in routers):
        return True
    # The second hop must have been seen to be public, or the server.
    return False if beyond and beyond[0].answer is not Answer.SILENCE else None


def _lookForProxy(
    observations: Observations, translated: bool | None, contradictions: list[str]
) -> None:
    if translated and any(
        hop.hops == 1 and hop.answer is Answer.CONNECTED for hop in observations.hops
    ):
        contradictions.append(
            "the server seems to be on this very network, which its view of this host denies: "
            "something in between answers for it"
        )
    for port in {one.port for one in observations.seen}:
        shown = {one.outside for one in _ofPort(observations.seen, port)}
        if any(scopeOf(outside) is Scope.NEVER for outside in shown):
            contradictions.append(
                f"the server sees this host as {showAddress(next(iter(shown)))}, which cannot be"
            )
