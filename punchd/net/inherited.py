"""
Sockets that this process was started with: systemd listens, and passes them on (sd_listen_fds(3)).
Twisted's endpoint strings call them C{systemd:domain=INET:name=…}; this says what is wrong when
there is no such socket, and takes those for datagrams, which Twisted has no endpoints for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from socket import SOCK_DGRAM, SOCK_STREAM, SocketKind, socket
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol

from punchd.errors import ConfigurationError

#: How an endpoint string for such a socket begins.
PREFIX = "systemd:"


def inheritedStreams(reactor: Any, text: str) -> AdoptedStreamServerEndpoint:
    """
    The endpoint for connections that C{text} describes.

    @raise ConfigurationError: when there is no such socket.
    """
    return _inherited(reactor, text, SOCK_STREAM)


def inheritedDatagrams(
    reactor: Any, text: str, size: int
) -> Callable[[DatagramProtocol], IListeningPort]:
    """
    What lets a protocol have the datagrams that come to the socket that C{text} describes.

    @param size: bytes that a datagram may have.
    @raise ConfigurationError: when there is no such socket.
    """
    endpoint = _inherited(reactor, text, SOCK_DGRAM)

    def adopt(protocol: DatagramProtocol) -> IListeningPort:
        number = endpoint.fileno
        os.set_blocking(number, False)
        port: IListeningPort = reactor.adoptDatagramPort(
            number, endpoint.addressFamily, protocol, size
        )
        # The port has made itself a descriptor of its own.
        os.close(number)
        return port

    return adopt


def _inherited(reactor: Any, text: str, kind: SocketKind) -> AdoptedStreamServerEndpoint:
    try:
        endpoint: AdoptedStreamServerEndpoint = serverFromString(reactor, text)
    except (LookupError, OSError):
        raise ConfigurationError(
            f"{text!r}: no such socket was passed on; is its socket unit started, and is that its "
            "FileDescriptorName=?"
        ) from None
    except (TypeError, ValueError, AttributeError):
        raise ConfigurationError(
            f"{text!r} is no such socket: try systemd:domain=INET:name=NAME"
        ) from None
    with socket(fileno=os.dup(endpoint.fileno)) as passed:
        if passed.type != kind:
            option = "ListenStream=" if kind == SOCK_STREAM else "ListenDatagram="
            raise ConfigurationError(f"{text!r} is of another kind: its unit needs {option}")
        if passed.family != endpoint.addressFamily:
            name = passed.family.name.removeprefix("AF_")
            raise ConfigurationError(f"{text!r} is of another family: say domain={name}")
    return endpoint
