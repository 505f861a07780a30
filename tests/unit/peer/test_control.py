"""
Tests for L{punchd.peer.control}.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.errors import NoPath, Refused, Unreachable
from punchd.interfaces import IStreamExposer
from punchd.link.stream import CLOSING
from punchd.net.pieces import BROKEN, CLOSED, END, PieceStream
from punchd.peer.control import (
    MOST_EARLY,
    MOST_QUESTION,
    QUESTION_DEADLINE,
    Answers,
    ControlFactory,
)
from punchd.peer.facts import Facts
from punchd.peer.serving import Serving
from punchd.values.outcomes import Outcome, Result
from punchd.values.peers import PeerAddress, PeerID
from tests.unit.link.pairs import ALICE, BOB, User
from tests.unit.link.wires import Link
from tests.unit.net.memory import HERE, Pair
from tests.unit.peer.clients import makePins
from tests.unit.peer.streams import Sides
from tests.unit.peer.test_forwarding import Opener

OWN = PeerAddress("alice", ALICE.peerID)


@implementer(IStreamExposer)
class Exposer:
    """
    Remembers what is exposed.
    """

    address = OWN

    def __init__(self) -> None:
        self.takers: dict[str, Any] = {}

    def expose(self, service: str, taker: Any) -> Deferred[Callable[[], Deferred[None]]]:
        if service in self.takers:
            return fail(Refused(f"{service} is exposed already"))
        self.takers[service] = taker
        return succeed(lambda: succeed(self.takers.pop(service, None) and None))


class Reaching(Opener):
    """
    Finds paths when the test says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[tuple[str, bool]] = []
        self.reaching: list[Deferred[Any]] = []

    def reach(self, peer: str, again: bool) -> Deferred[Any]:
        self.reached.append((peer, again))
        self.reaching.append(Deferred(self._cancel))
        return self.reaching[-1]


class KnownLinks:
    """
    The one to Bob.
    """

    def __init__(self) -> None:
        self.facts = Facts("bob", BOB.peerID)
        self.session: Any = None

    def factsOf(self, peer: str, peerID: PeerID) -> Facts:
        return self.facts

    def describe(self, facts: Facts) -> dict[str, Any]:
        return facts.toJSON(self.session)


class Asking:
    """
    A person's command, on the control socket of a peer that has pinned Bob.
    """

    def __init__(self, folder: Path | None, describe: Any = None) -> None:
        self.clock = Clock()
        self.opener = cast(Any, Reaching())
        self.exposer = Exposer()
        self.links = cast(Any, KnownLinks())
        self.changes = 0
        self.pins: Any = None
        if folder is not None:
            self.pins = makePins(folder, bob=BOB.peerID)
        answers = Answers(
            self.pins,
            self.opener,
            self.links,
            describe or (lambda: {"name": "alice"}),
            self._pinsChanged,
            self._findNat,
            Serving(self.clock, self.exposer),
            OWN,
        )
        self.factory = ControlFactory(self.clock, answers)
        self.user = User()
        self.connection: Any = self.factory.buildProtocol(HERE)
        self.pair = Pair(self.clock, self.user, self.connection)

    def _pinsChanged(self) -> None:
        self.changes += 1

    async def _findNat(self, again: bool) -> dict[str, Any]:
        return {"again": again}

    def say(self, data: bytes) -> None:
        self.user.transport.write(data)
        self.pair.flush()

    def ask(self, **question: Any) -> None:
        self.say(json.dumps(question).encode() + b"\n")

    @property
    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.user.received)
        return answer

    @property
    def isClosed(self) -> bool:
        return self.user.lost is not None and not self.clock.getDelayedCalls()


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


def test_theSocketsFactoryIsOne(asking: Asking) -> None:
    verifyObject(IProtocolFactory, asking.factory)
    verifyObject(IHalfCloseableProtocol, asking.connection)
    asking.connection.connectionLost()


def test_aQuestionIsAnsweredAndTheConnectionClosed(asking: Asking) -> None:
    asking.ask(command="status")
    assert asking.answer == {"ok": True, "name": "alice"}
    assert asking.isClosed


def test_aQuestionMayComeInPieces(asking: Asking) -> None:
    for byte in b'{"command": "status"}\n':
        asking.say(bytes([byte]))
    assert asking.answer["ok"]


def test_trustCountsAtOnce(asking: Asking) -> None:
    asking.ask(command="trust", name="carol", id="0c" * 32)
    assert asking.answer == {"ok": True}
    assert asking.pins.idOf("carol") == PeerID(b"\x0c" * 32)
    assert asking.changes == 1


@pytest.mark.parametrize(("name", "id"), [("carol", "xyz"), ("c c", "0c" * 32)])
def test_whatCannotBeTrustedIsSaid(asking: Asking, name: str, id: str) -> None:
    asking.ask(command="trust", name=name, id=id)
    assert not asking.answer["ok"]
    assert asking.answer["kind"] == "ConfigurationError"
    assert asking.changes == 0


