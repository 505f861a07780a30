"""
The Port Control Protocol (RFC 6887), as far as a host needs it that wants TCP ports.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.errors import Refused
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.nat.mapping.epoch import Epoch, pcpHasLost
from punchd.nat.mapping.exchange import exchange
from punchd.values.addresses import makeAddress
from punchd.values.leases import Lease, RouterFacts

PORT = 5351
VERSION = 2
NONCE_LENGTH = 12

# RFC 6887, 7.1 and 7.2: opcodes, and the bit of an answer.
ANNOUNCE = 0
MAP = 1
_ANSWER = 0x80
_TCP = 6

_HEADER = 24
_MAP_LENGTH = 36
#: RFC 6887, 7: no message is longer.
_LONGEST = 1100

#: RFC 6887, 7.4.
RESULTS = (
    "success",
    "unsupported version",
    "not authorized",
    "malformed request",
    "unsupported opcode",
    "unsupported option",
    "malformed option",
    "network failure",
    "no resources",
    "unsupported protocol",
    "user exceeded quota",
    "cannot provide external address",
    "address mismatch",
    "excessive remote peers",
)
_UNSUPPORTED_VERSION = 1
_ADDRESS_MISMATCH = 12

#: RFC 6887, 8.1.1: the first wait, and by how much it is longer or shorter at random. Nobody waits
#: for the longest (1,024 s): whoever has not answered the second question does not lend ports.
_FIRST_WAIT = 3.0
_JITTER = 0.1
_QUESTIONS = 2


@frozen
class Answer:
    """
    What a router says.

    @ivar epoch: its clock, in seconds.
    @ivar internal: the port on this host, of an answer to C{MAP}; so are the others.
    """

    epoch: int
    lifetime: int
    internal: int = 0
    externalPort: int = 0
    externalHost: str | None = None


def _packHost(host: str) -> bytes:
    return bytes(10) + b"\xff\xff" + IPv4Address(host).packed


def _header(opcode: int, lifetime: int, own: str) -> bytes:
    return struct.pack("!BBHI", VERSION, opcode, 0, lifetime) + _packHost(own)


def announceQuestion(own: str) -> bytes:
    """
    Are you there? (RFC 6887, 14.1)

    @param own: our address, for the router to see whether a NAT stands between us.
    """
    return _header(ANNOUNCE, 0, own)


def mapQuestion(
    own: str, nonce: bytes, internal: int, external: int, host: str, lifetime: int
) -> bytes:
    """
    Lend us a TCP port (RFC 6887, 11.1).

    @param external: the port that is wanted, 0 for any.
    @param host: the outside address that is wanted, C{0.0.0.0} for any.
    @param lifetime: in seconds; 0 gives it back.
    """
    body = struct.pack("!12sB3xHH", nonce, _TCP, internal, external)
    return _header(MAP, lifetime, own) + body + _packHost(host)


def readAnswer(datagram: bytes, question: bytes) -> Answer | None:
    """
    @return: C{None} for what is no answer to C{question}.
    @raise Refused: when the router says no.
    """
    if not 4 <= len(datagram) <= _LONGEST or not datagram[1] & _ANSWER:
        return None
    if datagram[0] < VERSION:
        # RFC 6887, 9: a router that knows NAT-PMP alone answers in its manner, in which the result
        # has two bytes.
        if int.from_bytes(datagram[2:4], "big") == _UNSUPPORTED_VERSION:
            raise Refused("the router speaks no PCP")
        return None
    opcode, result = datagram[1] & ~_ANSWER, datagram[3]
    if opcode != question[1] or len(datagram) < _HEADER or len(datagram) % 4:
        return None
    lifetime, epoch = struct.unpack_from("!II", datagram, 4)
    body = datagram[_HEADER:]
    if opcode == MAP:
        asked = question[_HEADER:]
        # Nonce, protocol and internal port are ours, in an answer that says no, too.
        same = len(body) >= _MAP_LENGTH and (body[:13] + body[16:18] == asked[:13] + asked[16:18])
        if not same and not (result and len(body) < _MAP_LENGTH):
            return None
    if result:
        raise Refused(f"the router says: {_nameOf(result)}")
    if opcode != MAP:
        return Answer(epoch, lifetime)
    internal, external = struct.unpack_from("!HH", body, 16)
    host = IPv6Address(body[20:36]).ipv4_mapped
    return Answer(epoch, lifetime, internal, external, None if host is None else str(host))


def _nameOf(result: int) -> str:
    if result == _ADDRESS_MISMATCH:
        return "address mismatch: a NAT stands between it and us"
    return RESULTS[result] if result < len(RESULTS) else f"error {result}"


def waits(random: Random) -> Iterator[float]:
    """
    Seconds between the questions (RFC 6887, 8.1.1).
    """
    wait = 0.0
    for _ in range(_QUESTIONS):
        wait = (2 * wait or _FIRST_WAIT) * (1 + random.uniform(-_JITTER, _JITTER))
        yield wait


@implementer(IPortMapper)
@define(eq=False)
class PCP:
    """
    Made for one gateway.
    """

    name = "pcp"

    _datagrams: Any
    _random: Random
    _entropy: Callable[[int], bytes]
    _gateway: Gateway
    _epoch: Epoch = field(init=False)
    # RFC 6887, 11.2: whoever renews or deletes must know the nonce that made the lease.
    _nonces: dict[int, bytes] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._epoch = Epoch(self._datagrams, pcpHasLost)

    def ask(self) -> Deferred[RouterFacts]:
        asking = self._exchange(announceQuestion(self._gateway.own))
        return asking.addCallback(lambda _: RouterFacts(None, self._epoch.generation))

    def lease(self, internal: int, external: int, lifetime: float) -> Deferred[Lease]:
        nonce = self._nonces.setdefault(internal, self._entropy(NONCE_LENGTH))
        asking = self._exchange(
            mapQuestion(self._gateway.own, nonce, internal, external, "0.0.0.0", round(lifetime))
        )
        return asking.addCallback(self._lent)

    def _lent(self, answer: Answer) -> Lease:
        if answer.externalHost is None or not answer.externalPort or not answer.lifetime:
            raise Refused("the router lends a port that is none")
        external = makeAddress(answer.externalHost, answer.externalPort)
        generation = self._epoch.generation
        return Lease(self.name, answer.internal, external, answer.lifetime, generation)

    def holds(self, lease: Lease) -> Deferred[bool]:
        return self.ask().addCallback(lambda facts: facts.generation == lease.generation)

    def release(self, lease: Lease) -> Deferred[None]:
        nonce = self._nonces.pop(lease.internal, None)
        if nonce is None:
            nonce = self._entropy(NONCE_LENGTH)
        asking = self._exchange(
            mapQuestion(self._gateway.own, nonce, lease.internal, 0, "0.0.0.0", 0)
        )
        return asking.addCallback(lambda _: None)

    def _exchange(self, question: bytes) -> Deferred[Any]:
        asking = exchange(
            self._datagrams,
            (self._gateway.host, PORT),
            question,
            lambda datagram: readAnswer(datagram, question),
            waits(self._random),
        )

        def heard(answer: Answer) -> Answer:
            self._epoch.heard(answer.epoch)
            return answer

        return asking.addCallback(heard)
