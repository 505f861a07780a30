"""
A relay on a real port, whose time the tests make, and ends of relayed paths.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from attrs import define, field
from twisted.internet import reactor as anyReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.server.limits import Complaints, Strangers
from punchd.server.relay import RelayGate
from punchd.server.relaylimits import Accounts, RelayLimits
from punchd.server.relaypairs import Pairs, Room
from punchd.server.relaypipes import Pipes
from punchd.server.relaytokens import RelayTokens
from punchd.server.sessions import Population, Session
from punchd.wire.relaying import Opening, packAcceptance
from tests.unit.server.pretending import Journal, Watcher, makeSession

reactor: Any = anyReactor

ACCEPTED = packAcceptance()


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


async def until(isSo: Any) -> None:
    """
    Wait until it is so.
    """
    for _ in range(500):
        if isSo():
            return
        await sleep(0.01)
    raise AssertionError("it did not come to pass")


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """
    One end, by hand.

    @ivar received: what came, from the relay's answer on.
    @ivar inputEnded: whether the other side has said its last.
    @ivar lost: how the connection ended.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.inputEnded = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.inputEnded = True

    def writeConnectionLost(self) -> None:
        """
        As was asked for.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    @property
    def isOver(self) -> bool:
        """
        Whether the other side has ended it, one way or another.
        """
        return self.inputEnded or self.lost is not None

    @property
    def isAccepted(self) -> bool:
        return self.received.startswith(ACCEPTED)

    @property
    def said(self) -> bytes:
        """
        What the other end has said.
        """
        assert self.isAccepted, bytes(self.received)
        return bytes(self.received[len(ACCEPTED) :])

    @property
    def refusal(self) -> str:
        """
        Why the relay did not take it.
        """
        assert self.received[7] == len(self.received) - 8 > 0
        return self.received[8:].decode("utf-8")


@define(eq=False)
class Relaying:
    """
    A relay. Alice and Bob are logged in at its server; others may be.
    """

    limits: RelayLimits = field(factory=RelayLimits)
    pipes: Pipes = field(factory=Pipes)
    mostStrangers: int = 64
    clock: Clock = field(factory=Clock)
    watcher: Watcher = field(factory=Watcher)
    journal: Journal = field(factory=Journal)
    population: Population = field(factory=Population)
    ends: list[End] = field(factory=list)
    tokens: RelayTokens = field(init=False)
    accounts: Accounts = field(init=False)
    pairs: Pairs = field(init=False)
    gate: RelayGate = field(init=False)
    alice: Session = field(init=False)
    bob: Session = field(init=False)
    _port: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = RelayTokens(self.clock, os.urandom)
        self.accounts = Accounts(self.clock, self.limits)
        room = Room(self.clock, self.population, self.watcher, self.accounts, self.pipes)
        self.pairs = Pairs(room, self.tokens)
        self.gate = RelayGate(
            clock=self.clock,
            pairs=self.pairs,
            strangers=Strangers(self.clock, mostPerNetwork=self.mostStrangers),
            complaints=Complaints(Logger(observer=self.journal)),
        )
        self.alice, self.bob = self.logIn(1, "alice"), self.logIn(2, "bob")
        self._port = reactor.listenTCP(0, self.gate, interface="127.0.0.1")

    def logIn(self, number: int, name: str) -> Session:
        session = makeSession(self.clock, number, name=name)
        self.population.arrive(session)
        return session

    @property
    def port(self) -> int:
        number: int = self._port.getHost().port
        return number

    def introduce(
        self, caller: Session | None = None, callee: Session | None = None
    ) -> tuple[bytes, bytes]:
        """
        The tokens of an introduction.
        """
        return self.tokens.issue(os.urandom(16), caller or self.alice, callee or self.bob)

    async def dial(self, data: bytes = b"", room: int = 0) -> End:
        """
        Connect, and say C{data}.

        @param room: bytes of the socket's buffers, instead of as many as the kernel sees fit.
        """
        end = End()
        self.ends.append(end)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), end)
        if room:
            for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                end.transport.getHandle().setsockopt(socket.SOL_SOCKET, name, room)
        end.transport.write(data)
        return end

    async def show(self, token: bytes, room: int = 0) -> End:
        return await self.dial(Opening(token).pack(), room)

    async def path(
        self, caller: Session | None = None, callee: Session | None = None, room: int = 0
    ) -> tuple[End, End]:
        """
        A relayed path.
        """
        one, two = [await self.show(token, room) for token in self.introduce(caller, callee)]
        await until(lambda: one.isAccepted and two.isAccepted)
        return one, two

    def advance(self, seconds: float) -> None:
        """
        So much time goes by, with a sweep at its end.
        """
        self.clock.advance(seconds)
        self.gate.sweep()

    async def close(self) -> None:
        """
        End everything.
        """
        await self._port.stopListening()
        for end in self.ends:
            if end.lost is None:
                end.transport.abortConnection()
        await until(lambda: all(end.lost is not None for end in self.ends))
        closing = self.gate.showOut("the server ends")
        # Who was to be told why, is not any more.
        self.clock.advance(10)
        await closing
        self.pipes.close()