GARBAGE = [
    b"\n",
    b"status\n",
    b"[]\n",
    b"7\n",
    b"null\n",
    b"{}\n",
    b'{"command": 7}\n',
    b'{"command": []}\n',
    b'{"command": "stop"}\n',
    b'{"command": "__class__"}\n',
    b'{"command": "status", "more": "x"}\n',
    b'{"command": "ping"}\n',
    b'{"command": "ping", "peer": 7}\n',
    b'{"command": "connect", "peer": "a/b", "service": "c"}\n',
    b'{"command": "connect", "peer": "", "service": ""}\n',
    b"\xff\xfe\n",
    b"[" * 4000 + b"\n",
]


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: repr(line[:30]))
def test_garbageIsAnsweredAndTheConnectionClosed(asking: Asking, line: bytes) -> None:
    asking.say(line)
    assert not asking.answer["ok"]
    assert asking.isClosed


@given(st.binary(max_size=200))
def test_anyLineIsAnsweredOnce(line: bytes) -> None:
    asking = Asking(None)
    asking.say(line.replace(b"\n", b" ") + b"\n")
    assert not asking.answer["ok"]
    assert asking.isClosed


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_aQuestionThatIsTooLongIsRefused(asking: Asking, end: bytes) -> None:
    asking.say(b"x" * (MOST_QUESTION + 1) + end)
    assert asking.answer == {"ok": False, "error": "the question is too long"}
    asking.clock.advance(QUESTION_DEADLINE)
    asking.pair.flush()
    assert asking.isClosed


def test_moreAfterAQuestionThatIsTooLongIsNotAnsweredAgain(asking: Asking) -> None:
    asking.connection.dataReceived(b"x" * (MOST_QUESTION + 1))
    asking.connection.dataReceived(b"x" * MOST_QUESTION)
    asking.pair.flush()
    assert asking.user.received.count(b"\n") == 1
    asking.connection.connectionLost()


def test_whoAsksNothingIsDisconnected(asking: Asking) -> None:
    asking.say(b'{"command"')
    asking.clock.advance(QUESTION_DEADLINE)
    asking.pair.flush()
    assert asking.answer == {"ok": False, "error": "no question came"}
    assert asking.isClosed


def test_whoGoesAwayWithoutAQuestionLeavesNothing(asking: Asking) -> None:
    asking.pair.one.abortConnection()
    asking.pair.flush()
    assert asking.isClosed


def test_anEndOfInputWithoutAQuestionEndsTheConnection(asking: Asking) -> None:
    asking.user.transport.loseWriteConnection()
    asking.pair.flush()
    assert asking.isClosed


def test_aBugIsLoggedAndSaid(tmp_path: Path, flushLoggedErrors: Any) -> None:
    def describe() -> dict[str, Any]:
        raise ValueError("a bug")

    asking = Asking(tmp_path, describe)
    asking.ask(command="status")
    assert asking.answer == {"ok": False, "error": "a bug; see the log of punchd-peer"}
    assert flushLoggedErrors(ValueError)


# ping


def test_pingMeasuresTheLink(asking: Asking) -> None:
    link = Link()
    asking.ask(command="ping", peer="bob", again="no")
    assert asking.opener.reached == [("bob", False)]
    asking.links.facts.strategy = "lan"
    asking.links.session = link.alice
    asking.opener.reaching[0].callback(SimpleNamespace(session=link.alice))
    for _ in range(3):
        link.advance(1)
    asking.pair.flush()
    answer = asking.answer
    assert (answer["ok"], answer["peer"], answer["path"]) == (True, "bob", "direct")
    assert (answer["strategy"], answer["rtt"]) == ("lan", 0.0)
    assert asking.isClosed
    link.end()


def test_pingMayWantAnotherPath(asking: Asking) -> None:
    asking.ask(command="ping", peer="bob", again="yes")
    assert asking.opener.reached == [("bob", True)]


def test_pingWithoutPathSaysWhatWasTried(asking: Asking) -> None:
    asking.ask(command="ping", peer="bob", again="no")
    error = NoPath("bob", (Outcome("lan", Result.REFUSED, 1.0),))
    asking.links.facts.failed(error)
    asking.opener.reaching[0].errback(Failure(error))
    asking.pair.flush()
    answer = asking.answer
    assert (answer["ok"], answer["path"], answer["reason"]) == (False, None, str(error))
    assert [attempt["strategy"] for attempt in answer["attempts"]] == ["lan"]


def test_pingOfNobodyWeKnowSaysSo(asking: Asking) -> None:
    asking.ask(command="ping", peer="carol", again="no")
    assert asking.answer["kind"] == "UnknownPeer"
    assert "punchd trust carol" in asking.answer["error"]


