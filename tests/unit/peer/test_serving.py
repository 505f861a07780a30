"""
Tests for L{punchd.peer.serving}, by the control socket.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from punchd.link.stream import Stream
from punchd.peer.serving import ACCEPTING, MOST_WAITING
from punchd.values.peers import PeerAddress
from tests.unit.link.pairs import BOB, User
from tests.unit.net.memory import HERE, Pair
from tests.unit.peer.streams import Sides
from tests.unit.peer.test_control import OWN, Asking

CAROL = PeerAddress("carol", BOB.peerID)


class Served(Asking):
    """
    A program that serves C{web}, and Carol, who calls.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ask(command="serve", service="web")
        self.sides = Sides()
        self.sides.link.bob.peer = CAROL
        self.caller = User()
        self.refused: list[str] = []

    def call(self) -> Stream:
        caller = self.sides.open("web")
        caller.opened.addErrback(lambda failure: self.refused.append(str(failure.value)))
        caller.carry(self.caller)
        self.sides.flush()
        stream = self.sides.callee
        self.exposer.takers["web"](stream)
        self.flush()
        return stream

    def flush(self) -> None:
        for _ in range(4):
            self.sides.flush()
            self.pair.flush()

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.pair.one.protocol.received.splitlines()]

    def accept(self, number: str) -> Pair:
        program = User()
        pair = Pair(self.clock, program, self.factory.buildProtocol(HERE))
        program.transport.write(json.dumps({"command": "accept", "stream": number}).encode())
        program.transport.write(b"\n")
        pair.flush()
        return pair

    def end(self) -> None:
        self.pair.one.abortConnection()
        self.sides.link.alice.abort("she has gone")
        self.flush()
        assert self.clock.getDelayedCalls() == []
        self.sides.end()


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def test_serveExposesAsLongAsTheConnectionStays(served: Served) -> None:
    assert served.lines == [{"ok": True, "host": OWN.toJSON()}]
    assert list(served.exposer.takers) == ["web"]
    served.end()
    assert not served.exposer.takers


def test_aNameThatIsExposedIsRefused(served: Served) -> None:
    other = User()
    pair = Pair(served.clock, other, served.factory.buildProtocol(HERE))
    other.transport.write(b'{"command": "serve", "service": "web"}\n')
    pair.flush()
    assert json.loads(other.received)["kind"] == "Refused"
    assert list(served.exposer.takers) == ["web"]
    served.end()


def test_aStreamIsAnnouncedWithItsCallerAndTaken(served: Served) -> None:
    served.call()
    assert served.lines[1:] == [
        {"accept": "1", "peer": CAROL.toJSON()},
    ]
    pair = served.accept("1")
    answer, _, _ = pair.one.protocol.received.partition(b"\n")
    assert json.loads(answer)["peer"] == CAROL.toJSON()
    served.caller.transport.write(b"question")
    served.flush()
    pair.flush()
    assert pair.one.protocol.received.endswith(b"\0\0\0\x08question")
    pair.one.abortConnection()
    pair.flush()
    served.end()


def test_aStreamIsTakenOnce(served: Served) -> None:
    served.call()
    first, second = served.accept("1"), served.accept("1")
    assert json.loads(second.one.protocol.received)["kind"] == "Unreachable"
    first.one.abortConnection()
    first.flush()
    served.end()


def test_aStreamThatNobodyTakesIsRefused(served: Served) -> None:
    served.call()
    served.clock.advance(ACCEPTING)
    served.flush()
    assert served.refused == ["the service 'web' does not answer there"]
    served.end()


def test_streamsThatWaitAreRefusedWhenTheProgramGoes(served: Served) -> None:
    served.call()
    served.pair.one.abortConnection()
    served.flush()
    assert served.refused == ["the service 'web' went away there"]
    served.end()


def test_aCallerThatDoesNotWaitIsForgotten(served: Served) -> None:
    served.call()
    served.sides.link.alice.abort("she has gone")
    served.flush()
    assert json.loads(served.accept("1").one.protocol.received)["kind"] == "Unreachable"
    served.end()


def test_aProgramThatReadsNothingIsNotToldEverything(served: Served) -> None:
    announcing: Any = served.pair.two.producer
    announcing.pauseProducing()
    served.call()
    assert served.refused == ["the service 'web' is too busy there"]
    served.end()


class Silent:
    """
    A stream that waits.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []

    def getPeer(self) -> PeerAddress:
        return OWN

    def refuse(self, why: str) -> None:
        self.refused.append(why)

    def whenOver(self) -> Deferred[None]:
        return Deferred()


def test_onlySoManyStreamsWait(served: Served) -> None:
    streams = [Silent() for _ in range(MOST_WAITING + 1)]
    for stream in streams:
        served.exposer.takers["web"](stream)
    assert [len(stream.refused) for stream in streams] == [0] * MOST_WAITING + [1]
    served.end()
    assert all(stream.refused for stream in streams)


def test_whoServesHasNothingToSay(served: Served) -> None:
    served.say(b"x")
    assert not served.exposer.takers
    served.end()
