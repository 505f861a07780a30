"""
C{twistd punchd-server}: the public server from the command line.
"""

from __future__ import annotations

import re
import resource
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from punchd.errors import ConfigurationError, PunchdError
from punchd.identity.certificates import Credentials, brought, expired
from punchd.identity.folder import StateFolder
from punchd.server.hosts import checkedHost
from punchd.server.naming.starting import DatagramEndpoint, Naming
from punchd.server.naming.zone import TTL, checkedZone
from punchd.server.relaylimits import (
    MOST_PATHS,
    MOST_PATHS_OF_ALL,
    MOST_SECONDS,
    Bound,
    RelayLimits,
    parseAmount,
)
from punchd.server.service import PunchdServer, registryFor
from punchd.tap.options import (
    ON_CHANGE,
    PunchdOptions,
    defaultState,
    makeProgram,
    serverEndpoint,
)
from punchd.tap.program import Program

_PROGRAM = "punchd-server"

# The longest that anything about the address of a peer can be worth knowing.
_WEEK = 604800


class Options(PunchdOptions):
    """
    What stands on the command line of C{twistd punchd-server}.
    """

    program = _PROGRAM
    repeatable = ("host", "assist", "dns")
    synopsis = "[options]"
    longdesc = (
        "Introduces peers behind NATs to each other. On the first start it makes its key; the join "
        "address, which is all that a peer needs, is printed and stands in the file 'join' in the "
        "state folder."
    )
    optParameters: ClassVar = [
        ["state", None, defaultState(_PROGRAM), "Folder for the key and the registry."],
        ["master", None, "tcp:7761", "Endpoint of the master service; TLS is added to it."],
        ["relay", None, "tcp:7764", "Endpoint of the relay, or off."],
        [
            "relay-paths",
            None,
            f"{MOST_PATHS}/{MOST_PATHS_OF_ALL}",
            "PEER[/ALL]: relayed paths at a time, of one peer and of all; off for no limit.",
        ],
        [
            "relay-bytes",
            None,
            "100G/off",
            "PEER[/ALL]: bytes relayed in 24 hours, for one peer and for all.",
        ],
        ["relay-rate", None, "off/off", "PEER[/ALL]: bytes relayed a second, likewise."],
        [
            "relay-time",
            None,
            f"{MOST_SECONDS:.0f}",
            "Seconds that one relayed path may last, or off.",
        ],
        ["zone", None, None, "Zone in the DNS in which peers that want it have names."],
        ["dns-ttl", None, str(TTL), "Seconds that an answer about a peer may be kept."],
        [
            "dns-keep",
            None,
            "0",
            "Seconds for which the last address of a peer that has gone is named.",
        ],
        *ON_CHANGE,
        ["registry", None, None, "memory: or sqlite:PATH.  [default: sqlite: in the state folder]"],
        ["certificate", None, None, "Certificate (PEM), instead of one that is made."],
        ["private-key", None, None, "The certificate's private key (PEM)."],
        ["config", None, None, "TOML file with these same options; the command line wins."],
    ]

    def opt_host(self, host: str) -> None:
        """
        Public name or address of this machine: goes into the certificate, the first one into the
        join address. Repeatable.  [default: the fully qualified name]
        """
        self.collect("host", host)

    def opt_assist(self, endpoint: str) -> None:
        """
        Endpoint of an assist service. Repeatable.  [default: tcp:7762 and tcp:7763]
        """
        self.collect("assist", endpoint)

    def opt_dns(self, endpoint: str) -> None:
        """
        Endpoint of the DNS service: udp:PORT[:interface=ADDRESS], udp6:…, udp:systemd:…, or one for
        TCP. Repeatable.  [default: udp:53 and tcp:53, with --zone]
        """
        self.collect("dns", endpoint)

    def postOptions(self) -> None:
        super().postOptions()
        self.many["host"] = [checkedHost(host) for host in self.many["host"] or [socket.getfqdn()]]
        self.many["assist"] = self.many["assist"] or ["tcp:7762", "tcp:7763"]
        self.relayLimits = relayLimits(self)
        self.command = self.onChange()
        if self["zone"]:
            self["zone"] = checkedZone(self["zone"])
            self.many["dns"] = self.many["dns"] or ["udp:53", "tcp:53"]
        elif self.many["dns"]:
            raise usage.UsageError("--dns needs --zone NAME: the zone in which peers have names")
        self.ttl = _seconds(self, "dns-ttl")
        self.keep = _seconds(self, "dns-keep")
        if bool(self["certificate"]) != bool(self["private-key"]):
            raise usage.UsageError("--certificate and --private-key are given together, or neither")


def _seconds(options: PunchdOptions, name: str) -> int:
    """
    The seconds in an option, up to a week.

    @raise ConfigurationError: when it has none.
    """
    text = options[name]
    if re.fullmatch(r"[0-9]{1,6}", text) is None or int(text) > _WEEK:
        raise ConfigurationError(f"--{name} takes seconds, from 0 to {_WEEK}, not {text!r}")
    return int(text)


