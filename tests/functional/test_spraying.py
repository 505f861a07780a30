"""
Tests for L{punchd.net.spraying}, on real sockets of the loopback interface.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from punchd.errors import Unreachable
from punchd.net.held import HeldPort
from punchd.net.racing import RaceLost
from punchd.net.spraying import Spray
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Result
from tests.functional.processes import sleep

REACTOR: Any = reactor


class Met(Protocol):
    """
    A connection that came about.
    """

    transport: Any

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.isLost = True


def factory() -> Any:
    made: Any = Factory.forProtocol(Met)
    made.noisy = False
    return made


@contextmanager
def listening(*, silent: bool = False) -> Iterator[Address]:
    """
    A port of the loopback interface that takes connections; a silent one has no room for any, and
    drops SYNs as most NATs do.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0 if silent else 600)
        where = makeAddress(*listener.getsockname())
        fillers = []
        if silent:
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
        try:
            yield where
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def refusing() -> Iterator[Address]:
    """
    A port that is taken, but not listened on.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield makeAddress(*taken.getsockname())


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@define(eq=False)
class Tried:
    """
    A spray, and what came of its sockets.
    """

    port: HeldPort | None = None
    provable: bool = True
    fates: list[tuple[Address, Result, str]] = field(factory=list)
    proven: list[Any] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.spray = Spray(REACTOR, self.port, self._prove, self._ended)

    spray: Spray = field(init=False)

    def _prove(self, protocol: Any) -> Deferred[Any]:
        self.proven.append(protocol)
        return succeed(protocol) if self.provable else fail(Unreachable("nobody"))

    def _ended(self, *fate: Any) -> None:
        self.fates.append(fate)

    def dial(self, remotes: list[Address], patience: float = 5.0) -> Deferred[Any]:
        return self.spray.dial(remotes, factory(), patience)

    @property
    def results(self) -> Counter[Result]:
        return Counter(result for _, result, _ in self.fates)

    def end(self) -> None:
        for protocol in self.proven:
            protocol.transport.abortConnection()


@ensureDeferred
async def test_oneOfManyConnects() -> None:
    before = descriptors()
    with listening() as good, listening(silent=True) as silent:
        tried = Tried()
        won = await tried.dial([silent] * 100 + [good] + [silent] * 100)
        assert won is tried.proven[0]
        peer = won.transport.getPeer()
        assert (peer.host, peer.port) == (good.host, good.port)
        assert tried.results == {Result.CONNECTED: 1, Result.CANCELLED: 200}
        tried.end()
        await sleep(0.01)
    assert descriptors() == before


@ensureDeferred
async def test_whatConnectedIsAnOrdinaryTransport() -> None:
    with listening() as good:
        tried = Tried()
        won = await tried.dial([good])
        won.transport.setTcpNoDelay(True)
        assert won.transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert won.connected
        tried.end()
        await sleep(0.01)


@ensureDeferred
async def test_eachIsFromAPortOfItsOwn() -> None:
    with listening() as good:
        tried = Tried(provable=False)
        with pytest.raises(RaceLost):
            await tried.dial([good] * 50)
        ports = {one.transport.getHost().port for one in tried.proven}
        assert len(ports) == 50
        await sleep(0.01)


@ensureDeferred
async def test_orAllAreFromOneHeldPort() -> None:
    held = HeldPort.take(REACTOR, factory())
    with listening() as one, listening() as two:
        tried = Tried(held, provable=False)
        with pytest.raises(RaceLost):
            await tried.dial([one, two])
        assert [each.transport.getHost().port for each in tried.proven] == [held.number] * 2
        await sleep(0.01)
    await held.close()


@ensureDeferred
async def test_whatIsRefusedIsTold() -> None:
    before = descriptors()
    with refusing() as bad:
        tried = Tried()
        with pytest.raises(RaceLost):
            await tried.dial([bad] * 64)
        assert tried.results == {Result.REFUSED: 64}
    assert descriptors() == before


@ensureDeferred
async def test_aFourTupleThatExistsIsTold() -> None:
    held = HeldPort.take(REACTOR, factory())
    with listening(silent=True) as silent:
        tried = Tried(held)
        with pytest.raises(RaceLost):
            await tried.dial([silent, silent], 0.05)
        assert tried.results == {Result.PORT_TAKEN: 1, Result.TIMED_OUT: 1}
    await held.close()


@ensureDeferred
async def test_whoHearsNothingIsGivenUpInTime() -> None:
    before = descriptors()
    with listening(silent=True) as silent:
        tried = Tried()
        began = REACTOR.seconds()
        with pytest.raises(RaceLost):
            await tried.dial([silent] * 256, 0.1)
        assert 0.09 < reactor.seconds() - began < 1.0
        assert tried.results == {Result.TIMED_OUT: 256}
    assert descriptors() == before


@ensureDeferred
async def test_cancellingLeavesNoSocket() -> None:
    before = descriptors()
    with listening(silent=True) as silent:
        tried = Tried()
        dialling = tried.dial([silent] * 256)
        await sleep(0.01)
        assert descriptors() >= before + 256
        dialling.cancel()
        with pytest.raises(CancelledError):
            await dialling
        assert tried.results == {Result.CANCELLED: 256}
    assert descriptors() == before


@ensureDeferred
async def test_whatProvesNothingIsEndedAndTheOthersGoOn() -> None:
    with listening() as good, listening(silent=True) as silent:
        tried = Tried(provable=False)
        with pytest.raises(RaceLost):
            await tried.dial([good, silent], 0.1)
        assert tried.results == {Result.NOT_AUTHENTICATED: 1, Result.TIMED_OUT: 1}
        await sleep(0.01)
        assert tried.proven[0].isLost


@ensureDeferred
async def test_severalThatConnectAreAllProven() -> None:
    """
    Which of them counts is for others to say.
    """
    with listening() as good:
        tried = Tried()
        waiting: list[Deferred[Any]] = []

        def prove(protocol: Any) -> Deferred[Any]:
            tried.proven.append(protocol)
            waiting.append(Deferred())
            return waiting[-1]

        spray = Spray(REACTOR, None, prove, tried._ended)
        dialling = spray.dial([good] * 3, factory(), 5.0)
        while len(waiting) < 3:
            await sleep(0.01)
        waiting[1].callback(None)
        assert await dialling is tried.proven[1]
        waiting[0].callback(None)
        waiting[2].errback(Unreachable("the other side has chosen"))
        assert tried.results == {Result.CONNECTED: 2, Result.NOT_AUTHENTICATED: 1}
        assert tried.proven[0].connected
        tried.end()
        await sleep(0.01)


@contextmanager
def fewDescriptors(free: int) -> Iterator[None]:
    """
    There is room for only so many more files.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Not the one by which they are listed.
    listed = [int(each) for each in os.listdir("/proc/self/fd")]
    taken = {each for each in listed if Path(f"/proc/self/fd/{each}").exists()}
    # The kernel gives the lowest free number, which must be below the limit.
    left = (number for number in count() if number not in taken)
    limit = next(islice(left, free, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@ensureDeferred
async def test_withoutRoomForAllThereAreFewer() -> None:
    before = descriptors()
    with listening(silent=True) as silent:
        tried = Tried()
        with fewDescriptors(100):
            dialling = tried.dial([silent] * 256, 0.1)
            assert tried.spray.leftOut == "EMFILE"
            assert 50 < tried.spray.dialled < 256
            # There is room for other things the process does.
            for one in [socket.socket() for _ in range(10)]:
                one.close()
            with pytest.raises(RaceLost):
                await dialling
        assert len(tried.fates) == tried.spray.dialled
    assert descriptors() == before


@ensureDeferred
async def test_withoutAnyRoomNothingIsDialled() -> None:
    with listening(silent=True) as silent:
        tried = Tried()
        with fewDescriptors(0):
            dialling = tried.dial([silent] * 4)
        with pytest.raises(RaceLost):
            await dialling
        assert (tried.spray.dialled, tried.fates) == (0, [])


@ensureDeferred
async def test_nothingToDialIsOverAtOnce() -> None:
    with pytest.raises(RaceLost):
        await Tried().dial([])


@ensureDeferred
async def test_aBugInTheProofIsNotSwallowed() -> None:
    def prove(protocol: Any) -> Deferred[Any]:
        protocol.transport.abortConnection()
        raise ZeroDivisionError

    with listening() as good:
        spray = Spray(REACTOR, None, prove, lambda *fate: None)
        with pytest.raises(ZeroDivisionError):
            await spray.dial([good], factory(), 5.0)
        await sleep(0.01)
