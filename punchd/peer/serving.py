"""
Services that other processes of this machine offer through the running peer.

Such a process says C{serve} on a connection to the control socket, which then stays open: the
service is exposed as long as it is. Each stream that asks for the service is announced there by a
line of JSON, with a number and the caller; the process takes the stream by C{accept}, on another
connection, which then I{is} the stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import Unreachable
from punchd.interfaces import IStreamExposer

#: Seconds within which an announced stream must be taken.
ACCEPTING = 10.0

#: Streams of one service that may wait to be taken.
MOST_WAITING = 256


@define(eq=False)
class _Waiting:
    """
    A stream that was announced.
    """

    stream: Any
    deadline: IDelayedCall


@define(eq=False)
class Serving:
    """
    All such services of a peer, which has one of these.
    """

    _clock: IReactorTime
    _exposer: IStreamExposer
    _numbers: Any = field(factory=lambda: count(1), init=False)
    _waiting: dict[str, _Waiting] = field(factory=dict, init=False)

    async def serve(self, service: str) -> Announcing:
        """
        Expose a service.

        @return: the protocol of the connection that keeps it.
        @raise Refused: when one of that name is exposed.
        """
        announcing = Announcing(service, self)
        announcing.remove = await self._exposer.expose(service, announcing.take)
        return announcing

    def hold(self, service: str, stream: Any) -> str:
        """
        Let a stream wait to be taken; it is refused when nobody does.

        @return: its number.
        """
        number = str(next(self._numbers))
        deadline = self._clock.callLater(
            ACCEPTING, self.refuse, number, f"the service {service!r} does not answer there"
        )
        self._waiting[number] = _Waiting(stream, deadline)
        stream.whenOver().addCallback(lambda _: self._release(number))
        return number

    def accept(self, number: str) -> Any:
        """
        The stream of that number, which is agreed to.

        @raise Unreachable: when it is over, or was taken.
        """
        stream = self._release(number)
        if stream is None:
            raise Unreachable(f"no stream {number[:20]!r} is waiting any more")
        stream.agree()
        return stream

    def refuse(self, number: str, why: str) -> None:
        """
        Refuse the stream of that number, if it still waits.
        """
        stream = self._release(number)
        if stream is not None:
            stream.refuse(why)

    def _release(self, number: str) -> Any:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return None
        if waiting.deadline.active():
            waiting.deadline.cancel()
        return waiting.stream

    def count(self, numbers: set[str]) -> int:
        """
        How many of these wait.
        """
        numbers.intersection_update(self._waiting)
        return len(numbers)


@implementer(IPushProducer)
class Announcing(Protocol):
    """
    What a control connection is after C{serve}: says who comes. It ends with the connection, and
    the service with it.

    @ivar remove: takes the service back.
    """

    transport: Any

    def __init__(self, service: str, serving: Serving) -> None:
        self.remove: Callable[[], Deferred[None]] | None = None
        self._service = service
        self._serving = serving
        self._numbers: set[str] = set()
        self._isFull = False

    def connectionMade(self) -> None:
        # Told when the process does not read what is announced.
        self.transport.registerProducer(self, True)

    def take(self, stream: Any) -> None:
        """
        Announce a stream.
        """
        if self._isFull or self._serving.count(self._numbers) >= MOST_WAITING:
            stream.refuse(f"the service {self._service!r} is too busy there")
            return
        number = self._serving.hold(self._service, stream)
        self._numbers.add(number)
        announced = {"accept": number, "peer": stream.getPeer().toJSON()}
        self.transport.write(json.dumps(announced).encode("ascii") + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """
        There is nothing to be said here.
        """
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.remove is not None:
            self.remove()
        for number in self._numbers:
            self._serving.refuse(number, f"the service {self._service!r} went away there")

    def pauseProducing(self) -> None:
        self._isFull = True

    def resumeProducing(self) -> None:
        self._isFull = False

    def stopProducing(self) -> None:
        pass