def relayLimits(options: PunchdOptions) -> RelayLimits:
    """
    What the options C{--relay-…} say.

    @raise ConfigurationError: when one of them cannot be understood.
    """
    standard = RelayLimits()

    def bound(name: str, usual: Bound) -> Bound:
        return Bound.parse(options[name], usual, f"--{name}")

    return RelayLimits(
        paths=bound("relay-paths", standard.paths),
        bytes=bound("relay-bytes", standard.bytes),
        rate=bound("relay-rate", standard.rate),
        seconds=parseAmount(options["relay-time"], "--relay-time"),
    )


@frozen
class Running:
    """
    A server, as those want to know it who have started it.
    """

    _server: PunchdServer

    def isReady(self, running: float) -> bool:
        """
        See L{Task.isReady<punchd.tap.program.Task>}.
        """
        return self._server.joinAddress is not None

    def line(self) -> str:
        """
        See L{Task.line<punchd.tap.program.Task>}.
        """
        server = self._server
        paths = "" if server.relayed is None else f"; relayed paths: {server.relayed}"
        return f"peers: {server.peers}{paths}; join address: {server.joinAddress}"

    def drain(self) -> Deferred[None]:
        """
        See L{Task.drain<punchd.tap.program.Task>}.
        """
        # Links survive the server, and the relay's paths; questions are answered at once.
        return succeed(None)


def makeService(options: Options) -> Program:
    """
    The server, with its ports taken: what is wrong with them is to be said before C{twistd} goes
    into the background.
    """
    from twisted.internet import reactor

    _raiseFileLimit()
    master = _endpoint(options, reactor, "master", options["master"])
    assists = [_endpoint(options, reactor, "assist", text) for text in options.many["assist"]]
    relay = None
    if options["relay"] != "off":
        relay = _endpoint(options, reactor, "relay", options["relay"])
    naming = None
    if options["zone"]:
        endpoints = [_dnsEndpoint(options, reactor, text) for text in options.many["dns"]]
        naming = Naming(options["zone"], endpoints, options.ttl, options.keep)
    try:
        credentials = _credentials(options)
        folder = StateFolder.at(options["state"])
        registry = options["registry"] or f"sqlite:{folder.file('registry.sqlite')}"
        server = PunchdServer(
            reactor=reactor,
            folder=folder,
            hosts=options.many["host"],
            masterEndpoint=master,
            assistEndpoints=assists,
            relayEndpoint=relay,
            relayLimits=options.relayLimits,
            naming=naming,
            onChange=options.command,
            registry=registryFor(registry, reactor),
            credentials=credentials,
        )
        _raiseIfFailed(server.listen())
    except PunchdError as error:
        options.fail(str(error), 1)
    if server.joinAddress is not None:
        sys.stdout.write(f"join address: {server.joinAddress}\n")
        sys.stdout.flush()
    return makeProgram(reactor, options, server, Running(server))


def _endpoint(options: Options, reactor: Any, name: str, text: str) -> IStreamServerEndpoint:
    try:
        return serverEndpoint(reactor, text, f"--{name}")
    except ConfigurationError as error:
        options.fail(f"{error}; try tcp:PORT", 2)


def _dnsEndpoint(options: Options, reactor: Any, text: str) -> IStreamServerEndpoint:
    if not text.startswith("udp"):
        return _endpoint(options, reactor, "dns", text)
    try:
        return DatagramEndpoint.parse(reactor, text)
    except ConfigurationError as error:
        options.fail(f"--dns {error}", 2)


def _credentials(options: Options) -> Credentials | None:
    """
    Those that the operator brings, if any.
    """
    certificate, key = options["certificate"], options["private-key"]
    if not certificate:
        return None
    pems: Sequence[bytes] = [_content(path) for path in (certificate, key)]
    credentials = brought(pems[0], pems[1], f"{certificate} and {key}")
    if expired(credentials.certificate, datetime.now(UTC)):
        raise ConfigurationError(
            f"the certificate in {certificate} is expired or not yet valid "
            f"(until {credentials.certificate.not_valid_after_utc:%Y-%m-%d})"
        )
    return credentials


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None


def _raiseIfFailed(listening: Deferred[None]) -> None:
    """
    TCP ports are taken at once or never. Other endpoints may take their time; what becomes of them
    goes to the log, and ends the process.
    """
    failures: list[Failure] = []
    isNow = True

    def failed(failure: Failure) -> None:
        if isNow:
            failures.append(failure)
        else:
            from twisted.internet import reactor

            Logger().critical("{reason}", reason=failure.getErrorMessage())
            reactor.stop()

    listening.addErrback(failed)
    isNow = False
    if failures:
        failures[0].raiseException()


def _raiseFileLimit() -> None:
    """
    Each peer is an open file; the usual limit of 1,024 is meant for programs that use select().
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        # macOS has a lower limit of its own; then it stays as it is.
        Logger().debug("the limit of open files stays as it is")
