"""
Questions from the network: datagrams, and connections.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import DatagramProtocol, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.server.gate import Gate
from punchd.server.limits import Complaints, Strangers
from punchd.server.naming.directory import Directory
from punchd.server.naming.responding import Responder
from punchd.server.naming.zone import Zone
from punchd.values.addresses import Address, makeAddress

#: Seconds from the accepted connection, or from the last answer, to the next whole question.
PATIENCE = 10.0

#: Bytes that a question by TCP may have; those that anybody sends have less than a hundred.
MOST_QUESTION = 1024

#: Connections of one network, and of all.
MOST_STREAMS_PER_NETWORK = 16
MOST_STREAMS = 512

# Bytes of questions that are read in one turn of the reactor: about a hundred questions. However
# many there are, the peers of this server do not wait longer than it takes to answer those.
_READ_AT_ONCE = 4096

# What a datagram counts for at the least: those without a byte would let reading go on for ever.
_LEAST_READ = 40


class Datagrams(DatagramProtocol):
    """
    Questions by UDP. Made by the L{NamingGate} for each port.
    """

    noisy = False

    # A UDP port, with more than IUDPTransport says.
    transport: Any

    def __init__(self, clock: IReactorTime, responder: Responder) -> None:
        self._clock = clock
        self._responder = responder

    def startProtocol(self) -> None:
        self.transport.maxThroughput = _READ_AT_ONCE

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if len(datagram) < _LEAST_READ:
            if self.transport.maxThroughput == _READ_AT_ONCE:
                self._clock.callLater(0, self._readAgain)
            self.transport.maxThroughput -= _LEAST_READ - len(datagram)
        answer = self._responder.toDatagram(datagram, makeAddress(addr[0], addr[1]))
        if answer is None:
            return
        # Nobody is there, or the way is full: datagrams get lost.
        with suppress(OSError):
            self.transport.write(answer, addr)

    def _readAgain(self) -> None:
        """
        The next turn of the reactor.
        """
        if self.transport is not None:
            self.transport.maxThroughput = _READ_AT_ONCE


@implementer(IHalfCloseableProtocol, IPushProducer)
class Stream(Int16StringReceiver):
    """
    Questions on one TCP connection (RFC 7766). Made by the L{NamingGate}.

    It is registered with its transport as a producer, so that it hears when the other end does not
    read its answers.
    """

    MAX_LENGTH = MOST_QUESTION

    # A TCP connection, with more than ITransport says.
    transport: Any

    def __init__(self, gate: NamingGate, address: Address) -> None:
        self._gate = gate
        self._address = address
        self._deadline = gate.now() + PATIENCE

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def stringReceived(self, string: bytes) -> None:
        answer = self._gate.responder.toStream(string, self._address)
        if answer is None:
            self.abort()
            return
        self._deadline = self._gate.now() + PATIENCE
        self.sendString(answer)

    def lengthLimitExceeded(self, length: int) -> None:
        self.abort()

    def sendString(self, string: bytes) -> None:
        # The limit of the superclass is one for questions.
        self.transport.write(len(string).to_bytes(2, "big") + string)

    def readConnectionLost(self) -> None:
        """
        There are no more questions; what has been answered goes out.
        """
        self.close("")

    def writeConnectionLost(self) -> None:
        """
        Required; never comes, as this end closes both ways at once.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gate.left(self, self._address)

    def pauseProducing(self) -> None:
        """
        The other end does not take its answers.
        """
        self.abort()

    def resumeProducing(self) -> None:
        """
        Required of producers; never comes, as the connection is aborted.
        """

    def stopProducing(self) -> None:
        """
        Required of producers; L{connectionLost} follows.
        """

    def sweep(self, now: float) -> None:
        """
        See L{Guest.sweep<punchd.server.gate.Guest>}.
        """
        if now >= self._deadline:
            self.abort()

    def close(self, reason: str) -> None:
        """
        See L{Guest.close<punchd.server.gate.Guest>}.
        """
        # A connection does not close while it has a producer.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        See L{Guest.abort<punchd.server.gate.Guest>}.
        """
        # What else it has asked at the same time is not looked at any more.
        self.paused = True
        self.transport.abortConnection()


class NamingGate(Gate):
    """
    The factory of DNS connections, and of what takes datagrams. Nobody ever says who he is here, so
    the bounds for strangers hold for all.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        responder: Responder,
        directory: Directory,
        complaints: Complaints,
    ) -> None:
        strangers = Strangers(clock, MOST_STREAMS_PER_NETWORK, MOST_STREAMS)
        super().__init__(clock=clock, strangers=strangers, complaints=complaints)
        self.responder = responder
        self._directory = directory

    def makeGuest(self, address: Address) -> tuple[Stream, IProtocol]:
        stream = Stream(self, address)
        return stream, stream

    def makeDatagrams(self) -> Datagrams:
        """
        What takes the questions that come to a UDP port.
        """
        return Datagrams(self._clock, self.responder)

    @property
    def zone(self) -> Zone:
        """
        What is served.
        """
        return self.responder.zone

    def sweep(self) -> None:
        super().sweep()
        self.responder.sweep()
        self._directory.sweep()
        self._strangers.forget()

    def now(self) -> float:
        """
        Seconds on the server's clock.
        """
        return self._clock.seconds()
