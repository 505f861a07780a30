"""
What a link costs beside TLS and the kernel: two sessions in memory, in one process.

Run it: C{python -m tests.benchmarks.frames [MEGABYTES [STREAMS]]}. It prints how fast one stream,
100 streams, and small writes go, how many streams can be opened, answered and closed a second, what
is left in memory afterwards, and what an idle session takes, all without TLS. CPU time counts, of
both ends.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections import deque
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.link.path import Path
from punchd.link.session import Session
from punchd.link.stream import Stream
from punchd.values.peers import PeerID
from punchd.wire.frames import FULL_DATA
from tests.unit.link.wires import FULL, End

#: What TLS hands on at a time.
_RECORD = 32768

_CHUNK = bytes(FULL_DATA)


class _End(End):
    """
    The transport of one path, which hands on as much at a time as TLS does.
    """

    def __init__(self, protocol: Path) -> None:
        super().__init__(protocol)
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > FULL and not self.isPaused and self.producer is not None:
            self.isPaused = True
            self.producer.pauseProducing()

    def handOn(self) -> bool:
        """
        @return: whether there was anything.
        """
        if not self._pieces:
            return False
        pieces, self._pieces, self._size = self._pieces, deque(), 0
        receive = self.other.protocol.dataReceived
        for data in pieces:
            for at in range(0, len(data), _RECORD):
                receive(data[at : at + _RECORD])
        if self.isPaused:
            self.isPaused = False
            self.producer.resumeProducing()
        return True


class _Pair:
    """
    Two sessions and the path between them; the other end of each stream counts what comes.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        one, two = PeerID(b"1" * 32), PeerID(b"2" * 32)
        self.caller = Session(self.clock, bytes(16), True, two, self)
        self.callee = Session(self.clock, bytes(16), False, one, self)
        paths = Path(self.clock, lambda: None), Path(self.clock, lambda: None)
        paths[0].peerID, paths[1].peerID = two, one
        paths[1].onJoin = self.callee.joined
        self.ends = [_End(path) for path in paths]
        for end, other in zip(self.ends, reversed(self.ends), strict=True):
            end.other = other
            end.protocol.makeConnection(end)
        self.caller.join(paths[0])
        self.run()

    def pathChanged(self, session: Session) -> None:
        pass

    def asked(self, stream: Stream, service: str) -> None:
        stream.agree()
        stream.carry(_Echo() if service == "echo" else _Sink())

    def run(self) -> None:
        while sum(map(_End.handOn, self.ends)) or self._turn():
            pass

    def _turn(self) -> bool:
        calls = self.clock.getDelayedCalls()
        if not any(call.getTime() <= self.clock.seconds() for call in calls):
            return False
        self.clock.advance(0)
        return True

    def end(self) -> None:
        self.caller.abort("done")
        self.run()
        for end in self.ends:
            end.protocol.connectionLost(Failure(ConnectionDone()))


class _Sink(Protocol):
    def dataReceived(self, data: bytes) -> None:
        pass


class _Echo(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.loseConnection()


class _Source:
    """
    A push producer that writes C{total} bytes.
    """

    def __init__(self, stream: Stream, chunk: bytes, total: int) -> None:
        self._stream = stream
        self._chunk = chunk
        self._left = total
        self._isPaused = False
        stream.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        while self._left > 0 and not self._isPaused:
            self._left -= len(self._chunk)
            self._stream.write(self._chunk)
        if self._left <= 0:
            self._stream.unregisterProducer()

    stopProducing = pauseProducing


def _pump(streams: int, chunk: bytes, total: int) -> float:
    """
    MB/s.
    """
    pair = _Pair()
    opened = [pair.caller.openStream("sink") for _ in range(streams)]
    pair.run()
    began = time.process_time()
    for stream in opened:
        stream.carry(_Sink())
        _Source(stream, chunk, total // streams)
    pair.run()
    seconds = time.process_time() - began
    assert pair.callee.bytesIn >= total - streams * len(chunk)
    pair.end()
    return total / seconds / 1e6


def _open(pair: _Pair, count: int, atOnce: int) -> float:
    """
    Streams a second: opened, asked a byte, answered and closed.
    """
    began = time.process_time()
    for _ in range(count // atOnce):
        streams = [pair.caller.openStream("echo") for _ in range(atOnce)]
        for stream in streams:
            stream.carry(_Sink())
            stream.write(b"?")
        pair.run()
        assert all(stream.isOver and stream.bytesIn == 1 for stream in streams)
    return count / (time.process_time() - began)


def main() -> None:
    """
    Measure, and print.
    """
    given = [int(argument) for argument in sys.argv[1:]]
    megabytes, count = (*given, *(2000, 10_000)[len(given) :])
    total = megabytes * 1_000_000
    for streams, chunk in ((1, _CHUNK), (100, _CHUNK), (100, bytes(1024)), (1, bytes(64))):
        speed = _pump(streams, chunk, total if len(chunk) > 1000 else total // 50)
        print(f"{streams:3} streams, {len(chunk):5} bytes a write: {speed:6.0f} MB/s")
    for atOnce in (100, 1):
        pair = _Pair()
        speed = _open(pair, count, atOnce)
        pair.end()
        print(f"{speed:6.0f} streams a second opened and closed, {atOnce} at once")
    tracemalloc.start()
    pair = _Pair()
    _open(pair, 100, 100)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    _open(pair, count, 100)
    gc.collect()
    print(f"{tracemalloc.get_traced_memory()[0] - before:6} bytes more after {count:,} streams")
    pair.end()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    pairs = [_Pair() for _ in range(100)]
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / 200
    print(f"{each:6.0f} bytes for each end of an idle session")
    for pair in pairs:
        pair.end()


if __name__ == "__main__":
    main()
