"""
Very many connections that are tried at one moment, of which hardly any will come about.

For guessing ports, what one socket costs counts: so these are plain sockets, watched by the
reactor, and only those that connect become transports of Twisted's. Where a reactor has no file
descriptors, they are ordinary connections.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import getConnectError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IReactorSocket,
    IReadWriteDescriptor,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

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
        isPlain = IReactorFDSet.providedBy(reactor) and IReactorSocket.providedBy(reactor)
        dialOne = self._dialPlainly if isPlain else self._dialByReactor
        for remote in remotes:
            dialOne(remote, factory)
            if won.called or self.leftOut:
                break
        self._isDialling = False
        self._giveUpIfDone()
        return won

    def _dialPlainly(self, remote: Address, factory: IProtocolFactory) -> None:
        family = socket.AF_INET6 if isinstance(remote, IPv6Address) else socket.AF_INET
        try:
            plain = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._exhausted(error.errno or 0)
            return
        number = self._connect(plain, remote)
        if number in (0, errno.EINPROGRESS):
            probe = _Probe(remote, self._reactor, self, plain, factory)
            self._halfOpen[probe] = None
            self.dialled += 1
            self._reactor.addWriter(probe)
            return
        plain.close()
        if number in _EXHAUSTED or (number == errno.EADDRNOTAVAIL and self._port is None):
            self._exhausted(number)
        else:
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
        self._prove(protocol).addCallbacks(
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

    def _dropAll(self, result: Result) -> None:
        for one in list(self._halfOpen):
            self._drop(one, result)

    def _drop(self, one: _Probe | _Dialling, result: Result) -> None:
        del self._halfOpen[one]
        one.close()
        self._ended(one.remote, result, "")


@implementer(IReadWriteDescriptor)
@define(eq=False)
class _Probe:
    """
    A plain socket that dials.
    """

    remote: Address
    _reactor: Any
    _spray: Spray
    _plain: socket.socket
    _factory: IProtocolFactory

    def fileno(self) -> int:
        return self._plain.fileno()

    def logPrefix(self) -> str:
        return "guess"

    def doRead(self) -> None:
        self._decided()

    def doWrite(self) -> None:
        self._decided()

    def connectionLost(self, reason: Failure) -> None:
        # So do some reactors tell of errors.
        self._decided()

    def _decided(self) -> None:
        built: list[IProtocol] = []
        try:
            number = self._plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
            # Whoever has reset it meanwhile has left no peer's name.
            self._plain.getpeername()
            # This makes a descriptor of its own.
            self._reactor.adoptStreamConnection(
                self.fileno(), self._plain.family, _Remembering(self._factory, built)
            )
        except OSError as error:
            self.close()
            self._spray.failed(self, getConnectError(error))
        else:
            self.close()
            self._spray.connected(self, built[0])

    def close(self) -> None:
        """
        Give up.
        """
        self._reactor.removeWriter(self)
        self._plain.close()


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
