"""
The server of an in-memory internet: the real assist service, observations and introductions; only
what would be AMP over TLS is a message that takes its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.protocols import amp
from zope.interface import implementer

from punchd.interfaces import IObserver
from punchd.server.assist import AssistGate
from punchd.server.introductions import Introductions
from punchd.server.limits import Complaints, Strangers
from punchd.server.observations import Observations
from punchd.server.sessions import Population, Session, kept
from punchd.values.addresses import Address, makeAddress
from punchd.values.happenings import Happening
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.commands import Introduce, Tell, Tokens, offerFrom

if TYPE_CHECKING:
    from punchd.testing.internet.internet import Host

#: The server's ports, as a real one has them.
MASTER, ASSIST = 7761, 7762

#: Far more than anybody needs in a test: who dials very often from one address is no stranger here.
_MANY = 1e6


class _Master(Protocol):
    """
    A master connection, of which only the address counts: it says the peer's name, and stays.
    """

    def __init__(self, names: Callable[[bytes, Any], None], address: IAddress | None) -> None:
        self._names = names
        self._address = address
        self._said = b""

    def dataReceived(self, data: bytes) -> None:
        self._said += data
        if self._said.endswith(b"\n"):
            self._names(self._said.strip(), self._address)


class _Masters(Factory):
    noisy = False

    def __init__(self, names: Callable[[bytes, Any], None]) -> None:
        self._names = names

    def buildProtocol(self, addr: IAddress | None) -> _Master:
        return _Master(self._names, addr)


class _Line:
    """
    The way from the server to one peer.
    """

    def __init__(self, later: Callable[..., object], told: Callable[..., None]) -> None:
        self._later = later
        self._told = told

    def callRemote(self, commandType: type[amp.Command], **arguments: Any) -> Deferred[Any]:
        self._later(self._told, commandType, throughTheWire(commandType, arguments))
        return Deferred()

    def loggedIn(self) -> None:
        """
        Nobody was a stranger.
        """

    def localHost(self) -> str:
        """
        Nobody asks, as nobody has himself dialled back here.
        """
        return ""

    def close(self, reason: str) -> None:
        """
        Nothing is open.
        """


@implementer(IObserver)
class _Steps:
    """
    Remembers what the server did.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[float, str, str]] = []

    def happened(self, happening: Happening) -> None:
        self.steps.append((happening.at, happening.who, happening.step))


class Server:
    """
    Made by its internet.

    @ivar host: where it runs.
    @ivar steps: its timeline: when, who, what.
    @ivar observed: by name, under which address each peer's master connection is seen.
    @ivar observations: what the assist service has seen.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        observer = _Steps()
        self.steps = observer.steps
        self.observed: dict[str, Address] = {}
        clock, entropy = host.reactor, host.stack.random.randbytes
        self.observations = Observations(clock, entropy)
        self._population = Population()
        self._introductions = Introductions(clock, entropy, self._population, observer)
        strangers = Strangers(clock, int(_MANY), int(_MANY), _MANY, _MANY)
        gate = AssistGate(
            clock=clock,
            observations=self.observations,
            strangers=strangers,
            complaints=Complaints(Logger()),
        )
        for interface in ("", "::"):
            if not interface or host.ipv6:
                host.reactor.listenTCP(ASSIST, gate, interface=interface)
        host.reactor.listenTCP(MASTER, _Masters(self._named))

    def address(self, port: int) -> Address:
        """
        Where peers find a service.
        """
        return makeAddress(self.host.address, port)

    def _named(self, name: bytes, address: Address) -> None:
        self.observed[name.decode("ascii")] = address

    def oneWay(self, host: Host) -> float:
        """
        Seconds that a message takes from here to C{host}, or back.
        """
        return self.host.site.delay + host.site.delay

    def arrive(
        self,
        host: Host,
        peerID: PeerID,
        offer: Offer,
        accepts: frozenset[PeerID],
        proven: frozenset[Address],
        told: Callable[..., None],
    ) -> Session:
        """
        A peer logs in.

        @param told: gets each command that the server has for it, when it arrives, and its
            arguments.
        """
        clock, way, observed = self.host.reactor, self.oneWay(host), self.observed[host.name]

        def later(call: Callable[..., object], *arguments: Any) -> object:
            return clock.callLater(way, call, *arguments)

        session = Session(
            peerID,
            host.name,
            observed,
            _Line(later, told),
            kept(offer, observed, proven),
            accepts,
            clock.seconds(),
            proven,
        )
        # The server knows how far it is, from a ping.
        session.pinged(clock.seconds())
        session.ponged(clock.seconds() + 2 * way)
        self._population.arrive(session)
        return session

    def leave(self, session: Session) -> None:
        """
        A peer has gone.
        """
        self._introductions.gone(session)
        self.observations.forget(session.name)
        self._population.leave(session)

    def asked(
        self, host: Host, session: Session, command: type[amp.Command], arguments: dict[str, Any]
    ) -> Deferred[dict[str, Any]]:
        """
        A peer asks something; the answer takes its time.
        """
        clock, way = self.host.reactor, self.oneWay(host)
        answered: Deferred[dict[str, Any]] = Deferred()

        def arrived(sent: dict[str, Any]) -> None:
            maybeDeferred(self._answer, session, command, sent).addBoth(
                lambda result: clock.callLater(way, _give, answered, result)
            )

        try:
            clock.callLater(way, arrived, throughTheWire(command, arguments))
        except Exception:  # what cannot be sent fails where it is sent
            return fail()
        return answered

    def _answer(
        self, session: Session, command: type[amp.Command], arguments: dict[str, Any]
    ) -> Any:
        if command is Tokens:
            own = [self.observations.issue(session.name) for _ in range(arguments["count"])]
            return {"tokens": own}
        token = arguments["token"]
        observed = None
        if token is not None:
            observed = self.observations.addressFor(session.name, token)
        if command is Introduce:
            offer = kept(offerFrom(arguments), observed or session.observed, session.proven)
            offer = evolve(offer, ipv6=session.offer.ipv6)
            return self._introductions.introduce(
                session, arguments["peer"], observed or session.observed, offer
            )
        assert command is Tell, command
        self._introductions.tell(
            session, arguments["session"], arguments["strategy"], arguments["body"], observed
        )
        return {}


def throughTheWire(command: type[amp.Command], arguments: dict[str, Any]) -> dict[str, Any]:
    """
    What comes out at the other end of C{arguments}.

    @raise Exception: when they cannot be sent.
    """
    anybody: Any = None
    received: dict[str, Any] = command.parseArguments(
        command.makeArguments(arguments, anybody), anybody
    )
    return received


def _give(waiting: Deferred[Any], result: Any) -> None:
    if not waiting.called:
        waiting.callback(result)
