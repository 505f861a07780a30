"""
A server, as a peer uses it for as long as it runs.

L{MasterClient} connects from a held port, logs in, and begins again when the connection ends
(L{ClientService} has the back-off). That port, whose mapping the server sees, is the port the peer
is called at; ports for more come by way of the assist service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from attrs import evolve
from OpenSSL.SSL import Context
from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from punchd.errors import ProtocolViolation, PunchdError, Unreachable
from punchd.nat.discovery import Surroundings
from punchd.net.held import HeldPort
from punchd.net.own import ownAddresses, sourceToward
from punchd.net.rerouting import watchRoutes
from punchd.peer.arrivals import Arrivals
from punchd.peer.assists import AssistServices
from punchd.peer.conversation import Conversation, Greeting, Listener, Welcome
from punchd.peer.discovering import Discovering
from punchd.peer.families import IPv6Candidate, hostCandidates
from punchd.peer.instruments import Instruments
from punchd.peer.login import LoggingIn, secured
from punchd.peer.ports import FreshPorts
from punchd.peer.proving import isFoundAt
from punchd.peer.roaming import Roaming
from punchd.peer.usage import Usage
from punchd.values.addresses import Address, isGlobalIPv6, makeAddress, showAddress
from punchd.values.joining import JoinAddress
from punchd.values.naming import UNLISTED
from punchd.values.nat import NatBehaviour
from punchd.values.parties import LocalAddressPolicy, Offer, isCredible
from punchd.wire.commands import Report, Tell

#: Back-off between connections: the first wait, the longest, and by how much it grows. Jitter keeps
#: the peers of a restarted server from all coming at once.
_FIRST_WAIT = 0.3
_LONGEST_WAIT = 15.0
_GROWTH = 1.6


class MasterClient(Service):
    """
    Made for each C{--server}; lives as long as the peer.

    @ivar port: held from start to stop; the server sees it as C{welcome.observed}.
    @ivar welcome: what the server said when it let us in; C{None} while we are not connected.
    @ivar discovering: finds out what stands in front of us.
    @ivar leased: the port that our router lets anybody in to, if it has leased one.
    @ivar ipv6: our IPv6 candidate, if we have one.
    @ivar listing: what of us shall be in the DNS.
    @ivar problem: why we are not connected; C{None} while we are, or at first.
    @ivar usage: toward whom C{port} is used.
    """

    port: HeldPort

    def __init__(
        self,
        reactor: Any,
        random: Random,
        entropy: Callable[[int], bytes],
        join: JoinAddress,
        context: Context,
        arrivals: Arrivals,
        listener: Callable[[MasterClient], Listener],
        present: Callable[[], Greeting],
        note: Callable[[str], None],
        addresses: Callable[[], Sequence[str]] = ownAddresses,
        source: Callable[[Address], str | None] = sourceToward,
    ) -> None:
        """
        @param addresses: tells the IPv4 addresses of this host.
        @param source: tells from which of its addresses another one is dialled.
        """
        self.clock: IReactorTime = reactor
        self.join = join
        self.random = random
        self.entropy = entropy
        self.welcome: Welcome | None = None
        self.problem: str | None = None
        self.usage = Usage(reactor)
        self.leased: HeldPort | None = None
        self.listing = UNLISTED
        self._reactor, self._context = reactor, context
        self._arrivals = arrivals
        self._listener = listener(self)
        self._present = present
        self._note = note
        self._conversation: Conversation | None = None
        self._client: ClientService | None = None
        self._ports = FreshPorts(reactor, entropy, arrivals, self.ask)
        self.ipv6 = IPv6Candidate(reactor, self._ports, self._ipv6Assist, source, self.update)
        self._addresses = addresses
        self._host = self._server = ""
        self._hasMoved = self._wasThere = False
        self._backOff = backoffPolicy(
            _FIRST_WAIT, _LONGEST_WAIT, _GROWTH, jitter=lambda: random.uniform(0, 1)
        )
        self.discovering = Discovering(
            reactor, random, self._surroundings, self._instruments, self.update, note
        )
        self._roaming = Roaming(reactor, source, self._moved, partial(watchRoutes, reactor))

    # Connecting.

    def startService(self) -> None:
        super().startService()
        self.port = HeldPort.take(self._reactor, self._arrivals)
        endpoint = secured(self.join, self._context, self.port)
        converse = partial(Conversation, self._reactor, self._listener)
        self._client = ClientService(
            LoggingIn(self.join.where, endpoint, converse, self._login),
            Factory.forProtocol(Protocol),
            retryPolicy=self._wait,
            clock=self._reactor,
        )
        self._client.startService()
        self._watchAttempt()

    def _wait(self, attempts: int) -> float:
        """
        Seconds until the next connection; none at a new network.
        """
        hasMoved, self._hasMoved = self._hasMoved, False
        return 0.0 if hasMoved else self._backOff(attempts)

    def _watchAttempt(self) -> None:
        client = self._client
        if client is None:
            return
        client.whenConnected(failAfterFailures=1).addErrback(self._notConnected)

    def _notConnected(self, failure: Failure) -> None:
        if self._client is None:
            return
        error = failure.value
        problem = str(error) if isinstance(error, PunchdError) else failure.getErrorMessage()
        if problem != self.problem:
            self.problem = problem
            self._note(f"cannot use the server at {self.join.where}: {problem}; will try again")
        # The waiting Deferred of the next attempt fails with it, or succeeds.
        self._reactor.callLater(0, self._watchAttempt)

    async def _login(self, conversation: Conversation) -> None:
        welcome = await conversation.login(self._greeting)
        transport: Any = conversation.protocol.transport
        self._server = transport.getPeer().host
        if not isCredible(welcome.observed, makeAddress(self._server, self.join.port)):
            raise ProtocolViolation(
                f"the server says that it sees this peer as {showAddress(welcome.observed)}, "
                "which cannot be"
            )
        self.welcome, self._conversation = welcome, conversation
        self.problem = None
        self._ports.forgetTokens()
        self.ipv6.begin()
        self._note(
            f"connected to the server at {self.join.where}, which sees us as "
            f"{showAddress(welcome.observed)}"
        )
        conversation.whenOver().addCallback(lambda _: self._ended(conversation))
        self._roaming.begin(makeAddress(self._server, self.join.port))
        self.discovering.begin()
        if self._wasThere:
            self._listener.backAgain()
        self._wasThere = True

    def _greeting(self, transport: Any) -> Greeting:
        self._host = transport.getHost().host
        # The port is called at where the server sees it: by the family of this connection.
        self.port.interface = self._host if ":" in self._host else ""
        return self._presented()

    def _presented(self) -> Greeting:
        said = self._present()
        offer = self.offerFor(said.offer, self.port)
        return evolve(said, offer=offer, listing=self.listing)

    def _ended(self, conversation: Conversation) -> None:
        if self._conversation is not conversation:
            return
        self._conversation = self.welcome = None
        self.ipv6.end()
        self._roaming.end()
        self.discovering.end()
        if self._client is not None:
            self._hasMoved |= conversation.isUrgent
            self.problem = str(conversation.error or "disconnected")
            self._note(f"lost the server at {self.join.where}: {self.problem}")
            # When the client service has noticed, too.
            self._reactor.callLater(0, self._watchAttempt)

    def _moved(self, what: str) -> None:
        """
        Nothing comes through the connection any more; do not wait until that shows.
        """
        conversation = self._conversation
        if conversation is not None:
            self._note(f"{what}: connecting anew")
            self._hasMoved = True
            conversation.error = conversation.error or Unreachable(what)
            conversation.abort()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        client, self._client = self._client, None
        self.ipv6.end()
        self._roaming.end()
        looking = self.discovering.end()
        self._ports.releaseAll()
        if client is not None:
            await client.stopService()
        await looking
        await self.port.close()

    @property
    def isConnected(self) -> bool:
        """
        Whether introductions are possible now.
        """
        return self._conversation is not None

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds to the server and back.
        """
        return None if self._conversation is None else self._conversation.roundTrip

    @property
    def policy(self) -> LocalAddressPolicy:
        """
        Whom we send SYNs to on this server's word.
        """
        return LocalAddressPolicy(self._connected()[1].observed)

    def _connected(self) -> tuple[Conversation, Welcome]:
        if self._conversation is None or self.welcome is None:
            raise Unreachable(f"not connected to the server at {self.join.where}")
        return self._conversation, self.welcome

    # Saying what we are.

    def offerFor(self, offer: Offer, port: HeldPort) -> Offer:
        """
        C{offer} with what only this connection knows, for a port of ours.
        """
        hosts = hostCandidates(self._host, self._addresses())
        own = tuple(makeAddress(host, port.number) for host in hosts)
        return evolve(offer, hosts=own, nat=self.nat)

    def update(self) -> None:
        """
        Our offer, or whom we accept, has changed: tell the server, if it is there.
        """
        conversation = self._conversation
        if conversation is None:
            return
        telling = conversation.update(self._presented(), self.ipv6.token)
        telling.addErrback(lambda failure: self._note(f"{failure.value}"))

    @property
    def nat(self) -> NatBehaviour:
        """
        What stands in front of us does, as far as is known.
        """
        return self.discovering.behaviour

    def _surroundings(self) -> Surroundings:
        own = frozenset((self._host, *self._addresses()))
        assists = self._named().reachedFrom(self.port)
        return Surroundings(assists, own, self._connected()[1].observed)

    def _instruments(self, around: Surroundings) -> Instruments:
        return Instruments(self._reactor, self.entropy, self.ask, around, self.port.interface)

    # Ports.

    def assists(self, port: HeldPort) -> list[Address]:
        """
        The assist services that C{port} reaches: those of its family, in the server's order.

        @raise Refused: when the server names none but such as we have no business to dial.
        @raise Unreachable: when it does so in a way that nobody understands, or is not there.
        """
        return list(self._named().reachedFrom(port).values())

    def _named(self) -> AssistServices:
        return AssistServices(self._connected()[1].assists, self._server, self.policy)

    def relay(self) -> Address | None:
        """
        Where the server's relay is; C{None} if it has none.

        @raise PunchdError: as L{assists}.
        """
        relay = self._connected()[1].relay
        return None if relay is None else self._named().addressOf(relay)

    def _ipv6Assist(self) -> Address | None:
        try:
            named = self._named().all().values()
        except PunchdError:
            return None
        return next((each for each in named if isGlobalIPv6(each)), None)

    def freshPort(self) -> Deferred[HeldPort]:
        """
        A port that the server has just observed; to be released.

        @raise PunchdError: when the server or its assist service is not to be had.
        """
        return Deferred.fromCoroutine(self._freshPort())

    async def _freshPort(self) -> HeldPort:
        assists = self.assists(self.port)
        if not assists:
            raise Unreachable("the server has no assist service")
        return await self._ports.take(assists[0], self.port.interface)

    def ordinaryPort(self) -> HeldPort:
        """
        A port that nobody has observed; to be released.

        @raise Unreachable: when none is to be had.
        """
        return HeldPort.take(self._reactor, self._arrivals, interface=self.port.interface)

    def portSeenAt(self, observed: Address) -> HeldPort | None:
        """
        The fresh port, or the one of our IPv6 candidate, that the server has observed there.
        """
        return self._ports.seenAt(observed)

    def release(self, port: HeldPort) -> None:
        """
        Let go of a fresh or ordinary port. Connections made from it live on.
        """
        self._ports.release(port)

    async def prove(self, port: HeldPort, mapped: Address) -> bool:
        """
        Let the server make sure that whoever dials C{mapped}, which our router has leased to us,
        gets to C{port}. It passes C{mapped} on to other peers only then.

        @return: whether it is so; not if the server sees us at another address.
        @raise PunchdError: when the server is not to be had, or will not look now.
        @raise twisted.internet.error.CannotListenError: when the port cannot be listened on.
        """
        port.listen()
        try:
            return await isFoundAt(self, mapped, self._arrivals.secrets)
        finally:
            port.unlisten()

    # Introductions.

    def doubt(self) -> None:
        """
        See L{Conversation.doubt<punchd.peer.conversation.Conversation.doubt>}.
        """
        if self._conversation is not None:
            self._conversation.doubt()

    def ask(self, command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        """
        Ask the server.

        @raise Unreachable: when there is no connection.
        """
        return self._connected()[0].ask(command, **arguments)

    def tell(
        self, session: bytes, strategy: str, body: bytes, token: bytes | None
    ) -> Deferred[dict[str, Any]]:
        """
        Pass a message to the other half of a strategy.
        """
        return self.ask(Tell, session=session, strategy=strategy, body=body, token=token)

    def report(self, session: bytes, strategy: str | None, seconds: float) -> None:
        """
        An introduction of ours is over.
        """
        if self._conversation is not None:
            report = self.ask(Report, session=session, strategy=strategy, seconds=seconds)
            report.addErrback(lambda failure: None)
