"""
Services of a peer that anybody may reach, at the router's public address: C{--publish}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from punchd.errors import ConfigurationError
from punchd.nat.leases import Leases
from punchd.nat.wish import NOT_ASKED, Wish
from punchd.net.backlog import BACKLOG
from punchd.net.splicing import Splices
from punchd.peer.exposure import Exposure
from punchd.peer.leased import hasNatBefore
from punchd.peer.master import MasterClient
from punchd.peer.strangers import PublishedFactory
from punchd.values.addresses import Address, makeAddress, showAddress
from punchd.values.peers import PeerID, checkedName

_log = Logger()

#: Seconds between two looks at what servers say of us.
GLANCE = 1.0

#: Where the local ports of published services begin, and how many there are: above those of other
#: servers, and below those that kernels give out by themselves.
_FIRST_LOCAL = 20000
_LOCAL_PORTS = 12000


def localPort(peerID: PeerID, service: str) -> int:
    """
    The local port for a service behind a NAT, if it is free: always the same, so that a router
    which still has a lease of ours, from before a power cut, takes us for whom it was made.
    """
    digest = sha256(peerID.digest + service.encode("ascii")).digest()
    return _FIRST_LOCAL + int.from_bytes(digest[:4], "big") % _LOCAL_PORTS


@frozen
class Publication:
    """
    C{SERVICE[=PORT]}.

    @ivar port: on the router, 0 for any.
    """

    service: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Publication:
        """
        @raise ConfigurationError: when C{text} is not of that form.
        """
        service, equals, port = text.partition("=")
        if equals and (re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 < int(port) < 65536):
            raise ConfigurationError(
                f"expected --publish SERVICE[=PORT] with a port from 1 to 65535, not {text!r}"
            )
        return cls(checkedName(service, "service"), int(port or 0))


def portOf(description: str) -> int:
    """
    The port in a client endpoint string, if it is one for TCP; else 0.
    """
    if not description.startswith("tcp:"):
        return 0
    # A colon in a value is written with a backslash.
    parts = re.split(r"(?<!\\):", description)[1:]
    plain = [part for part in parts if "=" not in part]
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    port = named.get("port") or (plain[-1] if len(plain) > ("host" not in named) else "")
    return int(port) if re.fullmatch(r"[0-9]{1,5}", port) and int(port) < 65536 else 0


class Published:
    """
    One service, and where it is to be reached. Made by L{Publishing}.

    @ivar address: where; C{None} while it is not.
    @ivar by: how: the protocol by which the router was asked, or C{no NAT}.
    @ivar problem: why not, or what is not as it was wanted.
    """

    def __init__(
        self,
        reactor: Any,
        leases: Leases,
        publication: Publication,
        exposure: Exposure,
        local: int,
        note: Callable[[str], None],
        splices: Splices | None = None,
    ) -> None:
        """
        @param local: the local port behind a NAT, if it is free.
        @param splices: those that the strangers' connections are to belong to.
        """
        self.publication = publication
        self.address: Address | None = None
        self.by: str | None = None
        self.problem = "no server has told yet how it sees this peer"
        self._reactor = reactor
        self._leases = leases
        self._local = local
        self._note = note
        self._factory = PublishedFactory(reactor, publication.service, exposure, splices)
        self._listener: IListeningPort | None = None
        self._wish: Wish | None = None
        self._own: str | None = None
        self._observed: set[str] = set()
        self._said = ""

    @property
    def secrets(self) -> set[bytes]:
        """
        What servers know that are expected to look for us at C{address}.
        """
        return self._factory.secrets

    def noNat(self, host: str) -> None:
        """
        A server sees us under our own address C{host}: it is enough to listen there.
        """
        if self._own == host:
            return
        self._end()
        self._own = None
        wanted = self.publication.port
        self._listen(wanted, host)
        if self._listener is None:
            self._show(None, None, f"port {wanted} of {host} cannot be listened on: {self.problem}")
            return
        self._own = host
        self._show(makeAddress(host, self._number), "no NAT", "")

    def behindNat(self, observed: set[str]) -> None:
        """
        Servers see us at the addresses C{observed}, which are not ours.
        """
        self._observed = observed
        if self._wish is None:
            self._end()
            self._own = None
            self._listen(self._local, "")
            if self._listener is None:
                self._listen(0, "")
            if self._listener is None:
                self._show(None, None, f"no port can be listened on: {self.problem}")
                return
            self._wish = self._leases.want(self._number, self._tell, self.publication.port)
        self._tell()

    def _tell(self) -> None:
        if self._wish is None:
            return
        lease, observed = self._wish.lease, self._observed
        if lease is None:
            self._show(None, None, self._wish.problem)
        elif lease.external.host not in observed:
            if not self._wish.doubt(observed):
                return
            self._show(
                None,
                None,
                f"the router lends {showAddress(lease.external)}, but the server sees us at "
                f"{', '.join(sorted(observed))}: another NAT stands before the router",
            )
        else:
            wanted = self.publication.port
            other = wanted not in (0, lease.external.port)
            problem = f"the router does not lend port {wanted}, but this one" if other else ""
            self._show(lease.external, lease.by, problem)

    def unknown(self, problem: str) -> None:
        """
        Servers see us where no lease helps.
        """
        if self._wish is None and self._listener is None:
            self._show(None, None, problem)

    def _listen(self, number: int, host: str) -> None:
        try:
            self._listener = self._reactor.listenTCP(number, self._factory, BACKLOG, host)
        except CannotListenError as error:
            reason = error.socketError
            self.problem = getattr(reason, "strerror", None) or str(reason)

    @property
    def _number(self) -> int:
        assert self._listener is not None
        where: Any = self._listener.getHost()
        return int(where.port)

    def _show(self, address: Address | None, by: str | None, problem: str) -> None:
        self.address, self.by, self.problem = address, by, problem
        service = self.publication.service
        if address is None:
            line = f"{service} is not published: {problem}"
        else:
            line = f"{service} is published at {showAddress(address)} ({problem or by})"
        if line != self._said and problem != NOT_ASKED:
            self._said = line
            self._note(line)

    def _end(self) -> list[Deferred[Any]]:
        wish, self._wish = self._wish, None
        listener, self._listener = self._listener, None
        ending: list[Deferred[Any]] = []
        if wish is not None:
            ending.append(wish.drop())
        if listener is not None:
            ending.append(maybeDeferred(listener.stopListening))
        return ending

    def close(self) -> None:
        """
        No more strangers. The router keeps the port for those who are there.
        """
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stopListening()

    def stop(self) -> Deferred[Any]:
        """
        No more strangers, and an end to those who are there.
        """
        self._factory.abort()
        return DeferredList(self._end())

    def toJSON(self) -> dict[str, Any]:
        """
        As C{punchd status --json} shows it.
        """
        return {
            "address": None if self.address is None else showAddress(self.address),
            "by": self.by,
            "problem": self.problem or None,
        }


def publishedOf(
    reactor: Any,
    leases: Leases,
    peerID: PeerID,
    publications: Sequence[Publication],
    exposures: Mapping[str, Exposure],
    note: Callable[[str], None],
    splices: Splices | None = None,
) -> list[Published]:
    """
    What a peer publishes of its exposures.

    @raise ConfigurationError: when one of them is not there.
    """
    published = []
    for one in publications:
        service, exposure = one.service, exposures.get(one.service)
        if exposure is None:
            raise ConfigurationError(
                f"--publish {service}: there is no such service; say --expose {service}=ENDPOINT, "
                "too"
            )
        local = localPort(peerID, service)
        published.append(Published(reactor, leases, one, exposure, local, note, splices))
    return published


class Publishing(Service):
    """
    Made with the peer; runs as long as it does.
    """

    def __init__(
        self,
        reactor: Any,
        clients: Sequence[MasterClient],
        published: Sequence[Published],
    ) -> None:
        self._clients = clients
        self._published = published
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def startService(self) -> None:
        super().startService()
        if self._published:
            self._looking.start(GLANCE, now=False)

    def close(self) -> None:
        """
        Let nobody in any more.
        """
        if self._looking.running:
            self._looking.stop()
        for one in self._published:
            one.close()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        return DeferredList([one.stop() for one in self._published])

    def _look(self) -> None:
        try:
            self._lookOnce()
        except Exception:
            # The next look does not suffer from it.
            _log.failure("while publishing services")

    def _lookOnce(self) -> None:
        seen: dict[bool | None, set[str]] = {}
        for client in self._clients:
            if client.welcome is not None:
                seen.setdefault(hasNatBefore(client), set()).add(client.welcome.observed.host)
        for one in self._published:
            if True in seen:
                one.behindNat(seen[True])
            elif False in seen:
                one.noNat(min(seen[False]))
            elif None in seen:
                hosts = ", ".join(sorted(seen[None]))
                one.unknown(f"the server sees us at {hosts}, where no router's port helps")

    def toJSON(self) -> dict[str, Any]:
        """
        All of them by name, as C{punchd status --json} shows them.
        """
        return {one.publication.service: one.toJSON() for one in self._published}
