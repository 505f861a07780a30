"""
Tests for L{punchd.server.relaycarrying}, on pairs of sockets that no network is between.
"""

import select
import socket
from collections.abc import Callable

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.main import CONNECTION_LOST

from punchd.server.relaycarrying import Carrying
from punchd.server.relaypipes import Pipes


@define(eq=False, slots=False)
class Transport:
    """
    What is carried from and to, with a reactor that runs when it is told to. As with Twisted's,
    methods may be replaced in the instance.
    """

    handle: socket.socket
    connected: bool = True
    isReading: bool = False
    isWriting: bool = False
    isAborted: bool = False
    why: Exception | None = None

    def fileno(self) -> int:
        return self.handle.fileno()

    def getHandle(self) -> socket.socket:
        return self.handle

    def startReading(self) -> None:
        self.isReading = True

    def stopReading(self) -> None:
        self.isReading = False

    def startWriting(self) -> None:
        self.isWriting = True

    def stopWriting(self) -> None:
        self.isWriting = False

    def abortConnection(self) -> None:
        self.isAborted = True

    def doRead(self) -> Exception | None:
        raise AssertionError("this is not carried")

    doWrite = doRead

    def turn(self) -> bool:
        """
        Let it do what its socket is ready for; whether there was something.
        """
        readable, writable, _ = select.select([self], [self], [], 0)
        wasReading, wasWriting = self.isReading and readable, self.isWriting and writable
        if wasReading:
            self.why = self.doRead()
        if wasWriting:
            # Even if it has just said that it does not want to: the reactor had asked before.
            self.doWrite()
        return bool(wasReading or wasWriting)


@define(eq=False)
class Meter:
    """
    Lets pass what it is told to.
    """

    most: int = 1 << 20
    counted: int = 0

    def portion(self) -> int:
        return self.most

    def moved(self, count: int) -> None:
        assert 0 < count <= self.most
        self.counted += count


@define(eq=False)
class World:
    """
    A relayed path, and the two ends of it.
    """

    pipes: Pipes
    meter: Meter = field(factory=Meter)
    greeting: bytes = b""
    outer: list[socket.socket] = field(factory=list)
    inner: list[Transport] = field(factory=list)
    sent: list[bytes] = field(factory=lambda: [b"", b""])
    came: list[bytes] = field(factory=lambda: [b"", b""])
    isShut: list[bool] = field(factory=lambda: [False, False])
    isEnded: list[bool] = field(factory=lambda: [False, False])
    finished: int = 0
    carrying: Carrying = field(init=False)

    def __attrs_post_init__(self) -> None:
        for _ in range(2):
            one, other = socket.socketpair()
            for end in (one, other):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            self.outer.append(one)
            self.inner.append(Transport(other))
        caller, callee = self.inner
        self.carrying = Carrying(
            caller, callee, self.greeting, self.pipes, self.meter, self._finished
        )

    def _finished(self) -> None:
        self.finished += 1

    def send(self, side: int, count: int) -> None:
        """
        Send so many bytes, or as many as the socket takes.
        """
        if self.isShut[side]:
            return
        data = bytes((len(self.sent[side]) + at) * 31 % 251 for at in range(count))
        try:
            self.sent[side] += data[: self.outer[side].send(data)]
        except BlockingIOError:
            return

    def read(self, side: int, count: int) -> bool:
        """
        Take up to so many bytes; whether there was something.
        """
        try:
            data = self.outer[side].recv(count)
        except BlockingIOError:
            return False
        wasEnded, self.isEnded[side] = self.isEnded[side], not data
        self.came[side] += data
        return bool(data) or not wasEnded

    def shut(self, side: int, count: int = 0) -> None:
        """
        Send no more.
        """
        if not self.isShut[side]:
            self.isShut[side] = True
            self.outer[side].shutdown(socket.SHUT_WR)

    def turn(self, side: int = 0, count: int = 0) -> bool:
        """
        One turn of the reactor.
        """
        # Both have their turn, in any case.
        hadSomething = [transport.turn() for transport in self.inner]
        return any(hadSomething)

    def settle(self) -> None:
        """
        Let everything come to rest, with ends that read.
        """
        while any([self.turn(), self.read(0, 1 << 20), self.read(1, 1 << 20)]):
            pass

    def close(self) -> None:
        self.carrying.stop()
        for end in (*self.outer, *(transport.handle for transport in self.inner)):
            end.close()
        assert self.pipes.lent == 0
        self.pipes.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "read", "turn", "turn", "shut"]),
        st.sampled_from([0, 1]),
        st.sampled_from([1, 100, 5000, 70_000]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    most=st.sampled_from([0, 1, 4]),
    steps=STEPS,
    portion=st.sampled_from([1000, 1 << 20]),
    greeting=st.binary(max_size=8),
)
def test_whatComesOutIsWhatWentIn(
    most: int, steps: list[tuple[str, int, int]], portion: int, greeting: bytes
) -> None:
    world = World(Pipes(most), Meter(portion), greeting)
    for step, side, count in steps:
        act: Callable[[int, int], object] = getattr(world, step)
        act(side, count)
        for came, sent in zip(world.came, world.sent[::-1], strict=True):
            assert (greeting + sent).startswith(came)
    world.settle()
    assert world.came == [greeting + world.sent[1], greeting + world.sent[0]]
    assert world.isEnded == world.isShut[::-1]
    assert world.finished == all(world.isShut)
    assert world.meter.counted == world.carrying.count == sum(map(len, world.sent))
    # Nobody waits for anything else than what may still come.
    assert [one.isReading for one in world.inner] == [not isShut for isShut in world.isShut]
    assert not any(one.isWriting for one in world.inner)
    assert world.pipes.lent == 0
    world.close()


@pytest.fixture(params=[0, 4])
def world(request: pytest.FixtureRequest) -> World:
    return World(Pipes(request.param))


def test_whoIsHeldIsNotRead(world: World) -> None:
    world.carrying.hold()
    world.send(0, 1000)
    world.settle()
    assert world.came == [b"", b""]
    world.carrying.resume()
    world.settle()
    assert world.came[1] == world.sent[0]
    world.close()


def test_whoMayNotMoveAnythingIsNotReadEither(world: World) -> None:
    world.meter.most = 0
    world.send(0, 1000)
    for _ in range(3):
        world.turn()
    assert world.carrying.count == 0
    world.meter.most = 10
    world.turn()
    assert world.carrying.count == 10
    world.close()


def test_aSourceThatBreaksIsItsOwnLoss(world: World) -> None:
    world.inner[0].handle.close()
    world.inner[0].handle = broken = socket.socket()
    assert world.inner[0].doRead() is CONNECTION_LOST
    assert not world.inner[1].isAborted
    broken.close()
    world.close()


def test_aDrainThatBreaksIsAborted(world: World) -> None:
    world.outer[1].close()
    world.send(0, 1000)
    world.turn()
    assert world.inner[1].isAborted
    assert not world.inner[0].isAborted
    assert not world.inner[0].isReading
    world.close()


def test_whatIsStoppedIsAsItWas(world: World) -> None:
    world.carrying.stop()
    for transport in world.inner:
        assert not transport.isReading
        with pytest.raises(AssertionError, match="not carried"):
            transport.doRead()
    world.close()
