"""
Splices of real sockets, where the kernel has its own ways.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport

from punchd.net.splicing import SpliceEnd, spliceEnds, tuneLocal

ANSWER = bytes(range(256)) * 400
"""Less than what the kernel keeps for a UNIX socket."""


class Stream(StringTransport):
    """
    The other end of the splice: what would go to a peer.
    """

    def loseWriteConnection(self) -> None:
        """
        Nothing more comes.
        """
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        """
        As real transports, which do not mind doing it twice.
        """
        self.producer = None


async def serviceThatAnswersAndCloses(path: Path) -> tuple[Stream, SpliceEnd, SpliceEnd]:
    """
    A splice to a service on a UNIX socket, that has said all it had to say, and gone.
    """
    stream, service = spliceEnds()
    transport = Stream()
    stream.makeConnection(transport)
    factory = Factory.forProtocol(lambda: service)
    factory.noisy = False
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        await UNIXClientEndpoint(reactor, str(path)).connect(factory)
        tuneLocal(service.transport, 65536)
        service.transport.pauseProducing()
        connection, _ = listening.accept()
        with connection:
            connection.sendall(ANSWER)
    return transport, stream, service


def turns() -> Awaitable[None]:
    """
    A few turns of the reactor.
    """
    return deferLater(reactor, 0.02)


def whilePaused(stream: SpliceEnd, service: SpliceEnd) -> None:
    """
    The peer's end of input comes while the stream can take nothing.
    """
    stream.readConnectionLost()


def whileReading(stream: SpliceEnd, service: SpliceEnd) -> None:
    """
    The peer's end of input comes when the answer is about to be read.
    """
    service.transport.resumeProducing()
    stream.readConnectionLost()


@pytest.mark.parametrize("ended", [whilePaused, whileReading])
@pytest_twisted.ensureDeferred
async def test_theAnswerOfAServiceThatHasGoneIsRead(
    tmp_path: Path, ended: Callable[[SpliceEnd, SpliceEnd], None]
) -> None:
    """
    It came before the service heard that its input ended, and must not be lost because it will
    never hear of it.
    """
    transport, stream, service = await serviceThatAnswersAndCloses(tmp_path / "service")
    ended(stream, service)
    await turns()
    if service.transport.connected:
        service.transport.resumeProducing()
    await turns()
    assert transport.value() == ANSWER
    assert transport.disconnecting
