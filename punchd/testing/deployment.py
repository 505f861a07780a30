"""
Real processes in a NAT lab: a C{punchd-server}, and any number of C{punchd-peer}s that trust each
other::

    with NatLab() as lab, Deployment(lab.addPublic("server")) as deployment:
        alice = deployment.addPeer(lab.addHost("alice", "port-restricted"))
        bob = deployment.addPeer(lab.addHost("bob", "shifted"))
        deployment.acquaint()
        deployment.start()
        assert alice.ping(bob)["path"] == "direct"
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

from attrs import evolve

from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity
from punchd.identity.pins import Pins
from punchd.testing.daemons import Daemon, DeploymentError, ask, isConnected, program
from punchd.testing.natlab import Host
from punchd.values.joining import JoinAddress

__all__ = ["Deployment", "DeploymentError", "PeerProcess", "ServerProcess"]

# A punch that finds nothing takes eight seconds, the introduction and the process a little more.
_PING_PATIENCE = 20.0

# Processes that start at the same time: each keeps a processor busy for most of a second, and one
# that starts behind twenty others would not be ready within anybody's patience.
_STARTING = 4


class ServerProcess(Daemon):
    """
    The server of a deployment.
    """

    def __init__(self, host: Host, folder: Path, options: Sequence[str]) -> None:
        super().__init__(host, "server", folder)
        self._options = tuple(options)

    def arguments(self) -> list[str]:
        return ["punchd-server", "--host", self.host.address, *self._assists(), *self._options]

    def _assists(self) -> list[str]:
        """
        On a host with several addresses, the assist service listens at each of the first two: so it
        can tell more of NATs.
        """
        addresses = self.host.addresses[:2]
        if len(addresses) < 2 or "--assist" in self._options:
            return []
        ports = (7762, 7763)
        return [
            word
            for address in addresses
            for port in ports
            for word in ("--assist", f"tcp:{port}:interface={address}")
        ]

    def isReady(self) -> bool:
        return "join address: " in self.said()

    @property
    def joinAddress(self) -> str:
        """
        What peers need to find it, once it has started for the first time.
        """
        return (self.state / "join").read_text().strip()

    def joinAddressAt(self, host: str | None) -> str:
        """
        The join address with another address of the server in it.
        """
        join = JoinAddress.parse(self.joinAddress)
        return str(join if host is None else evolve(join, host=host))


class PeerProcess(Daemon):
    """
    One peer of a deployment; L{Deployment.addPeer} makes it.

    @ivar peerID: as C{punchd id} prints it.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        folder: Path,
        servers: Callable[[], Iterable[str]],
        exposures: Mapping[str, str],
        forwards: Mapping[str, str],
        options: Sequence[str],
    ) -> None:
        super().__init__(host, name, folder)
        self._servers = servers
        self._exposures = dict(exposures)
        self._forwards = dict(forwards)
        self._options = tuple(options)
        self._folder = StateFolder.at(str(self.state))
        self.peerID = Identity.inFolder(self._folder).peerID

    def arguments(self) -> list[str]:
        options = ["punchd-peer", "--name", self.name]
        for server in self._servers():
            options += ["--server", server]
        for service, endpoint in self._exposures.items():
            options += ["--expose", f"{service}={endpoint}"]
        for listen, target in self._forwards.items():
            options += ["--forward", f"{listen}={target}"]
        return [*options, *self._options]

    def isReady(self) -> bool:
        """
        Whether it is connected, and knows what kind of mapping it is behind, or that nobody can
        say.
        """
        servers = (self.status() or {}).get("servers", [])
        return any(server["connected"] and server["nat"] for server in servers)

    def knowsNat(self) -> bool:
        """
        Whether it has found out all that can be known of its NAT.
        """
        return bool((ask(self.state, "nat", again="no") or {}).get("complete"))

    def status(self) -> dict[str, Any] | None:
        """
        As C{punchd status --json} shows it, but without a process for that; C{None} when there is
        no answer.
        """
        return ask(self.state, "status")

    def observed(self) -> str:
        """
        C{ADDRESS:PORT} where its server sees it: the outside of the port that it is called at.

        @raise DeploymentError: when it is not connected.
        """
        for server in (self.status() or {}).get("servers", []):
            if server["observed"]:
                return str(server["observed"])
        raise self.error("is not connected")

    def trust(self, other: PeerProcess) -> None:
        """
        Pin another peer under its name, before this one is started.
        """
        Pins.inFolder(self._folder).trust(other.name, other.peerID)

    def command(
        self, *arguments: str, check: bool = True, timeout: float = _PING_PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """
        Run C{punchd} for this peer, on its host.

        @param arguments: all but C{--state}.
        @param check: whether an exit status other than 0 is an error.
        """
        subcommand, *rest = arguments
        return self.host.run(
            [program("punchd"), subcommand, "--state", self.state, *rest],
            check=check,
            timeout=timeout,
        )

    def ping(self, other: PeerProcess) -> dict[str, Any]:
        """
        What C{punchd ping --again --json} says of another peer, whether there is a path or not.
        """
        done = self.command("ping", other.name, "--again", "--json", check=False)
        return self.facts(done.stdout, f"punchd ping {other.name}: {done.stderr.strip()}")

    def fetch(self, other: PeerProcess, service: str, timeout: float = _PING_PATIENCE) -> bytes:
        """
        Everything that a service of another peer gives before it ends the stream, by C{punchd
        connect}, which is told nothing.
        """
        target = f"{other.name}/{service}"
        process = self.host.popen(
            [program("punchd"), "connect", "--state", str(self.state), target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        watchdog = Timer(timeout, process.kill)
        watchdog.start()
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            content: bytes = process.stdout.read()
            # Not before: the end of its input would be told to the service.
            process.stdin.close()
            problem: bytes = process.stderr.read()
        watchdog.cancel()
        if process.returncode != 0:
            raise self.error(f"cannot fetch {target}: {problem.decode()}")
        return content

    def linked(self, other: PeerProcess) -> dict[str, Any]:
        """
        What C{status} says of the link to another peer; empty if there was never one.
        """
        links: dict[str, Any] = (self.status() or {}).get("links", {})
        return dict(links.get(other.name, {}))

    def awaitConnected(self, connected: bool = True, timeout: float = 20.0) -> float:
        """
        Wait until the server is there, or is missed.

        @return: the seconds that it took.
        """
        what = "connected to the server" if connected else "aware that the server is gone"
        return self.waitFor(lambda: isConnected(self.status()) is connected, what, timeout)


class Deployment:
    """
    One server, its peers, and the folder with everything of theirs. Whoever makes it closes it,
    best by C{with}, before the lab.

    @ivar server: its process.
    @ivar peers: by name.
    @ivar folder: temporary; tests may put their own things here. Its path is short enough for UNIX
        sockets.
    """

    def __init__(self, server: Host, options: Sequence[str] = (), relay: bool = False) -> None:
        """
        @param options: more options for C{punchd-server}.
        @param relay: whether the server has one, so that peers without a direct path have another.
        """
        if not relay:
            options = (*options, "--relay", "off")
        self.folder = Path(tempfile.mkdtemp(prefix="punchd-lab-"))
        self.server = ServerProcess(server, self.folder, options)
        self.peers: dict[str, PeerProcess] = {}

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def daemons(self) -> list[Daemon]:
        """
        All processes, the server's first.
        """
        return [self.server, *self.peers.values()]

    def close(self) -> None:
        """
        End all processes, and remove the folder. Harmless when repeated.
        """
        for daemon in self.daemons:
            daemon.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def addPeer(
        self,
        host: Host,
        name: str | None = None,
        *,
        exposures: Mapping[str, str] | None = None,
        forwards: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        at: str | None = None,
    ) -> PeerProcess:
        """
        Add a peer, which is not started yet.

        @param name: by default, the host's.
        @param exposures: client endpoint strings by service.
        @param forwards: C{PEER/SERVICE} by where to listen.
        @param options: more options for C{punchd-peer}.
        @param at: the address of the server that it is told, if it is not the server's first one.
        """
        name = name or host.name
        if name in self.peers:
            raise ValueError(f"there is a peer {name!r} already")
        peer = PeerProcess(
            host,
            name,
            self.folder,
            lambda: [self.server.joinAddressAt(at)],
            exposures or {},
            forwards or {},
            options,
        )
        self.peers[name] = peer
        return peer

    def acquaint(self, peers: Iterable[PeerProcess] | None = None) -> None:
        """
        Let peers trust each other; it is to be done before they start.

        @param peers: by default, all that there are.
        """
        chosen = list(self.peers.values() if peers is None else peers)
        for peer in chosen:
            for other in chosen:
                if other is not peer:
                    peer.trust(other)

    def start(self, started: Callable[[str], None] = lambda name: None) -> None:
        """
        Start what is not running, and wait until all of it is ready, so that every peer can reach
        every other.

        @param started: called with the name of each that is.
        @raise DeploymentError: when one does not come up; the error has its log.
        """

        def startOne(daemon: Daemon) -> None:
            daemon.start()
            daemon.awaitReady()
            started(daemon.name)

        if not self.server.isRunning:
            startOne(self.server)
        waiting = [peer for peer in self.peers.values() if not peer.isRunning]
        with ThreadPoolExecutor(_STARTING) as pool:
            for _ in pool.map(startOne, waiting):
                pass

    def awaitKnown(self, timeout: float = 20.0) -> None:
        """
        Wait until every peer knows all that can be known of its NAT.

        @raise DeploymentError: when it takes longer than C{timeout}, in seconds.
        """
        for peer in self.peers.values():
            peer.waitFor(peer.knowsNat, "sure of its NAT", timeout)

    def logged(self, since: Mapping[str, int] | None = None) -> str:
        """
        The last lines that each process has logged.

        @param since: leaves out what is older than this; see L{marks}.
        """
        told = []
        for daemon in self.daemons:
            lines = daemon.said(None if since is None else since.get(daemon.name, 0))
            if lines.strip():
                told.append(f"--- {daemon.name}\n{lines}")
        return "\n".join(told)

    def marks(self) -> dict[str, int]:
        """
        How much each has logged so far.
        """
        return {daemon.name: daemon.logged for daemon in self.daemons}
