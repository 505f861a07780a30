"""
Dialling peers: to find out what stands in front of them, and whether an address is theirs.

The server dials nobody who has not asked for it on a master connection of his own, and nothing but
the address that it sees that peer at: the very port of an open connection to the assist service, or
any port of the host of the master connection, if who listens there turns out to be the peer. What
comes back is told as one word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from typing import Protocol as Typing

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from punchd.errors import Refused, Unreachable
from punchd.net.pacing import Allowance
from punchd.server.sessions import Session
from punchd.values.addresses import Address, Scope, makeAddress, scopeOf
from punchd.values.probes import Answer, Finding
from punchd.wire.commands import MOST_MAPPED
from punchd.wire.listing import MOST_PUBLISHED
from punchd.wire.proving import NONCE_LENGTH, SEAL_LENGTH, Challenge

#: Times that a peer may have itself dialled, per second and at once: a peer that has just come
#: wants about five, and then again every few minutes.
DIAL_BACKS_PER_SECOND = 2.0
DIAL_BACKS_AT_ONCE = 40.0

#: Connections that are being tried, of all peers together.
MOST_DIALLING = 512

#: Seconds until a SYN without an answer is taken for dropped. The kernel has repeated it by then.
PATIENCE = 2.0

#: Seconds until who listens at a leased address must have answered the challenge; and until a peer
#: hears that nobody has, however soon that was clear: what others behind its NAT do at their ports
#: is none of its business.
PROOF_PATIENCE = 2.0

_Result = TypeVar("_Result")


class Probing(Typing):
    """
    What L{Prober<punchd.net.probing.Prober>} does.
    """

    def probe(
        self, remote: Address, *, patience: float, here: str = "", hops: int | None = None
    ) -> Deferred[Finding]:
        """
        Dial C{remote} once.
        """


def isGlobal(address: Address) -> bool:
    """
    Whether C{address} can be reached from everywhere.
    """
    return scopeOf(address) is Scope.GLOBAL


@define(eq=False)
class Dialling:
    """
    All that a server dials. Made and stopped by it.

    @ivar _isProvable: whether an address can be one that a router has leased.
    """

    # IReactorTCP and IReactorTime.
    _reactor: Any
    _entropy: Callable[[int], bytes]
    _prober: Probing
    _isProvable: Callable[[Address], bool] = isGlobal
    _pending: set[Deferred[Any]] = field(factory=set, init=False)

    def dialBack(self, session: Session, remote: Address, here: str) -> Deferred[Answer]:
        """
        Dial a port of a peer.

        @param remote: where the assist service sees that port.
        @param here: the address to dial from.
        @raise Refused: when the peer asks too often.
        """
        self._take(session)
        found = self._prober.probe(remote, patience=PATIENCE, here=here)
        return self._watch(found.addCallback(lambda finding: finding.answer))

    def prove(self, session: Session, port: int, secret: bytes) -> Deferred[bool]:
        """
        Dial a port of the host that a peer is seen at, and find out whether the peer listens there.
        If so, the address joins those that are proven; else it is not among them any more.

        @raise Refused: when the peer asks too often, or for what is no port.
        """
        if not 0 < port < 65536:
            raise Refused(f"{port} is no port")
        remote = makeAddress(session.observed.host, port)
        if not self._isProvable(remote):
            raise Refused("that is no address on the Internet, which a router could have leased")
        self._take(session)
        asking = _Proving(
            self._reactor, secret, Challenge.make(secret, self._entropy(NONCE_LENGTH))
        )
        factory = Factory.forProtocol(lambda: asking)
        factory.noisy = False
        make = TCP4ClientEndpoint if ":" not in remote.host else TCP6ClientEndpoint
        endpoint = make(self._reactor, remote.host, remote.port, timeout=PROOF_PATIENCE)
        connecting = endpoint.connect(factory)
        asking.connecting = connecting
        connecting.addErrback(asking.failed)

        def proven(isProven: bool) -> bool:
            others = session.proven - {remote}
            if len(others) >= MOST_MAPPED + MOST_PUBLISHED:
                ports = {port for _, port in session.listing.services}
                others = frozenset(
                    one for one in others if one in session.offer.mapped or one.port in ports
                )
            session.proven = others | {remote} if isProven else others
            return isProven

        return self._watch(asking.proven.addCallback(proven))

    def stop(self) -> None:
        """
        Give up on all that is not settled.
        """
        for one in list(self._pending):
            one.cancel()

    def __len__(self) -> int:
        return len(self._pending)

    def _take(self, session: Session) -> None:
        if session.dialBacks is None:
            session.dialBacks = Allowance(self._reactor, DIAL_BACKS_PER_SECOND, DIAL_BACKS_AT_ONCE)
        if not session.dialBacks.take():
            raise Refused(f"dialled more than {DIAL_BACKS_PER_SECOND:.0f} times a second: wait")
        if len(self._pending) >= MOST_DIALLING:
            raise Refused("the server is dialling too many peers at the moment: try again later")

    def _watch(self, dialling: Deferred[_Result]) -> Deferred[_Result]:
        self._pending.add(dialling)

        def done(result: Any) -> Any:
            self._pending.discard(dialling)
            if isinstance(result, Failure) and result.check(CancelledError):
                raise Unreachable("the server ends")
            return result

        return dialling.addBoth(done)


class _Proving(Protocol):
    """
    One connection to an address that may be leased to a peer.

    @ivar proven: fires with whether it is.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, secret: bytes, challenge: Challenge) -> None:
        self.proven: Deferred[bool] = Deferred(lambda _: self._close())
        self.connecting: Deferred[Any] | None = None
        self._secret = secret
        self._challenge = challenge
        self._received = b""
        self._isOver = False
        self._deadline: IDelayedCall = clock.callLater(PROOF_PATIENCE, self._settle, False)

    def connectionMade(self) -> None:
        if self._isOver:
            self.transport.abortConnection()
        else:
            self.transport.write(self._challenge.pack())

    def dataReceived(self, data: bytes) -> None:
        if self._isOver:
            return
        self._received += data
        if len(self._received) >= SEAL_LENGTH:
            self._settle(self._challenge.isAnswered(self._received, self._secret))

    def failed(self, failure: Failure) -> None:
        """
        It could not connect.
        """
        # The deadline settles it.

    def _settle(self, isProven: bool) -> None:
        if self._isOver:
            return
        if isProven or not self._deadline.active():
            self._close()
            self.proven.callback(isProven)
        else:
            self.transport.abortConnection()

    def _close(self) -> None:
        self._isOver = True
        if self._deadline.active():
            self._deadline.cancel()
        if self.transport is not None:
            self.transport.abortConnection()
        elif self.connecting is not None:
            self.connecting.cancel()
