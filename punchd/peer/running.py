"""
The peer that runs in another process of this machine, by its control socket.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd import errors
from punchd.errors import ConfigurationError, PunchdError, Unreachable
from punchd.identity.folder import StateFolder
from punchd.interfaces import IStreamExposer, IStreamOpener
from punchd.net.pieces import PieceStream
from punchd.net.splicing import tuneLocal
from punchd.peer.control import SOCKET
from punchd.values.peers import PeerAddress, checkedName
from punchd.wire.frames import GOOD_READ

if TYPE_CHECKING:
    from punchd.interfaces import StreamTaker

_log = Logger()

#: Seconds until it is tried again whether the peer is back, by how often it was tried.
_backOff = backoffPolicy(initialDelay=0.5, maxDelay=10.0)

#: Bytes of the longest path that a UNIX socket may have (unix(7)), with one to end it.
_MOST_PATH = 107

#: The longest line that is believed to be the peer's.
_MOST_LINE = 1 << 20


class _Asking(Protocol):
    """
    One question on a connection to the control socket.

    @ivar answer: fires with the answer; fails with a L{PunchdError} that says what the peer said.
    @ivar become: gets what comes after the answer, once it is set; until then nothing is read.
    """

    transport: Any

    def __init__(self, question: dict[str, str]) -> None:
        self.become: Any = None
        self.rest = b""
        self._question = question
        self.answer: Deferred[dict[str, Any]] = Deferred(self._giveUp)

    def connectionMade(self) -> None:
        self.transport.write(json.dumps(self._question).encode("ascii") + b"\n")

    def dataReceived(self, data: bytes) -> None:
        if self.become is not None:
            self.become.dataReceived(data)
            return
        self.rest += data
        line, newline, rest = self.rest.partition(b"\n")
        if newline and not self.answer.called:
            self.rest = rest
            # What follows is for what the connection becomes.
            self.transport.pauseProducing()
            self._answered(line)
        elif len(self.rest) > _MOST_LINE:
            self.transport.abortConnection()

    def _answered(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
            isOK = answer["ok"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.transport.abortConnection()
            return
        if isOK:
            self.answer.callback(answer)
        else:
            self.answer.errback(_errorOf(answer))
            self.transport.abortConnection()

    def goOn(self, become: Any) -> None:
        """
        From here on the connection is C{become}'s.
        """
        self.become = become
        self.transport.resumeProducing()
        become.makeConnection(self.transport)
        rest, self.rest = self.rest, b""
        if rest:
            become.dataReceived(rest)

    def _giveUp(self, answer: object) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.become is not None:
            self.become.connectionLost(reason)
        elif not self.answer.called:
            self.answer.errback(Unreachable("the running punchd-peer went away before it answered"))


def _errorOf(answer: dict[str, Any]) -> PunchdError:
    text = str(answer.get("error") or "it failed")
    kind = getattr(errors, str(answer.get("kind")), None)
    # Where a class wants more than a text, its parent says enough.
    if isinstance(kind, type) and issubclass(kind, PunchdError) and kind is not errors.NoPath:
        return kind(text)
    return Unreachable(text)


@implementer(IStreamOpener, IStreamExposer)
@define(eq=False)
class RunningPeer:
    """
    Opens streams, and exposes services, by a peer that runs in another process. Nothing is open
    between two questions.

    @ivar address: that peer's, once it has exposed something for us.
    """

    _reactor: Any
    _folder: StateFolder
    address: PeerAddress | None = field(default=None, init=False)

    def openStream(self, peer: str, service: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(
            self._stream({"command": "open", "peer": peer, "service": service})
        )

    async def _stream(self, question: dict[str, str]) -> PieceStream:
        asking = await self._connected(question)
        answer = await asking.answer
        tuneLocal(asking.transport, GOOD_READ)
        stream = PieceStream(
            PeerAddress.fromJSON(answer["peer"]),
            PeerAddress.fromJSON(answer["host"]),
        )
        asking.goOn(stream)
        return stream

    async def _connected(self, question: dict[str, str]) -> _Asking:
        try:
            factory: Any = Factory.forProtocol(lambda: _Asking(question))
            # Otherwise each question is announced in the program's log.
            factory.noisy = False
            asking = cast(_Asking, await self._endpoint().connect(factory))
        except ConnectingCancelledError:
            raise CancelledError from None
        except ConnectError as error:
            raise self._absent(error) from None
        return asking

    def _endpoint(self) -> UNIXClientEndpoint:
        path = str(self._folder.file(SOCKET))
        if len(os.fsencode(path)) > _MOST_PATH:
            # Twisted would wait for it forever.
            raise ConfigurationError(
                f"the path {path} is too long for a socket: choose another folder by state="
            )
        return UNIXClientEndpoint(self._reactor, path)

    def _absent(self, error: ConnectError) -> Unreachable:
        reason = os.strerror(error.osError) if error.osError else str(error)
        return Unreachable(
            f"no punchd-peer answers in the state folder {self._folder.path} "
            f"({reason}): start it with 'twistd punchd-peer', or name another "
            "folder by state="
        )

    def expose(self, service: str, taker: StreamTaker) -> Deferred[Callable[[], Deferred[None]]]:
        return Deferred.fromCoroutine(self._expose(service, taker))

    async def _expose(self, service: str, taker: StreamTaker) -> Callable[[], Deferred[None]]:
        checkedName(service, "service")
        serving = await self._serve(service, taker)
        keeping = Deferred.fromCoroutine(self._keep(service, taker, serving))
        keeping.addErrback(lambda failure: failure.trap(CancelledError) and None)

        def stop() -> Deferred[None]:
            keeping.cancel()
            return keeping

        return stop

    async def _serve(self, service: str, taker: StreamTaker) -> _Announced:
        asking = await self._connected({"command": "serve", "service": service})
        answer = await asking.answer
        self.address = PeerAddress.fromJSON(answer["host"])
        announced = _Announced(self, taker)
        asking.goOn(announced)
        return announced

    async def _keep(self, service: str, taker: StreamTaker, serving: _Announced) -> None:
        """
        Expose a service anew whenever the peer is back, until this is cancelled.
        """
        while True:
            try:
                await serving.whenLost
            except CancelledError:
                await serving.end()
                raise
            _log.warn("the punchd-peer that exposes {service} is gone", service=service)
            failed = 0
            while True:
                await deferLater(self._reactor, _backOff(failed))
                try:
                    serving = await self._serve(service, taker)
                    break
                except PunchdError as error:
                    failed += 1
                    if failed == 1:
                        _log.warn("{service}: {error}", service=service, error=error)
            _log.info("{service} is exposed by {peer} again", service=service, peer=self.address)

    def take(self, number: str, taker: StreamTaker) -> None:
        """
        Take a stream that was announced.
        """
        taking = Deferred.fromCoroutine(self._stream({"command": "accept", "stream": number}))
        taking.addCallbacks(taker, _gone)
        taking.addErrback(lambda failure: _log.failure("while serving a stream", failure))


def _gone(failure: Failure) -> None:
    # The caller did not wait, or the peer has ended: nobody is there to be served.
    failure.trap(PunchdError, CancelledError)


class _Announced(Protocol):
    """
    Hears who asks for the service.

    @ivar whenLost: fires when the connection is gone, and the service with it.
    """

    transport: Any

    def __init__(self, peer: RunningPeer, taker: StreamTaker) -> None:
        self.whenLost: Deferred[None] = Deferred()
        self._peer = peer
        self._taker = taker
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._peer.take(json.loads(line)["accept"], self._taker)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.whenLost.callback(None)

    def end(self) -> Deferred[None]:
        """
        Serve no more.

        @return: fires when that is so.
        """
        self.whenLost = Deferred()
        self.transport.loseConnection()
        return self.whenLost


__all__ = ["RunningPeer"]
