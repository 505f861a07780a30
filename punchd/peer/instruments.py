"""
What a peer probes its surroundings with: real ports, real connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from punchd.errors import Refused, Unreachable
from punchd.nat.discovery import Surroundings
from punchd.net.held import HeldPort
from punchd.net.probing import Prober
from punchd.peer.assist import Touch, touch
from punchd.peer.conversation import inTime
from punchd.values.addresses import Address, showAddress
from punchd.values.parties import LocalAddressPolicy
from punchd.values.probes import Answer, Finding
from punchd.wire.commands import DialBack, Tokens
from punchd.wire.observing import MASK_LENGTH, Question

#: Seconds until two ports that dial each other, and a SYN that a router on the way shall stop, are
#: given up.
PATIENCE = 2.0

#: Seconds for which a connection may be late that the server says it has made.
GRACE = 0.3

#: Connections that one port takes; who comes beside the server has no business here.
_MOST_ACCEPTED = 8

_NONCE_LENGTH = 16


@define(eq=False)
class _Probe:
    """
    A port of a discovery.
    """

    port: HeldPort
    visitors: _Visitors
    touches: list[Touch] = field(factory=list)


@define(eq=False)
class Instruments:
    """
    Made for one discovery; see L{punchd.nat.discovery.Instruments}.

    @ivar _ask: asks the server.
    @ivar _interface: see L{HeldPort}.
    """

    # IReactorTCP, IReactorFDSet and IReactorTime.
    _reactor: Any
    _entropy: Callable[[int], bytes]
    _ask: Callable[..., Deferred[dict[str, Any]]]
    _around: Surroundings
    _interface: str = ""
    _probes: list[_Probe] = field(factory=list, init=False)
    _tokens: list[bytes] = field(factory=list, init=False)
    _isClosed: bool = field(default=False, init=False)

    async def prepare(self, ports: int, shows: int) -> Sequence[int]:
        answer = await self._answered(Tokens, count=shows)
        self._tokens = list(answer["tokens"])
        for _ in range(ports):
            visitors = _Visitors(self._entropy(_NONCE_LENGTH))
            port = HeldPort.take(self._reactor, visitors, interface=self._interface)
            self._probes.append(_Probe(port, visitors))
        return [probe.port.number for probe in self._probes]

    def show(self, port: int, assist: int) -> Deferred[Address]:
        return Deferred.fromCoroutine(self._show(port, assist))

    async def _show(self, port: int, assist: int) -> Address:
        probe = self._find(port)
        if not self._tokens:
            raise Unreachable("the server gives too few tokens for its assist service")
        question = Question(self._tokens.pop(0), self._entropy(MASK_LENGTH))
        touched = await touch(self._reactor, probe.port, self._around.assists[assist], question)
        probe.touches.append(touched)
        observed = touched.observedAddress
        if self._isClosed or observed is None:
            touched.close()
            raise _closed()
        return observed

    def beDialled(self, port: int, source: int, listening: bool) -> Deferred[tuple[Answer, bool]]:
        return Deferred.fromCoroutine(self._beDialled(port, source, listening))

    async def _beDialled(self, port: int, source: int, listening: bool) -> tuple[Answer, bool]:
        probe, host = self._find(port), self._around.assists[source].host
        if probe.port.token is None:
            raise Unreachable("the server has not seen this port")
        if listening:
            self._listen(probe)
        answered = await self._answered(DialBack, token=probe.port.token, source=source)
        answer: Answer = answered["answer"] or Answer.UNREACHABLE
        if answer is Answer.CONNECTED and host not in probe.visitors.hosts:
            await deferLater(self._reactor, GRACE)
        return answer, host in probe.visitors.hosts

    def reachOwn(self, one: int, other: int) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._reachOwn(one, other))

    async def _reachOwn(self, one: int, other: int) -> bool:
        pair = self._find(one), self._find(other)
        where = [probe.port.observed for probe in pair if probe.port.observed is not None]
        if len(where) < len(pair):
            raise Unreachable("the server has not seen this port")
        for remote in where:
            self._checkOwn(remote)
        factory = _Visitors(self._entropy(_NONCE_LENGTH))
        met: Deferred[bool] = Deferred()
        left = len(pair)

        def heard() -> None:
            if not met.called:
                met.callback(True)

        def failed(failure: Failure) -> None:
            nonlocal left
            left -= 1
            if not left and not met.called:
                met.callback(False)

        for probe in pair:
            # Whoever of them says this nonce is one of us; it never goes anywhere else.
            probe.visitors.expect(factory.nonce, heard)
            self._listen(probe)
        factory.expect(factory.nonce, heard)
        factory.speaks = True
        dials = []
        try:
            for probe, remote in zip(pair, reversed(where), strict=True):
                dialling = probe.port.to(remote).connect(factory)
                dials.append(dialling)
                dialling.addErrback(failed)
            met.addTimeout(PATIENCE, self._reactor, lambda result, timeout: False)
            return await met
        finally:
            for dialling in dials:
                dialling.cancel()
            factory.abort()

    def _checkOwn(self, remote: Address) -> None:
        """
        An assist service may say that it sees us anywhere; we dial only where the server does.

        @raise Refused: when that is somewhere else.
        """
        observed = self._around.observed
        isAllowed = LocalAddressPolicy(observed).allowsReflexive(remote)
        if remote.host != observed.host or not isAllowed:
            raise Refused(
                f"an assist service says that it sees us as {showAddress(remote)}, which is no "
                f"address of ours to the server; it sees {observed.host}"
            )

    def passOn(self, hops: int) -> Deferred[Finding]:
        if self._isClosed:
            return fail(_closed())
        remote = next(iter(self._around.assists.values()))
        return Prober(self._reactor).probe(remote, patience=PATIENCE, hops=hops)

    async def close(self) -> None:
        self._isClosed = True
        probes, self._probes = self._probes, []
        for probe in probes:
            for touched in probe.touches:
                touched.close()
            probe.visitors.abort()
        closed: Deferred[None] = Deferred()
        gathered = gatherResults([probe.port.close() for probe in probes])
        # Who does not want to wait for it cannot stop it.
        gathered.addCallback(lambda _: None).chainDeferred(closed)
        await closed

    def _answered(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        return inTime(self._ask(command, **arguments), self._reactor)

    def _find(self, port: int) -> _Probe:
        if self._isClosed:
            raise _closed()
        return self._probes[port]

    def _listen(self, probe: _Probe) -> None:
        if probe.port.isListening:
            return
        try:
            probe.port.listen()
        except CannotListenError as error:
            raise Unreachable(f"cannot listen: {error.socketError}") from None


class _Visitors(Factory):
    """
    Connections to and from the ports of a discovery.

    @ivar nonce: what those say that are told to speak.
    @ivar hosts: where they have come from.
    """

    noisy = False

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self.speaks = False
        self.hosts: set[str] = set()
        self.expected: bytes | None = None
        self.heard: Callable[[], None] | None = None
        self.present: set[_Visitor] = set()

    def expect(self, nonce: bytes, heard: Callable[[], None]) -> None:
        """
        Call C{heard} when one of them says C{nonce}.
        """
        self.expected, self.heard = nonce, heard

    def buildProtocol(self, addr: IAddress | None) -> _Visitor | None:
        host = getattr(addr, "host", None)
        if host is None or len(self.present) >= _MOST_ACCEPTED:
            return None
        self.hosts.add(host)
        return _Visitor(self)

    def abort(self) -> None:
        """
        End all of them.
        """
        for visitor in list(self.present):
            visitor.transport.abortConnection()


class _Visitor(Protocol):
    """
    One connection, kept until the discovery is over.
    """

    transport: Any

    def __init__(self, visitors: _Visitors) -> None:
        self._visitors = visitors
        self._received = b""

    def connectionMade(self) -> None:
        self._visitors.present.add(self)
        if self._visitors.speaks:
            self.transport.write(self._visitors.nonce)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < _NONCE_LENGTH:
            return
        if self._received == self._visitors.expected and self._visitors.heard is not None:
            self._visitors.heard()
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._visitors.present.discard(self)


def _closed() -> Unreachable:
    return Unreachable("the discovery is over")
