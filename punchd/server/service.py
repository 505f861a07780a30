"""
The server as a whole: its services on their ports, what they share, and their end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import ConfigurationError
from punchd.hooks.command import Command
from punchd.hooks.telling import Teller, makeTeller
from punchd.identity.certificates import Credentials, selfSigned
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.interfaces import IObserver, IRegistry
from punchd.net.probing import Prober
from punchd.observers import LoggingObserver
from punchd.plugin import registryMakers
from punchd.server.assist import AssistGate
from punchd.server.conversation import Exchange
from punchd.server.dialling import Dialling, isGlobal
from punchd.server.gate import Gate
from punchd.server.hosts import assistsAt, assistsBeside, isIPv6
from punchd.server.introductions import Introductions
from punchd.server.limits import Complaints, Strangers
from punchd.server.master import MasterGate
from punchd.server.naming.serving import NamingGate
from punchd.server.naming.starting import Naming
from punchd.server.observations import Observations
from punchd.server.relay import RelayGate
from punchd.server.relaylimits import Accounts, RelayLimits
from punchd.server.relaypairs import Pairs, Room
from punchd.server.relaypipes import Pipes
from punchd.server.relaytokens import RelayTokens
from punchd.server.sessions import Population
from punchd.server.telling import Telling
from punchd.values.addresses import Address, showAddress
from punchd.values.joining import JoinAddress
from punchd.wire.commands import MOST_ASSISTS, Relay

#: The file in the state folder that holds the join address.
JOIN_FILE = "join"

# Deadlines, pings and what is too old are looked at this often.
_SWEEP_PERIOD = 1.0


def registryFor(uri: str, reactor: object) -> IRegistry:
    """
    The registry that C{uri} describes.

    @raise ConfigurationError: when it cannot be used, or nobody knows its kind.
    """
    makers = {maker.name: maker for maker in registryMakers()}
    scheme, colon, _ = uri.partition(":")
    if not colon or scheme not in makers:
        raise ConfigurationError(
            f"no registry {uri!r} is known; there are: "
            + ", ".join(f"{name}:" for name in sorted(makers))
        )
    return makers[scheme].make(uri, reactor)


class PunchdServer(Service):
    """
    One C{punchd-server}. Whoever makes it starts and stops it, once; it closes the registry.

    @ivar identity: the server's key.
    @ivar joinAddress: all that a peer needs to find and know this server; C{None} until it listens.
    """

    name = "punchd-server"

    def __init__(
        self,
        *,
        reactor: Any,
        folder: StateFolder,
        hosts: Sequence[str],
        masterEndpoint: IStreamServerEndpoint,
        assistEndpoints: Sequence[IStreamServerEndpoint],
        registry: IRegistry,
        relayEndpoint: IStreamServerEndpoint | None = None,
        relayLimits: RelayLimits | None = None,
        naming: Naming | None = None,
        onChange: Command | None = None,
        credentials: Credentials | None = None,
        observer: IObserver | None = None,
        makeStrangers: Callable[[IReactorTime], Strangers] = Strangers,
        isProvable: Callable[[Address], bool] = isGlobal,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param hosts: the names and addresses under which peers find the server, the best first.
        @param relayEndpoint: where the relay listens; by default, there is none.
        @param naming: where peers have names in the DNS; by default, nowhere.
        @param onChange: what is run when something about a peer changes.
        @param credentials: by default, they are made from the key in C{folder}.
        @param observer: by default, happenings go to the log.
        @param makeStrangers: what each service lets strangers do.
        @param isProvable: whether an address can be one that a router has leased to a peer.
        @raise ConfigurationError: when the folder or a host cannot be used.
        """
        clock: IReactorTime = reactor
        if credentials is None:
            credentials = selfSigned(Identity.inFolder(folder), tuple(hosts))
        self.identity = credentials.identity
        self.joinAddress: JoinAddress | None = None
        self._folder = folder
        self._hosts = tuple(hosts)
        self._registry = registry
        self._log = Logger()
        self._complaints = Complaints(self._log)
        watching = observer or LoggingObserver()
        population = self._population = Population()
        self._teller: Teller | None = None
        if onChange is not None:
            self._teller = makeTeller(reactor, onChange, folder)
            population.watchers.append(Telling(self._teller.tell))
        tokens = None if relayEndpoint is None else RelayTokens(clock, entropy)
        accounts = Accounts(clock, relayLimits or RelayLimits())
        self._introductions = Introductions(clock, entropy, population, watching, tokens, accounts)
        self._observations = Observations(clock, entropy)
        self._dialling = Dialling(reactor, entropy, Prober(reactor), isProvable)
        self._naming = naming
        self._names: NamingGate | None = None
        if naming is not None:
            self._names = naming.makeGate(
                clock=clock,
                entropy=entropy,
                population=population,
                complaints=self._complaints,
                hosts=self._hosts,
            )
        self._exchange = Exchange(
            clock,
            registry,
            watching,
            self._complaints,
            population,
            self._introductions,
            self._observations,
            self._dialling,
            zone=None if self._names is None else self._names.zone,
        )
        self._strangers = tuple(makeStrangers(clock) for _ in range(3))
        self._master = MasterGate(
            clock=clock,
            credentials=credentials,
            exchange=self._exchange,
            strangers=self._strangers[0],
            complaints=self._complaints,
        )
        self._assist = AssistGate(
            clock=clock,
            observations=self._observations,
            strangers=self._strangers[1],
            complaints=self._complaints,
        )
        self._gates: list[Gate] = [self._master, self._assist]
        if self._names is not None:
            self._gates.append(self._names)
        self._pipes = Pipes()
        self._relay: RelayGate | None = None
        if tokens is not None:
            room = Room(clock, population, watching, accounts, self._pipes)
            self._relay = RelayGate(
                clock=clock,
                pairs=Pairs(room, tokens),
                strangers=self._strangers[2],
                complaints=self._complaints,
            )
            self._gates.append(self._relay)
        self._relayEndpoint = relayEndpoint
        self._masterEndpoint = masterEndpoint
        self._assistEndpoints = list(assistEndpoints)
        self._ports: list[IListeningPort] = []
        self._isAsked = False
        self._isSettled = False
        self._failure: Failure | None = None
        self._waiting: list[Deferred[None]] = []
        self._sweeps = LoopingCall(self._sweep)
        self._sweeps.clock = clock

    def listen(self) -> Deferred[None]:
        """
        Take the ports, if nobody has asked for that yet. L{startService} does it; who wants to know
        before it whether the ports are free, such as C{twistd} before it goes into the background,
        asks earlier.

        @return: fires when all ports are taken and the file C{join} is written; fails with
            L{ConfigurationError} when one of them is not to be had. What was taken until then is
            given back by L{stopService}.
        """
        if not self._isAsked:
            self._isAsked = True
            Deferred.fromCoroutine(self._takePorts()).addBoth(self._settle)
        return self.whenListening()

    def whenListening(self) -> Deferred[None]:
        """
        @return: as of L{listen}, but without asking for it.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._isSettled:
            self._settle(self._failure)
        return waiting

    def startService(self) -> None:
        super().startService()
        if self._teller is not None:
            self._teller.startService()
        # Whoever wants to know asks whenListening.
        self.listen().addErrback(_nothing)
        self._sweeps.start(_SWEEP_PERIOD, now=False)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._sweeps.running:
            self._sweeps.stop()
        return Deferred.fromCoroutine(self._close())

    @property
    def peers(self) -> int:
        """
        How many are logged in.
        """
        return len(self._population)

    @property
    def relayed(self) -> int | None:
        """
        How many paths lead through the relay; C{None} without one.
        """
        return None if self._relay is None else len(self._relay.pairs)

    async def _takePorts(self) -> None:
        port = await self._take("--master", self._masterEndpoint, self._master)
        master = _addressOf("--master", port)
        assists = []
        for endpoint in self._assistEndpoints:
            port = await self._take("--assist", endpoint, self._assist)
            assist = _addressOf("--assist", port)
            assists.append(assist)
            self._exchange.assists.extend(assistsAt(assist, master, self._hosts))
            if isinstance(assist, IPv6Address) and not any(map(isIPv6, self._hosts)):
                self._warnOfIPv6(assist)
        self._exchange.assists.extend(assistsBeside(assists, master))
        del self._exchange.assists[MOST_ASSISTS:]
        if self._relayEndpoint is not None and self._relay is not None:
            port = await self._take("--relay", self._relayEndpoint, self._relay)
            place = assistsAt(_addressOf("--relay", port), master, self._hosts)[0]
            self._exchange.relays.append(Relay(place.host, place.port))
        if self._naming is not None and self._names is not None:
            for endpoint in self._naming.endpoints:
                await self._take("--dns", endpoint, self._names)
            self._log.info("{line}", line=self._names.zone.line())
        self.joinAddress = JoinAddress(self._hosts[0], master.port, self.identity.peerID)
        self._folder.write(JOIN_FILE, f"{self.joinAddress}\n".encode("ascii"))
        self._log.info("peers join with --server {address}", address=str(self.joinAddress))

    def _warnOfIPv6(self, assist: Address) -> None:
        if ip_address(assist.host).is_unspecified:
            self._log.warn(
                "peers are told no IPv6 address of the assist service at {address}: name one with "
                "--host, or bind the service to it",
                address=showAddress(assist),
            )

    async def _take(
        self, option: str, endpoint: IStreamServerEndpoint, gate: Gate
    ) -> IListeningPort:
        try:
            port: IListeningPort = await endpoint.listen(gate)
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise ConfigurationError(
                f"cannot listen on {error.interface or '*'} port {error.port}: {reason}; "
                f"choose another one with {option}"
            ) from None
        except (OSError, OverflowError, ValueError) as error:
            raise ConfigurationError(f"cannot listen as {option} says: {error}") from None
        self._ports.append(port)
        return port

    async def _close(self) -> None:
        if self._isAsked and not self._isSettled:
            await self.whenListening().addErrback(_nothing)
        # Nobody has gone because the server ends.
        telling = succeed(None) if self._teller is None else self._teller.stopService()
        ports, self._ports = self._ports, []
        await gatherResults([maybeDeferred(port.stopListening) for port in ports])
        self._introductions.stop()
        self._dialling.stop()
        await gatherResults([gate.showOut("the server ends") for gate in self._gates])
        self._pipes.close()
        await self._registry.close()
        await telling

    def _settle(self, result: Failure | None) -> None:
        self._isSettled, self._failure = True, result
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if result is None:
                one.callback(None)
            else:
                one.errback(result)

    def _sweep(self) -> None:
        for gate in self._gates:
            gate.sweep()
        self._introductions.sweep()
        self._observations.sweep()
        for strangers in self._strangers:
            strangers.forget()
        self._complaints.sweep()


def _addressOf(option: str, port: IListeningPort) -> Address:
    address = port.getHost()
    if not isinstance(address, IPv4Address | IPv6Address):
        raise ConfigurationError(f"{option} must be a TCP endpoint, as peers come from elsewhere")
    return address


def _nothing(failure: Failure) -> None:
    """
    For those who only want to know that it is over.
    """
