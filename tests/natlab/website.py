"""
A web site for a host of the lab, and somebody who uses its websocket.

Usage: website.py serve PORT LARGE GO, where LARGE is a large file, of which only one half is sent
before the file GO exists; website.py talk ADDRESS URL ROOT, which prints each number that it hears.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as anyReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.websocket import WebSocketClientEndpoint, WebSocketResource

reactor: Any = anyReactor

PAUSE = 0.1
"""Seconds from one message to the next."""


class Page(Resource):
    """
    Says who asks, as far as it was told.
    """

    def render_GET(self, request: Any) -> bytes:
        request.setHeader("Content-Type", "text/plain")
        address = request.getHeader("x-real-ip") or "nobody"
        return f"Hello {address}, this is {request.getHeader('host')}\n".encode()


class Large(Resource):
    """
    The large file, in two halves.
    """

    def __init__(self, file: Path, go: Path) -> None:
        super().__init__()
        self._content = file.read_bytes()
        self._go = go

    def render_GET(self, request: Any) -> int:
        half = len(self._content) // 2
        request.setHeader("Content-Length", str(len(self._content)))
        request.write(self._content[:half])

        def goOn() -> None:
            if self._go.exists():
                waiting.stop()
                request.write(self._content[half:])
                request.finish()

        waiting = LoopingCall(goOn)
        request.notifyFinish().addErrback(lambda _: waiting.stop())
        waiting.start(PAUSE)
        return NOT_DONE_YET


class Events(Resource):
    """
    Server-sent events: each is the time at which it was sent.
    """

    def render_GET(self, request: Any) -> int:
        request.setHeader("Content-Type", "text/event-stream")
        telling = LoopingCall(
            lambda: request.write(f"data: {time.monotonic():.6f}\n\n".encode("ascii"))
        )
        request.notifyFinish().addErrback(lambda _: telling.stop())
        telling.start(PAUSE)
        return NOT_DONE_YET


class Echo:
    """
    The websocket at the site.
    """

    @classmethod
    def buildProtocol(cls, request: Any) -> Echo:
        return cls()

    def negotiationStarted(self, transport: Any) -> None:
        self._transport = transport

    def negotiationFinished(self) -> None:
        pass

    def textMessageReceived(self, message: str) -> None:
        self._transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes) -> None:
        pass

    def pongReceived(self, payload: bytes) -> None:
        pass

    def connectionLost(self, reason: Any) -> None:
        pass


class Talk(Echo):
    """
    Sends a number, and the next one when it has come back.
    """

    def negotiationFinished(self) -> None:
        self._transport.sendTextMessage("0")

    def textMessageReceived(self, message: str) -> None:
        sys.stdout.write(f"{message}\n")
        sys.stdout.flush()
        reactor.callLater(PAUSE, self._transport.sendTextMessage, str(int(message) + 1))

    def connectionLost(self, reason: Any) -> None:
        sys.stdout.write(f"lost: {reason.getErrorMessage()}\n")
        sys.stdout.flush()
        reactor.stop()


class _There:
    """
    Where an URL leads, whatever its name is in the DNS.
    """

    def __init__(self, address: str, root: str) -> None:
        self._address = address
        certificate = Certificate.loadPEM(Path(root).read_bytes())
        self._root = trustRootFromCertificates([certificate])

    def endpointForURI(self, uri: Any) -> Any:
        options = optionsForClientTLS(uri.host.decode("ascii"), self._root)
        return wrapClientTLS(options, HostnameEndpoint(reactor, self._address, uri.port))


def serve(port: str, large: str, go: str) -> None:
    """
    Print a line when it listens.
    """
    root = Resource()
    root.putChild(b"", Page())
    root.putChild(b"large", Large(Path(large), Path(go)))
    root.putChild(b"events", Events())
    talking: Any = Echo
    root.putChild(b"echo", WebSocketResource(talking))
    reactor.listenTCP(int(port), Site(root), interface="127.0.0.1")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    reactor.run()


def talk(address: str, url: str, root: str) -> None:
    """
    Ends with the connection.
    """
    there: Any = _There(address, root)
    talking: Any = Talk
    endpoint = WebSocketClientEndpoint(there, url)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(endpoint.connect(talking)))
    reactor.run()


if __name__ == "__main__":
    {"serve": serve, "talk": talk}[sys.argv[1]](*sys.argv[2:])
