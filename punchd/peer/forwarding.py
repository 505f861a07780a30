"""
Local ports that lead to other peers' services.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from punchd.errors import ConfigurationError, PunchdError
from punchd.interfaces import IStreamOpener
from punchd.link.stream import Stream
from punchd.net.splicing import SpliceEnd, Splices, tuneLocal
from punchd.values.addresses import splitHostPort
from punchd.values.peers import checkedName
from punchd.wire.frames import GOOD_READ

_log = Logger()


@frozen
class Target:
    """
    C{PEER/SERVICE}.
    """

    peer: str
    service: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """
        @raise ConfigurationError: when C{text} is not of that form.
        """
        peer, slash, service = text.partition("/")
        if not slash:
            raise ConfigurationError(f"expected PEER/SERVICE, not {text!r}")
        return cls(checkedName(peer, "peer"), checkedName(service, "service"))

    def __str__(self) -> str:
        return f"{self.peer}/{self.service}"


def parseForward(text: str) -> tuple[str, Target | None]:
    """
    Take C{LISTEN=PEER/SERVICE} apart, or C{socks:LISTEN}; the listening side becomes an endpoint
    string. A port alone listens on this machine only.

    @return: without a target, if it is a SOCKS port.
    @raise ConfigurationError: when C{text} is not of that form.
    """
    if text.startswith("socks:"):
        listen = text.removeprefix("socks:")
        if re.fullmatch(r"[0-9]+", listen) is None:
            splitHostPort(listen)
        return _listening(listen), None
    listen, equals, target = text.rpartition("=")
    if not equals or not listen:
        raise ConfigurationError(
            f"expected --forward LISTEN=PEER/SERVICE or socks:PORT, not {text!r}"
        )
    return _listening(listen), Target.parse(target)


def _listening(listen: str) -> str:
    if re.fullmatch(r"[0-9]+", listen) is not None:
        if len(listen) > 5 or int(listen) > 65535:
            raise ConfigurationError(f"there is no port {listen[:80]}")
        return f"tcp:{listen}:interface=127.0.0.1"
    # HOST:PORT, if what is before the colon is no kind of endpoint.
    try:
        host, port = splitHostPort(listen)
    except ConfigurationError:
        return listen
    if host in ("tcp", "tcp6", "unix", "systemd", "fd", "ssl", "haproxy"):
        return listen
    escaped = host.replace(":", "\\:")
    return f"tcp:{port}:interface={escaped}"


def describeForward(listen: str, target: Target | None) -> dict[str, str | None]:
    """
    As C{punchd status --json} shows it.

    @param listen: what the person called it.
    """
    if target is None:
        return {"listen": listen, "peer": None, "service": None}
    return {"listen": listen, "peer": target.peer, "service": target.service}


class ForwardFactory(Factory):
    """
    Made for each C{--forward}: every connection gets a stream of its own; it is aborted when there
    is none to be had.
    """

    noisy = False

    def __init__(
        self, opener: IStreamOpener, target: Target, splices: Splices | None = None
    ) -> None:
        """
        @param splices: those that the connections are to belong to.
        """
        self._opener = opener
        self._target = target
        self._splices = Splices() if splices is None else splices

    def buildProtocol(self, addr: IAddress | None) -> SpliceEnd:
        client, remote = self._splices.pair()
        client.whenConnected = lambda: self._open(client, remote)
        return client

    def _open(self, client: SpliceEnd, remote: SpliceEnd) -> None:
        tuneLocal(client.transport, GOOD_READ)
        target = self._target
        opening: Deferred[Any] = self._opener.openStream(target.peer, target.service)
        client.whenLost = opening.cancel

        def opened(stream: Stream) -> None:
            stream.opened.addErrback(failed)
            stream.carry(remote)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError) is not None:
                return
            if failure.check(PunchdError) is None:
                _log.failure("while opening a stream", failure)
            else:
                _log.warn(
                    "forward to {peer}/{service}: {error}",
                    peer=target.peer,
                    service=target.service,
                    error=failure.value,
                )
            client.transport.abortConnection()

        opening.addCallbacks(opened, failed)
