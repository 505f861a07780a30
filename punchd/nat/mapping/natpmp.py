"""
The NAT Port Mapping Protocol (RFC 6886).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.errors import Refused
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.nat.mapping.epoch import Epoch, natpmpHasLost
from punchd.nat.mapping.exchange import exchange
from punchd.values.addresses import makeAddress
from punchd.values.leases import Lease, RouterFacts

PORT = 5351
VERSION = 0

# RFC 6886, 3.2 and 3.3: opcodes, and what is added to them in an answer.
ADDRESS = 0
MAP_TCP = 2
_ANSWER = 128

#: RFC 6886, 3.5.
RESULTS = (
    "success",
    "unsupported version",
    "not authorized",
    "network failure: it has no outside address itself",
    "out of resources",
    "unsupported opcode",
)

#: RFC 6886, 3.1: the first wait; each is twice the one before. It allows nine questions in two
#: minutes; whoever has not answered the fifth does not lend ports.
_FIRST_WAIT = 0.25
_QUESTIONS = 5


@frozen
class Answer:
    """
    What a router says.

    @ivar epoch: its clock, in seconds.
    @ivar host: its outside address, where that was the question.
    @ivar internal: the port on this host, where that was the question; so are the others.
    """

    epoch: int
    host: str | None = None
    internal: int = 0
    external: int = 0
    lifetime: int = 0


def addressQuestion() -> bytes:
    """
    What is your outside address? (RFC 6886, 3.2)
    """
    return struct.pack("!BB", VERSION, ADDRESS)


def mapQuestion(internal: int, external: int, lifetime: int) -> bytes:
    """
    Lend us a TCP port (RFC 6886, 3.3).

    @param external: the port that is wanted, 0 for any.
    @param lifetime: in seconds; 0 gives it back, and then C{external} is 0 (3.4).
    """
    return struct.pack("!BBHHHI", VERSION, MAP_TCP, 0, internal, external, lifetime)


def readAnswer(datagram: bytes, question: bytes) -> Answer | None:
    """
    @return: C{None} for what is no answer to C{question}.
    @raise Refused: when the router says no.
    """
    if len(datagram) < 8 or datagram[0] != VERSION or datagram[1] != question[1] + _ANSWER:
        return None
    result, epoch = struct.unpack_from("!HI", datagram, 2)
    if result:
        # Some routers cut an answer that says no after the head.
        if len(datagram) >= 10 and question[1] == MAP_TCP and datagram[8:10] != question[4:6]:
            return None
        told = RESULTS[result] if result < len(RESULTS) else f"error {result}"
        raise Refused(f"the router says: {told}")
    if question[1] == ADDRESS:
        return Answer(epoch, str(IPv4Address(datagram[8:12]))) if len(datagram) == 12 else None
    if len(datagram) != 16:
        return None
    internal, external, lifetime = struct.unpack_from("!HHI", datagram, 8)
    if internal != int.from_bytes(question[4:6], "big"):
        return None
    return Answer(epoch, None, internal, external, lifetime)


def waits() -> Iterator[float]:
    """
    Seconds between the questions (RFC 6886, 3.1).
    """
    for n in range(_QUESTIONS):
        yield _FIRST_WAIT * 2**n


@implementer(IPortMapper)
@define(eq=False)
class NATPMP:
    """
    Made for one gateway.
    """

    name = "nat-pmp"

    _datagrams: Any
    _gateway: Gateway
    _epoch: Epoch = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._epoch = Epoch(self._datagrams, natpmpHasLost)

    def ask(self) -> Deferred[RouterFacts]:
        asking = self._exchange(addressQuestion())
        return asking.addCallback(lambda answer: RouterFacts(answer.host, self._epoch.generation))

    def lease(self, internal: int, external: int, lifetime: float) -> Deferred[Lease]:
        return Deferred.fromCoroutine(self._lease(internal, external, round(lifetime)))

    async def _lease(self, internal: int, external: int, lifetime: int) -> Lease:
        # In this order: an address that has changed since is noticed at the next check.
        facts = await self.ask()
        answer = await self._exchange(mapQuestion(internal, external, lifetime))
        if facts.external is None or not answer.external or not answer.lifetime:
            raise Refused("the router lends a port that is none")
        address = makeAddress(facts.external, answer.external)
        return Lease(self.name, internal, address, answer.lifetime, self._epoch.generation)

    def holds(self, lease: Lease) -> Deferred[bool]:
        return self.ask().addCallback(
            lambda facts: (
                (facts.external, facts.generation) == (lease.external.host, lease.generation)
            )
        )

    def release(self, lease: Lease) -> Deferred[None]:
        asking = self._exchange(mapQuestion(lease.internal, 0, 0))
        return asking.addCallback(lambda _: None)

    def _exchange(self, question: bytes) -> Deferred[Any]:
        asking = exchange(
            self._datagrams,
            (self._gateway.host, PORT),
            question,
            lambda datagram: readAnswer(datagram, question),
            waits(),
        )

        def heard(answer: Answer) -> Answer:
            self._epoch.heard(answer.epoch)
            return answer

        return asking.addCallback(heard)
