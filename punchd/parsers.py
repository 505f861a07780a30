"""
The endpoint strings C{punchd:PEER/SERVICE}, for clients, and C{punchd:SERVICE}, for servers.

With C{state=DIR} alone, or nothing, they lead over the peer that runs with that state folder. With
C{server=JOIN} and C{name=NAME}, the process itself becomes a peer, as long as it needs one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from punchd.endpoints import PunchdClientEndpoint, PunchdServerEndpoint, makePeer
from punchd.errors import ConfigurationError
from punchd.identity.folder import StateFolder, defaultState
from punchd.interfaces import IStreamExposer, IStreamOpener
from punchd.peer.forwarding import Target
from punchd.peer.running import RunningPeer
from punchd.peer.service import PunchdPeer
from punchd.values.joining import JoinAddress
from punchd.values.peers import PeerAddress, checkedName

if TYPE_CHECKING:
    from punchd.interfaces import StreamTaker

_log = Logger()

#: Seconds for which a peer of this process stays after the last that used it: a client that
#: connects again does not wait for the server again.
LINGER = 5.0

#: Seconds for which the first stream waits until a peer that was just started is connected to its
#: server, and how often that is looked at.
JOINING = 10.0
_GLANCE = 0.05

_ARGUMENTS = ("state", "server", "name")


def parseClient(
    reactor: Any, arguments: Sequence[str], named: Mapping[str, str]
) -> PunchdClientEndpoint:
    """
    Read C{punchd:PEER/SERVICE[:state=DIR][:server=JOIN:name=NAME]}.

    @raise ConfigurationError: when it is not of that form.
    """
    target = Target.parse(_only("PEER/SERVICE", arguments, named))
    return PunchdClientEndpoint(_peerFor(reactor, named), target.peer, target.service)


def parseServer(
    reactor: Any, arguments: Sequence[str], named: Mapping[str, str]
) -> PunchdServerEndpoint:
    """
    Read C{punchd:SERVICE[:state=DIR][:server=JOIN:name=NAME]}.

    @raise ConfigurationError: when it is not of that form.
    """
    service = checkedName(_only("SERVICE", arguments, named), "service in punchd:SERVICE")
    return PunchdServerEndpoint(_peerFor(reactor, named), service)


def _only(what: str, arguments: Sequence[str], named: Mapping[str, str]) -> str:
    for name in named:
        if name not in _ARGUMENTS:
            raise ConfigurationError(
                f"punchd:{what} takes the arguments {', '.join(_ARGUMENTS)}, not {name[:80]!r}"
            )
    if not arguments:
        raise ConfigurationError(f"expected punchd:{what}")
    if len(arguments) > 1:
        raise ConfigurationError(
            f"what is {arguments[1][:80]!r} in punchd:{what}? A colon within an argument has a "
            "backslash before it: server=example.org\\:7761"
        )
    return arguments[0]


def _peerFor(reactor: Any, named: Mapping[str, str]) -> OwnPeer | RunningPeer:
    state = named.get("state") or defaultState("punchd-peer")
    folder = Path(state).expanduser()
    server, name = named.get("server"), named.get("name")
    if server is None and name is None:
        return RunningPeer(reactor, StateFolder(folder))
    if server is None or name is None:
        raise ConfigurationError(
            "a process that is to be a peer itself needs both server=JOIN and name=NAME; without "
            "them, the peer is meant that runs with the state folder"
        )
    wanted = OwnPeer(
        reactor,
        str(folder),
        checkedName(name, "name in name="),
        tuple(JoinAddress.parse(one) for one in server.split(",")),
    )
    return _shared(reactor, wanted)


#: By reactor and state folder, the peers of this process. Endpoint strings have no other place
#: where those of one folder could meet; two peers with one key would throw each other out.
_ownPeers: WeakKeyDictionary[Any, dict[str, OwnPeer]] = WeakKeyDictionary()


def _shared(reactor: Any, wanted: OwnPeer) -> OwnPeer:
    peers = _ownPeers.setdefault(reactor, {})
    place = os.path.realpath(wanted.state)
    known = peers.get(place)
    if known is not None and known.isLike(wanted):
        return known
    if known is not None and known.isUsed:
        raise ConfigurationError(
            f"this process is a peer with the state folder {wanted.state} already, under another "
            "name or with another server; give each its own state="
        )
    peers[place] = wanted
    return wanted


@implementer(IStreamOpener, IStreamExposer)
@define(eq=False)
class OwnPeer:
    """
    A peer of this process, which is started for the first that uses it, and stopped when nobody
    does any more, or with the reactor.
    """

    _reactor: Any
    state: str
    name: str
    servers: tuple[JoinAddress, ...]
    address: PeerAddress | None = field(default=None, init=False)
    _peer: PunchdPeer | None = field(default=None, init=False)
    _users: int = field(default=0, init=False)
    _lingering: IDelayedCall | None = field(default=None, init=False)
    _trigger: Any = field(default=None, init=False)
    _stopping: Deferred[None] | None = field(default=None, init=False)

    def isLike(self, other: OwnPeer) -> bool:
        """
        Whether both describe the same peer.
        """
        return (self.name, self.servers) == (other.name, other.servers)

    @property
    def isUsed(self) -> bool:
        """
        Whether the peer runs.
        """
        return self._peer is not None

    def openStream(self, peer: str, service: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._open(peer, service))

    async def _open(self, peer: str, service: str) -> Any:
        own = await self._use()
        try:
            await self._join(own)
            stream = await own.openStream(peer, service)
        except BaseException:
            self._leave()
            raise
        self._leaveAfter(stream)
        return stream

    def expose(self, service: str, taker: StreamTaker) -> Deferred[Callable[[], Deferred[None]]]:
        return Deferred.fromCoroutine(self._expose(service, taker))

    async def _expose(self, service: str, taker: StreamTaker) -> Callable[[], Deferred[None]]:
        own = await self._use()
        self.address = own.address

        def take(stream: Any) -> None:
            self._users += 1
            self._leaveAfter(stream)
            taker(stream)

        try:
            remove = await own.expose(service, take)
        except BaseException:
            self._leave()
            raise

        def stop() -> Deferred[None]:
            self._leave()
            return remove()

        return stop

    async def _use(self) -> PunchdPeer:
        """
        The peer, which runs until there were as many calls of L{_leave}.

        @raise ConfigurationError: when it cannot be made or started.
        """
        while self._stopping is not None:
            await deferLater(self._reactor, _GLANCE)
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._peer is None:
            peer = makePeer(self._reactor, self.state, self.name, self.servers)
            peer.startService()
            self._peer = peer
            self._trigger = self._reactor.addSystemEventTrigger(
                "before", "shutdown", self._shutDown
            )
        self._users += 1
        return self._peer

    async def _join(self, peer: PunchdPeer) -> None:
        # When it takes longer, opening a stream fails, and says why.
        until = self._reactor.seconds() + JOINING
        while not peer.isReady and self._reactor.seconds() < until:
            await deferLater(self._reactor, _GLANCE)

    def _leaveAfter(self, stream: Any) -> None:
        stream.whenOver().addCallback(lambda _: self._leave())

    def _leave(self) -> None:
        self._users -= 1
        if not self._users and self._peer is not None:
            self._lingering = self._reactor.callLater(LINGER, self._stop)

    def _shutDown(self) -> Deferred[None] | None:
        self._trigger = None
        return self._stop()

    def _stop(self) -> Deferred[None] | None:
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        self._lingering = None
        peer, self._peer = self._peer, None
        if peer is None:
            return self._stopping
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        self._stopping = peer.stopService()

        def stopped(result: Any) -> Any:
            self._stopping = None
            return result

        self._stopping.addBoth(stopped)
        return self._stopping
