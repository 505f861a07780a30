"""
C{twistd punchd-peer}.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python import usage

from punchd.errors import ConfigurationError, PunchdError
from punchd.identity.folder import StateFolder
from punchd.interfaces import IStrategy
from punchd.link.flow import BUFFERED, EARLY, STREAMS, Limits
from punchd.net.awake import Awake
from punchd.peer.access import parseNamed, parseRule
from punchd.peer.exposure import Exposure, splitVersion
from punchd.peer.forwarding import parseForward
from punchd.peer.guesses import MOST_GUESSES
from punchd.peer.publishing import Publication, portOf
from punchd.peer.service import PunchdPeer
from punchd.plugin import loadStrategies, strategyMakers
from punchd.tap.memory import keepFreedMemory
from punchd.tap.options import (
    ON_CHANGE,
    PunchdOptions,
    defaultState,
    makeProgram,
    serverEndpoint,
)
from punchd.tap.program import Program
from punchd.values.joining import JoinAddress
from punchd.values.naming import asciiLabel, checkedLabel
from punchd.values.peers import checkedName

#: Seconds that streams have to finish when the peer is stopped.
DRAIN = 5.0

#: Seconds after which a peer is taken for ready that no server has let in or turned away.
LOGGING_IN = 10.0

#: The most that C{--streams} may be: half of what a link may hold is left for windows then.
MOST_STREAMS = BUFFERED // (2 * EARLY)


class Options(PunchdOptions):
    """
    The command line of C{twistd punchd-peer}.
    """

    program = "punchd-peer"
    synopsis = "[options]"
    longdesc = (
        "Reaches services of other peers behind NATs, and offers them its own, directly where "
        "there is a way. On the first start it makes its key; 'punchd id' prints its ID, and "
        "'punchd trust NAME ID', said at both ends, lets two peers meet."
    )
    repeatable = ("server", "expose", "forward", "publish", "allow")
    optParameters: ClassVar = [
        ["name", None, None, "this peer's name"],
        ["state", None, None, "folder for key, pins and control socket"],
        ["ca", None, None, "PEM file with the roots that vouch for servers given without #PIN"],
        ["strategies", None, None, "strategies to use, best first: a,b,c"],
        [
            "guesses",
            None,
            str(MOST_GUESSES),
            "SYNs to guessed ports that one introduction may cost; 0 for none",
        ],
        [
            "survive",
            None,
            f"{Limits().survival:.0f}",
            "seconds that a link and its streams live on without any path",
        ],
        [
            "drain",
            None,
            f"{DRAIN:.0f}",
            "seconds that streams have to finish when the peer is stopped",
        ],
        [
            "streams",
            None,
            str(STREAMS),
            "streams that one link carries at once, each with a local connection",
        ],
        *ON_CHANGE,
        ["config", None, None, "these options as TOML; the command line wins"],
    ]
    optFlags: ClassVar = [
        ["publish-address", None, "this peer's name and address may appear in the servers' DNS"],
        ["no-relay", None, "direct or nothing"],
    ]

    def opt_server(self, address: str) -> None:
        """
        HOST[:PORT][#PIN] of a server, repeatable
        """
        self.collect("server", address)

    def opt_expose(self, exposure: str) -> None:
        """
        NAME=ENDPOINT: a service of this peer, repeatable; with proxy-v1: or proxy-v2: before
        ENDPOINT, it is told by the PROXY protocol who comes
        """
        self.collect("expose", exposure)

    def opt_forward(self, forward: str) -> None:
        """
        LISTEN=PEER/SERVICE: LISTEN is a port, HOST:PORT or an endpoint string; or socks:PORT or
        socks:HOST:PORT, for all services of all peers by the name SERVICE.PEER; repeatable
        """
        self.collect("forward", forward)

    def opt_publish(self, publication: str) -> None:
        """
        SERVICE[=PORT]: reachable for anybody at the router's public address too, repeatable
        """
        self.collect("publish", publication)

    def opt_allow(self, rule: str) -> None:
        """
        PEER[=SERVICE,...]: who may reach what, repeatable [every pinned peer, everything]
        """
        self.collect("allow", rule)

    def postOptions(self) -> None:
        super().postOptions()
        if not self["name"]:
            raise usage.UsageError("say --name NAME: what this peer is called")
        self["name"] = checkedName(asciiLabel(self["name"], "--name"), "--name")
        if self["publish-address"]:
            checkedLabel(self["name"])
        if not self.many["server"]:
            raise usage.UsageError("say --server HOST[:PORT][#PIN]: where the server is")
        parseGuesses(self["guesses"])
        parseSeconds(self, "survive")
        parseSeconds(self, "drain")
        parseStreams(self["streams"])
        self["state"] = self["state"] or defaultState(self.program)
        self.command = self.onChange()
        for text in self.many["server"]:
            JoinAddress.parse(text)
        for text in self.many["expose"]:
            splitVersion(parseNamed(text, "--expose")[1])
        for text in self.many["forward"]:
            parseForward(text)
        for text in self.many["publish"]:
            Publication.parse(text)
        for rule in self.many["allow"]:
            parseRule(rule)


def parseGuesses(text: str) -> int:
    """
    The number in C{--guesses}.

    @raise ConfigurationError: when it is none.
    """
    if re.fullmatch(r"[0-9]{1,4}", text) is None or int(text) > MOST_GUESSES:
        raise ConfigurationError(f"--guesses takes a number from 0 to {MOST_GUESSES}, not {text!r}")
    return int(text)


def parseSeconds(options: Options, name: str) -> float:
    """
    The seconds in an option.

    @raise ConfigurationError: when they are no such number.
    """
    text: str = options[name]
    if re.fullmatch(r"[0-9]{1,6}", text) is None:
        raise ConfigurationError(f"--{name} takes seconds, from 0 to 999999, not {text!r}")
    return float(text)


def parseStreams(text: str) -> int:
    """
    The number in C{--streams}.

    @raise ConfigurationError: when it is none, or a link has no room for as many.
    """
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 0 < int(text) <= MOST_STREAMS:
        raise ConfigurationError(f"--streams takes a number from 1 to {MOST_STREAMS}, not {text!r}")
    return int(text)


def chosenStrategies(text: str | None, loaded: dict[str, IStrategy]) -> list[str] | None:
    """
    The names in C{--strategies}, or C{None} without it.

    @raise ConfigurationError: when one of them is not installed.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in loaded:
            raise ConfigurationError(
                f"there is no strategy {name!r}; installed: {', '.join(sorted(loaded))}"
            )
    return list(dict.fromkeys(names))


def _clientEndpoint(reactor: Any, description: str) -> IStreamClientEndpoint:
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
    except Exception as error:  # parsers of endpoint strings, other people's too, raise anything
        raise ConfigurationError(
            f"--expose: {description!r} is no endpoint: {error}; try tcp:HOST:PORT or unix:PATH"
        ) from None
    return endpoint


def makePeer(options: Options, reactor: Any) -> PunchdPeer:
    """
    The peer that C{options} describe.

    @raise ConfigurationError: when they do not fit together, or the state folder is not usable.
    """
    many = options.many
    exposures = {}
    ports = {}
    for text in many["expose"]:
        service, description = parseNamed(text, "--expose")
        if service in exposures:
            raise ConfigurationError(f"--expose {service} is given twice: give each its own name")
        version, description = splitVersion(description)
        exposures[service] = Exposure(_clientEndpoint(reactor, description), version)
        ports[service] = portOf(description)
    publications: dict[str, Publication] = {}
    for text in many["publish"]:
        publication = Publication.parse(text)
        service = publication.service
        if service in publications:
            raise ConfigurationError(f"--publish {service} is given twice")
        port = publication.port or ports.get(service, 0)
        publications[service] = Publication(service, port)
    forwards = []
    for text in many["forward"]:
        description, target = parseForward(text)
        endpoint = serverEndpoint(reactor, description, "--forward")
        listen = text if target is None else text.rpartition("=")[0]
        forwards.append((listen, endpoint, target))
    strategies = loadStrategies(strategyMakers())
    return PunchdPeer(
        reactor=reactor,
        folder=StateFolder.at(options["state"]),
        name=options["name"],
        servers=[JoinAddress.parse(text) for text in many["server"]],
        strategies=strategies,
        order=chosenStrategies(options["strategies"], strategies),
        exposures=exposures,
        forwards=forwards,
        publications=list(publications.values()),
        isListed=bool(options["publish-address"]),
        allow=many["allow"],
        roots=options["ca"] or "system",
        guesses=parseGuesses(options["guesses"]),
        limits=Limits(
            streams=parseStreams(options["streams"]), survival=parseSeconds(options, "survive")
        ),
        takesRelay=not options["no-relay"],
        onChange=options.command,
        awake=Awake(reactor),
    )


@frozen
class Running:
    """
    A peer, as those want to know it who have started it.
    """

    _peer: PunchdPeer

    def isReady(self, running: float) -> bool:
        """
        See L{Task.isReady<punchd.tap.program.Task>}. A peer has its local ports from the beginning.
        It is ready when a server has let it in; or none of them is there, which may last, and must
        not hold up the machine's start.
        """
        peer = self._peer
        isTried = all(client.problem is not None for client in peer.clients)
        return peer.isReady or isTried or running >= LOGGING_IN

    def line(self) -> str:
        """
        See L{Task.line<punchd.tap.program.Task>}.
        """
        facts = self._peer.describe()
        servers = [
            f"{one['server'].partition('#')[0]}"
            + ("" if one["connected"] else f" ({one['problem'] or 'connecting'})")
            for one in facts["servers"]
        ]
        said = "connected to" if facts["master"] == "connected" else "not connected to"
        links = [
            f"{peer} {one['path']} ({one['streams']} streams)"
            for peer, one in facts["links"].items()
            if one["path"] is not None
        ]
        return f"{said} {', '.join(servers)}; links: {', '.join(links) or 'none'}"

    def drain(self) -> Deferred[None]:
        """
        See L{Task.drain<punchd.tap.program.Task>}.
        """
        return self._peer.drain()


def makeService(options: Options) -> Program:
    """
    The peer, with its forwards' ports taken and its state folder to itself: what is wrong with them
    is to be said before C{twistd} goes into the background.
    """
    from twisted.internet import reactor

    keepFreedMemory()
    try:
        peer = makePeer(options, reactor)
        peer.listen()
    except PunchdError as error:
        options.fail(str(error), 1)
    return makeProgram(reactor, options, peer, Running(peer), parseSeconds(options, "drain"))
