"""
Very many connections that are tried at one moment, of which hardly any will come about.

For guessing ports, what one socket costs counts: so these are plain sockets, all watched by one
C{epoll} object, which is what the reactor watches; and only those that connect become transports of
Twisted's. Where there is no C{epoll}, or the reactor has no file descriptors, they are ordinary
connections.

There is another reason for the C{epoll} of one's own. When one connection is proven, hundreds of
sockets are closed in the midst of the reactor's work, and the next sockets that somebody opens get
their numbers. What the reactor has yet to tell of the old ones would reach the new ones.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import getConnectError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IReactorSocket,
    IReadDescriptor,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import PunchdError
from punchd.net.held import HeldPort
from punchd.net.racing import RaceLost, abort, whatFailed
from punchd.values.addresses import Address
from punchd.values.outcomes import Result

#: What the kernel says when there is no room for one more socket, whatever it is for.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN)

#: Sockets that are closed again when there were no file descriptors for more: whatever else the
#: process does needs some, and proving who a connection leads to is among it.
_LEFT_FREE = 16


@define(eq=False)
class Spray:
    """
    Made for one burst. Dials each remote once, from one port or each from a new one; what connects
    must prove itself. Over when one has, or when nothing is left that could.

    @ivar _port: where from; C{None} for a new port each.
    @ivar _prove: gets each connected protocol; fires when it is proven, fails with a
        L{PunchdError<punchd.errors.PunchdError>} when it is not.
    @ivar _ended: told of each socket that is done with: its remote, what came of it, and details.
    @ivar dialled: how many sockets there were.
    @ivar leftOut: why there were not more; empty if every remote had its own.
    """

    _reactor: Any
    _port: HeldPort | None
    _prove: Callable[[IProtocol], Deferred[Any]]
    _ended: Callable[[Address, Result, str], None]
    dialled: int = field(default=0, init=False)
    leftOut: str = field(default="", init=False)
    # In the order in which they were made.
    _halfOpen: dict[_Probe | _Dialling, None] = field(factory=dict, init=False)
    _watch: _Watch | None = field(default=None, init=False)
    _proving: int = field(default=0, init=False)
    _patience: IDelayedCall | None = field(default=None, init=False)
    _won: Deferred[IProtocol] | None = field(default=None, init=False)
    _isDialling: bool = field(default=True, init=False)

    def dial(
        self, remotes: Sequence[Address], factory: IProtocolFactory, patience: float
    ) -> Deferred[IProtocol]:
        """
        Start. To be called once.

        @param patience: seconds after which a socket that heard nothing is given up.
        @return: fires with the proven protocol, or fails with L{RaceLost}. When it is cancelled,
            everything that is not yet connected is closed.
        """
        won: Deferred[IProtocol] = Deferred(lambda _: self._stop())
        self._won = won
        self._patience = self._reactor.callLater(patience, self._waitedEnough)
        reactor = self._reactor
        hasDescriptors = IReactorFDSet.providedBy(reactor) and IReactorSocket.providedBy(reactor)
        if hasDescriptors and hasattr(select, "epoll"):
            self._dialPlainly(remotes, factory)
        else:
            for remote in remotes:
                self._dialByReactor(remote, factory)
        self._isDialling = False
        self._giveUpIfDone()
        return won

    def _dialPlainly(self, remotes: Sequence[Address], factory: IProtocolFactory) -> None:
        for remote in remotes:
            try:
                if self._watch is None:
                    self._watch = _Watch(self._reactor, self)
                family = socket.AF_INET6 if isinstance(remote, IPv6Address) else socket.AF_INET
                plain = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                self._exhausted(error.errno or 0)
                return
            number = self._connect(plain, remote)
            if number in (0, errno.EINPROGRESS):
                self.dialled += 1
                self._halfOpen[self._watch.add(plain, remote, factory)] = None
                continue
            plain.close()
            if number in _EXHAUSTED or (number == errno.EADDRNOTAVAIL and self._port is None):
                self._exhausted(number)
                return
            self.dialled += 1
            self._failed(remote, getConnectError((number, os.strerror(number))))

    def _connect(self, plain: socket.socket, remote: Address) -> int:
        plain.setblocking(False)
        if self._port is not None:
            try:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                plain.bind((self._port.interface, self._port.number))
            except OSError as error:
                return error.errno or errno.EINVAL
        return plain.connect_ex((remote.host, remote.port))

    def _exhausted(self, number: int) -> None:
        self.leftOut = errno.errorcode.get(number, str(number))
        if number in (errno.EMFILE, errno.ENFILE):
            for one in list(self._halfOpen)[-_LEFT_FREE:]:
                self._drop(one, Result.CANCELLED)

    def _dialByReactor(self, remote: Address, factory: IProtocolFactory) -> None:
        if self._port is not None:
            endpoint = self._port.to(remote)
        else:
            make = TCP6ClientEndpoint if isinstance(remote, IPv6Address) else TCP4ClientEndpoint
            endpoint = make(self._reactor, remote.host, remote.port)
        one = _Dialling(remote)
        self._halfOpen[one] = None
        self.dialled += 1
        one.start(self, endpoint, factory)

    # What becomes of a socket.

    def connected(self, one: _Probe | _Dialling, protocol: IProtocol) -> None:
        """
        A socket is connected. Called by itself, as are the others.
        """
        if not self._isAwaited(one):
            abort(protocol)
            return
        self._proving += 1
        maybeDeferred(self._prove, protocol).addCallbacks(
            lambda _: self._proven(one.remote, protocol),
            lambda failure: self._unproven(one.remote, protocol, failure),
        ).addErrback(self.broken)

    def failed(self, one: _Probe | _Dialling, error: BaseException) -> None:
        """
        A socket will not be connected.
        """
        if self._isAwaited(one):
            self._failed(one.remote, error)
            self._giveUpIfDone()

    def broken(self, failure: Failure) -> None:
        """
        A bug, in here or in the proof: whoever waits must hear of it.
        """
        won = self._won
        self._stop()
        if won is not None:
            won.errback(failure)

    def _isAwaited(self, one: _Probe | _Dialling) -> bool:
        return self._halfOpen.pop(one, one) is None

    def _failed(self, remote: Address, error: BaseException) -> None:
        self._ended(remote, *whatFailed(error))

    def _proven(self, remote: Address, protocol: IProtocol) -> None:
        self._proving -= 1
        self._ended(remote, Result.CONNECTED, "")
        won = self._won
        # A second one is no mistake, and not ours to end: the other side may have chosen it.
        if won is not None:
            self._stop()
            won.callback(protocol)

    def _unproven(self, remote: Address, protocol: IProtocol, failure: Failure) -> None:
        self._proving -= 1
        abort(protocol)
        failure.trap(PunchdError)
        self._ended(remote, Result.NOT_AUTHENTICATED, failure.getErrorMessage())
        self._giveUpIfDone()

    def _waitedEnough(self) -> None:
        self._patience = None
        self._dropAll(Result.TIMED_OUT)
        self._giveUpIfDone()

    def _giveUpIfDone(self) -> None:
        won = self._won
        if won is None or self._isDialling or self._halfOpen or self._proving:
            return
        self._stop()
        won.errback(RaceLost("no connection of this burst was proven"))

    def _stop(self) -> None:
        self._won = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._dropAll(Result.CANCELLED)
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _dropAll(self, result: Result) -> None:
        for one in list(self._halfOpen):
            self._drop(one, result)

    def _drop(self, one: _Probe | _Dialling, result: Result) -> None:
        del self._halfOpen[one]
        one.close()
        self._ended(one.remote, result, "")


@define(eq=False)
class _Probe:
    """
    A plain socket that dials.
    """

    remote: Address
    plain: socket.socket
    factory: IProtocolFactory

    def close(self) -> None:
        """
        Give up. It is watched no longer, either.
        """
        self.plain.close()


@implementer(IReadDescriptor)
@define(eq=False)
class _Watch:
    """
    All plain sockets of one spray, as one descriptor of the reactor's.
    """

    _reactor: Any
    _spray: Spray
    _epoll: select.epoll = field(factory=lambda: select.epoll(), init=False)
    _probes: dict[int, _Probe] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._reactor.addReader(self)

    def add(self, plain: socket.socket, remote: Address, factory: IProtocolFactory) -> _Probe:
        """
        Watch one more.
        """
        probe = self._probes[plain.fileno()] = _Probe(remote, plain, factory)
        self._epoll.register(plain.fileno(), select.EPOLLOUT)
        return probe

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "guesses"

    def connectionLost(self, reason: Failure) -> None:
        # The reactor ends.
        self.close()

    def doRead(self) -> None:
        for number, _ in self._epoll.poll(0):
            probe = self._probes.pop(number)
            # A decision may close all the others.
            if probe.plain.fileno() >= 0:
                # Closing is not enough once a transport has the same connection.
                self._epoll.unregister(number)
                self._decided(probe)

    def _decided(self, probe: _Probe) -> None:
        plain, built = probe.plain, list[IProtocol]()
        try:
            error = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            # Whoever has reset it meanwhile has left no peer's name.
            plain.getpeername()
            # This makes a descriptor of its own.
            self._reactor.adoptStreamConnection(
                plain.fileno(), plain.family, _Remembering(probe.factory, built)
            )
        except OSError as reason:
            probe.close()
            self._spray.failed(probe, getConnectError(reason))
        else:
            probe.close()
            self._spray.connected(probe, built[0])

    def close(self) -> None:
        """
        Watch nothing any more.
        """
        self._reactor.removeReader(self)
        self._epoll.close()


class _Remembering(Factory):
    """
    Builds what another factory does, and remembers it.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory, built: list[IProtocol]) -> None:
        self._factory = factory
        self._built = built

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self._factory.buildProtocol(addr)  # type: ignore[arg-type]
        assert protocol is not None
        self._built.append(protocol)
        return protocol


@define(eq=False)
class _Dialling:
    """
    An ordinary connection that is being made.
    """

    remote: Address
    _connecting: Deferred[IProtocol] | None = field(default=None, init=False)

    def start(
        self, spray: Spray, endpoint: IStreamClientEndpoint, factory: IProtocolFactory
    ) -> None:
        """
        Dial.
        """
        self._connecting = endpoint.connect(factory)
        self._connecting.addCallbacks(
            lambda protocol: spray.connected(self, protocol),
            lambda failure: spray.failed(self, failure.value),
        ).addErrback(spray.broken)

    def close(self) -> None:
        """
        Give up.
        """
        if self._connecting is not None:
            self._connecting.cancel()