def test_whoGoesAwayEndsTheOpening(asking: Asking) -> None:
    asking.ask(command="ping", peer="bob", again="no")
    asking.pair.one.abortConnection()
    asking.pair.flush()
    assert asking.opener.cancelled == 1
    assert asking.isClosed


# connect


class Connected(Asking):
    """
    A command that has become a stream to Bob's service.
    """

    question = b'{"command": "connect", "peer": "bob", "service": "ssh"}\n'

    def __init__(self, folder: Path, early: bytes = b"") -> None:
        super().__init__(folder)
        self.sides = Sides()
        self.service = User()
        self.say(self.question + early)
        self.opener.opening[0].callback(self.sides.open("ssh"))
        self.sides.flush()

    def agree(self) -> None:
        self.sides.callee.agree()
        self.sides.callee.carry(self.service)
        self.flush()

    def flush(self) -> None:
        for _ in range(4):
            self.sides.flush()
            self.pair.flush()


def test_connectBecomesTheStream(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    connected.agree()
    connected.say(b"question")
    connected.service.transport.write(b"answer")
    connected.flush()
    assert connected.service.received == b"question"
    assert connected.user.received == b'{"ok": true}\n\0\0\0\x06answer'
    connected.sides.end()
    connected.flush()


def test_whatComesWithTheQuestionIsNotLost(tmp_path: Path) -> None:
    connected = Connected(tmp_path, b"early")
    connected.agree()
    assert connected.service.received == b"early"
    connected.sides.end()
    connected.flush()


def test_inputThatEndsBeforeTheStreamIsThereEndsItToo(tmp_path: Path) -> None:
    connected = Connected(tmp_path, b"all there is")
    connected.user.transport.loseWriteConnection()
    connected.pair.flush()
    connected.agree()
    assert connected.service.received == b"all there is"
    assert connected.service.inputEnded
    connected.service.transport.write(b"answer")
    connected.service.transport.loseWriteConnection()
    connected.flush()
    assert connected.user.received.endswith(b"\0\0\0\x06answer" + END + CLOSED)
    assert connected.isClosed


def test_whoWaitsForAStreamIsWatchedUntilItHasSentALot(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    paused = []
    for early in (bytes(MOST_EARLY), b"x"):
        connected.say(early)
        paused.append(connected.pair.two.isPaused)
    assert paused == [False, True]
    connected.agree()
    assert connected.service.received == bytes(MOST_EARLY) + b"x"
    connected.sides.end()
    connected.flush()


def test_bothWaysMayEnd(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    connected.agree()
    connected.user.transport.loseWriteConnection()
    connected.flush()
    assert connected.service.inputEnded
    connected.service.transport.write(b"answer")
    connected.service.transport.loseWriteConnection()
    connected.flush()
    assert connected.user.received.endswith(b"\0\0\0\x06answer" + END + CLOSED)
    assert connected.isClosed
    assert connected.sides.caller.isOver
    connected.sides.end()


def test_aStreamThatBreaksWhenOneWayHasEndedHasAReasonToo(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    connected.agree()
    connected.service.transport.loseWriteConnection()
    connected.flush()
    assert connected.user.received.endswith(END)
    connected.say(b"lost on its way")
    connected.sides.callee.abortConnection()
    connected.flush()
    assert connected.user.received.endswith(END + BROKEN + b"the other side broke the stream")
    assert connected.isClosed


def stillSending(tmp_path: Path) -> Connected:
    """
    Both ways have ended, but not all that was said has arrived yet.
    """
    connected = Connected(tmp_path)
    connected.agree()
    connected.service.transport.loseWriteConnection()
    connected.flush()
    connected.say(b"on its way")
    connected.user.transport.loseWriteConnection()
    connected.pair.flush()
    return connected


def test_whatWasSentHasArrivedWhenBothWaysHaveEnded(tmp_path: Path) -> None:
    connected = stillSending(tmp_path)
    assert connected.user.received.endswith(END)
    assert connected.user.lost is None
    connected.flush()
    assert connected.user.received.endswith(END + CLOSED)
    assert connected.isClosed
    connected.sides.end()


def test_whatWasSentIsNotSaidToHaveArrivedWhenItHasNot(tmp_path: Path) -> None:
    connected = stillSending(tmp_path)
    connected.sides.caller.broken("the link is over")
    connected.pair.flush()
    assert connected.user.received.endswith(END + BROKEN + b"the link is over")
    assert connected.isClosed


def test_aStreamThatBreaksHasNoEndButAReason(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    connected.agree()
    connected.service.transport.write(b"half of it")
    connected.flush()
    connected.sides.callee.abortConnection()
    connected.flush()
    why = b"\xff\xff\xff\xfethe other side broke the stream"
    assert connected.user.received.endswith(b"half of it" + why)
    assert connected.user.lost is not None


def test_aRefusedServiceIsSaid(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    connected.sides.callee.refuse("the service 'ssh' is not exposed there")
    connected.flush()
    assert connected.answer == {
        "ok": False,
        "error": "the service 'ssh' is not exposed there",
        "kind": "Refused",
    }


def test_whoGoesAwayWhileWaitingBreaksTheStream(tmp_path: Path) -> None:
    connected = Connected(tmp_path)
    connected.pair.one.abortConnection()
    connected.flush()
    connected.sides.flush()
    assert connected.sides.caller.isOver


def test_withoutAServerConnectSaysSo(asking: Asking) -> None:
    asking.ask(command="connect", peer="bob", service="ssh")
    asking.opener.opening[0].errback(Failure(Unreachable("not connected to any server")))
    asking.pair.flush()
    assert asking.answer["error"] == "not connected to any server"


def test_anOpeningThatIsNeverDoneCanBeGivenUp(asking: Asking) -> None:
    asking.ask(command="connect", peer="bob", service="ssh")
    opening: Deferred[Any] = asking.opener.opening[0]
    asking.pair.one.abortConnection()
    asking.pair.flush()
    assert opening.called


@pytest.mark.parametrize(("again", "isAgain"), [("yes", True), ("no", False)])
def test_natIsLookedAtAgainWhenAsked(tmp_path: Path, again: str, isAgain: bool) -> None:
    asking = Asking(tmp_path)
    asking.ask(command="nat", again=again)
    assert asking.answer == {"ok": True, "again": isAgain}


# open


class Opened(Connected):
    """
    A program that has become a stream to Bob's service, with pieces both ways.
    """

    question = b'{"command": "open", "peer": "bob", "service": "ssh"}\n'

    def begin(self) -> PieceStream:
        """
        The program goes on with the stream, after the answer.
        """
        self.program = User()
        pieces = PieceStream(PeerAddress("bob", BOB.peerID), OWN)
        self.pair.one.protocol = pieces
        pieces.makeConnection(self.pair.one)
        pieces.carry(self.program)
        return pieces


@pytest.fixture
def program(tmp_path: Path) -> Opened:
    opened = Opened(tmp_path)
    opened.agree()
    return opened


def test_openSaysWhoIsAtBothEnds(program: Opened) -> None:
    assert program.answer == {
        "ok": True,
        "peer": {"name": "bob", "id": str(BOB.peerID)},
        "host": {"name": "alice", "id": str(ALICE.peerID)},
    }
    program.sides.end()
    program.flush()


def test_bytesGoBothWaysInPieces(program: Opened) -> None:
    program.begin().write(b"question")
    program.flush()
    program.service.transport.write(b"answer")
    program.flush()
    assert (program.service.received, program.program.received) == (b"question", b"answer")
    program.sides.end()
    program.flush()


def test_aStreamThatIsFinishedOnBothSidesIsDone(program: Opened) -> None:
    stream = program.begin()
    stream.write(b"all of it")
    stream.loseWriteConnection()
    program.flush()
    assert (program.service.received, program.service.inputEnded) == (b"all of it", True)
    program.service.transport.loseWriteConnection()
    program.flush()
    for user in (program.program, program.service):
        assert user.lost is not None
        assert user.lost.check(ConnectionDone)


def test_aProgramThatDiesBreaksTheStream(program: Opened) -> None:
    program.begin().write(b"half of it")
    program.flush()
    program.pair.one.loseConnection()
    program.flush()
    assert not program.service.inputEnded
    assert program.service.lost is not None
    assert program.service.lost.check(ConnectionLost)
    program.sides.end()


def test_aStreamThatBreaksIsBrokenForTheProgram(program: Opened) -> None:
    program.begin()
    program.sides.callee.abortConnection()
    program.flush()
    assert program.program.lost is not None
    assert program.program.lost.check(ConnectionLost)


def test_aProgramThatClosesDoesNotWaitForeverForTheService(program: Opened) -> None:
    stream = program.begin()
    stream.write(b"the last word")
    stream.loseConnection()
    program.flush()
    assert (program.service.received, program.service.inputEnded) == (b"the last word", True)
    program.sides.clock.advance(CLOSING)
    program.flush()
    assert program.program.lost is not None
    assert program.program.lost.check(ConnectionLost)


def test_aServiceThatTalksToAProgramThatHasClosedIsTold(program: Opened) -> None:
    program.begin().loseConnection()
    program.flush()
    program.service.transport.write(b"are you there?")
    program.flush()
    program.sides.link.advance(CLOSING)
    assert program.service.lost is not None
    assert program.service.lost.check(ConnectionLost)
    program.flush()
