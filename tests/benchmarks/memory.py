"""
What an idle link keeps in memory at each end, TLS included, before and after much has moved.

Run it: C{PYTHONMALLOC=malloc python -m tests.benchmarks.memory [MEGABYTES] [LINKS]}. Links in one
process, over connections in memory: what malloc has given out since (mallinfo2(3)), for each end.
So it counts everything but the kernel's sockets.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from punchd.identity.tls import ConnectionCreator, Verdict, anybody
from punchd.link.path import Path
from punchd.link.secure import SecureConnection
from punchd.link.session import Session
from punchd.link.stream import Stream
from tests.unit.link.pairs import ALICE, BOB, CONTEXTS

_PIECE = bytes(262_112)


class _Wire:
    """
    The transport of one end.
    """

    connected = True
    disconnecting = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass


class _Link:
    """
    Both ends of a link.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        ends = [self._end(True), self._end(False)]
        self._wires = [wire for _, _, wire in ends]
        self._secures = [secure for _, secure, _ in ends]
        for _, secure, wire in ends:
            secure.makeConnection(wire)
        self.run()
        (here, _, _), (there, _, _) = ends
        self.caller = Session(self.clock, bytes(16), True, BOB.peerID, self)
        self.callee = Session(self.clock, bytes(16), False, ALICE.peerID, self)
        there.onJoin = self.callee.joined
        self.caller.join(here)
        self.run()

    def _end(self, isClient: bool) -> tuple[Path, Any, Any]:
        mine, other = (ALICE, BOB) if isClient else (BOB, ALICE)
        path = Path(self.clock, lambda: None)
        path.peerID = other.peerID
        creator = ConnectionCreator(CONTEXTS[mine.peerID], lambda: Verdict(anybody))
        return path, SecureConnection(self.clock, creator, isClient, path), _Wire()

    def pathChanged(self, session: Session) -> None:
        pass

    def asked(self, stream: Stream, service: str) -> None:
        stream.agree()
        stream.carry(Protocol())

    def run(self) -> None:
        while any(wire.sent for wire in self._wires):
            for wire, other in zip(self._wires, reversed(self._secures), strict=True):
                sent, wire.sent = wire.sent, []
                for data in sent:
                    other.dataReceived(data)
            self.clock.advance(0)

    def move(self, megabytes: int) -> None:
        """
        Let as many go each way, over a stream each; then rest.
        """
        for session in (self.caller, self.callee):
            stream = session.openStream("sink")
            stream.carry(Protocol())
            for _ in range(megabytes * 1_000_000 // len(_PIECE)):
                stream.write(_PIECE)
                self.run()
            stream.loseConnection()
            self.run()
        for _ in range(30):
            self.clock.advance(1)
            self.run()
        assert self.caller.bytesIn == self.callee.bytesIn >= megabytes * 1_000_000 - len(_PIECE)


def inUse() -> int:
    """
    Bytes that malloc has given out.
    """

    class MallInfo(ctypes.Structure):
        _fields_ = [
            (name, ctypes.c_size_t)
            for name in (
                *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
                *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
            )
        ]

    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    info = mallinfo2()
    return int(info.uordblks) + int(info.hblkhd)


def main() -> None:
    """
    Measure, and print.
    """
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    # What is made once.
    warm = _Link()
    warm.move(1)
    before = inUse()
    links = [_Link() for _ in range(count)]
    print(f"{(inUse() - before) / count / 2000:6.1f} kB for each end of an idle link")
    for link in links:
        link.move(megabytes)
    each = (inUse() - before) / count / 2000
    print(f"{each:6.1f} kB after {megabytes} MB each way over each of {count}")


if __name__ == "__main__":
    main()
