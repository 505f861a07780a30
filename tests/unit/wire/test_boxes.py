"""
Tests for L{punchd.wire.boxes}.
"""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols import amp
from twisted.python.failure import Failure

from punchd.errors import IncompatibleVersions, ProtocolViolation, Refused
from punchd.wire.boxes import MAX_BOX, MAX_KEYS, MAX_TAG, BoundedAMP
from punchd.wire.commands import Hello, Ping, Report, Tell
from tests.unit.server.pretending import Journal


class Responders(amp.CommandLocator):
    """
    Answers a few commands.
    """

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.waiting: list[Deferred[dict[str, Any]]] = []

    @Ping.responder
    def _ping(self) -> dict[str, Any]:
        return {}

    @Tell.responder
    def _tell(
        self, session: bytes, strategy: str, body: bytes, token: bytes | None
    ) -> dict[str, Any]:
        self.told.append(body)
        return {}

    @Report.responder
    def _report(self, session: bytes, strategy: str | None, seconds: float) -> dict[str, Any]:
        if strategy == "refused":
            raise Refused("no\nand no again")
        if strategy == "versions":
            raise IncompatibleVersions("1 and 2")
        if strategy == "bug":
            raise ZeroDivisionError
        return {}

    @Hello.responder
    def _hello(self, **arguments: Any) -> Deferred[dict[str, Any]]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


@define
class World:
    """
    One end of a connection.
    """

    responders: Responders = field(factory=Responders)
    violations: list[str] = field(factory=list)
    boxes: int = 0
    end: BoundedAMP = field(init=False)
    transport: Transport = field(factory=Transport)

    def __attrs_post_init__(self) -> None:
        self.end = BoundedAMP(
            self.responders,
            lambda violation: self.violations.append(str(violation)),
            self.boxCame,
        )
        self.end.makeConnection(self.transport)

    def boxCame(self) -> None:
        self.boxes += 1

    def receive(self, data: bytes) -> None:
        self.end.dataReceived(data)

    def answers(self) -> list[amp.AmpBox]:
        boxes: list[amp.AmpBox] = amp.parseString(self.transport.value())
        return boxes


def box(**elements: bytes) -> bytes:
    named = {key.encode("ascii"): value for key, value in elements.items()}
    return bytes(amp.AmpBox(named).serialize())


PING = box(_command=b"ping", _ask=b"1")
TELL = {"_command": b"tell", "session": bytes(16), "strategy": b"lan"}


def report(strategy: bytes, ask: bool = True) -> bytes:
    elements = {"_command": b"report", "session": bytes(16), "seconds": b"1.0"}
    return box(strategy=strategy, **elements, **({"_ask": b"1"} if ask else {}))


def test_aCommandIsAnswered() -> None:
    world = World()
    world.receive(PING)
    assert world.answers() == [{b"_answer": b"1"}]
    assert world.violations == []


def test_eachBoxIsCounted() -> None:
    world = World()
    world.receive(PING * 3 + PING[:-1])
    assert world.boxes == 3


def test_theLargestHelloPasses() -> None:
    world = World()
    world.receive(
        box(
            _command=b"hello",
            _ask=b"1",
            version=b"1",
            oldest=b"1",
            name=b"x" * 63,
            accepts=bytes(range(32)) * 1024,
            hosts=(b"\x00\x12" + bytes(16) + b"\x1e\x61") * 8,
            strategies=b"".join(b"\x00\x08" + b"name/999" for _ in range(32)),
        )
    )
    assert len(world.responders.waiting) == 1
    assert world.violations == []


class TestAViolation:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x01\x00",
            b"\xff\xff",
            b"GET / HTTP/1.0\r\n\r\n",
            b"\x00\x01a\xff\xff",
            b"\x00\x00",
            box(nothing=b""),
            box(_answer=b"7"),
            box(_error=b"7"),
            box(_error=b"7", _error_code=b"x", _error_description=b"x"),
            b"".join(b"\x00\x02%02d\x00\x01x" % number for number in range(MAX_KEYS + 2)),
            b"\x00\x01a" + (MAX_BOX - 1).to_bytes(2, "big") + bytes(MAX_BOX - 1),
            box(_command=b"ping", _ask=bytes(MAX_TAG + 1)),
        ],
    )
    def test_ofTheFormEndsTheConnectionAtOnce(self, data: bytes) -> None:
        world = World()
        world.receive(data)
        assert world.transport.aborted
        assert len(world.violations) == 1

    @pytest.mark.parametrize(
        "data",
        [
            box(_command=b"tell", _ask=b"1"),
            box(**TELL, body=bytes(1025), _ask=b"1"),
            box(**{**TELL, "session": b"short"}, body=b"", _ask=b"1"),
            box(**{**TELL, "strategy": b"../x"}, body=b"", _ask=b"1"),
            box(**{**TELL, "strategy": b"\xff"}, body=b"", _ask=b"1"),
            box(_command=b"report", session=bytes(16), seconds=b"soon", _ask=b"1"),
            box(_command=b"hello", version=b"9" * 5000, _ask=b"1"),
        ],
    )
    def test_ofACommandIsAnsweredFirst(self, data: bytes) -> None:
        world = World()
        world.receive(data)
        (answer,) = world.answers()
        assert answer[b"_error_code"] == b"PROTOCOL_VIOLATION"
        assert world.transport.disconnecting
        assert len(world.violations) == 1

    def test_ofACommandWithoutAQuestionEndsTheConnection(self) -> None:
        world = World()
        world.receive(box(_command=b"tell"))
        assert world.transport.value() == b""
        assert world.transport.disconnecting
        assert len(world.violations) == 1

    def test_isTheLastThingHeard(self) -> None:
        world = World()
        world.receive(box(_answer=b"7"))
        world.receive(PING)
        assert world.transport.value() == b""
        assert len(world.violations) == 1

    def test_mayBeFoundByWhoCountsBoxes(self) -> None:
        def boxCame() -> None:
            raise ProtocolViolation("too many")

        world = World()
        world.end.onBox = boxCame
        world.receive(PING)
        assert world.violations == ["too many"]
        assert world.transport.aborted

    def test_isNotWhatABoxThatIsStillComingIs(self) -> None:
        world = World()
        world.receive(b"\x00\x01a\x80\x00" + bytes(100))
        assert world.violations == []


class TestErrors:
    def test_anErrorOfOursIsAnsweredAndTheConnectionLives(self) -> None:
        world = World()
        world.receive(report(b"refused") + PING)
        assert [answer.get(b"_error_code") for answer in world.answers()] == [b"REFUSED", None]
        assert not world.transport.disconnecting

    def test_ofIncompatibleVersionsTheConnectionEnds(self) -> None:
        world = World()
        world.receive(report(b"versions"))
        (answer,) = world.answers()
        assert answer[b"_error_code"] == b"INCOMPATIBLE_VERSIONS"
        assert world.transport.disconnecting
        assert world.violations == ["1 and 2"]

    def test_anUnknownCommandIsForgiven(self) -> None:
        world = World()
        world.receive(box(_command=b"dance", _ask=b"1"))
        (answer,) = world.answers()
        assert answer[b"_error_code"] == b"UNHANDLED"
        assert not world.transport.disconnecting

    @pytest.mark.parametrize("ask", [{"_ask": b"1"}, {}], ids=["asked", "said"])
    def test_anUnknownCommandWithALongNameIsNoBug(self, ask: dict[str, bytes]) -> None:
        # What is logged as a bug fails the test.
        world = World()
        world.receive(box(_command=b"\xff" * 40_000, **ask))
        assert [answer[b"_error_code"] for answer in world.answers()] == [b"UNHANDLED"] * len(ask)

    def test_theTextOfAnErrorIsOneShortLine(self) -> None:
        world = World()
        errors: list[Any] = []
        world.end.callRemote(Ping).addErrback(lambda failure: errors.append(failure.value))
        evil = b"\x1b[2J\nforged " + b"x" * 1000
        world.receive(box(_error=b"1", _error_code=b"\x1b[2J", _error_description=evil))
        assert errors[0].description == ("?[2J?forged " + "x" * 1000)[:400]
        assert str(errors[0]).isprintable()

    def test_aBugIsLogged(self, flushLoggedErrors: Any) -> None:
        world = World()
        world.receive(report(b"bug"))
        (answer,) = world.answers()
        assert answer[b"_error_code"] == b"UNKNOWN"
        assert len(flushLoggedErrors(ZeroDivisionError)) == 1

    def test_anErrorNobodyAskedForEndsTheConnection(self) -> None:
        world = World()
        world.receive(report(b"refused", ask=False))
        assert world.transport.disconnecting


class TestTheLog:
    def test_connectionsAreNoLines(self) -> None:
        journal = Journal()
        globalLogPublisher.addObserver(journal)
        try:
            world = World()
            world.receive(b"\xff\xff")
            world.end.connectionLost(Failure(ConnectionDone()))
        finally:
            globalLogPublisher.removeObserver(journal)
        assert journal.events == []

    def test_questionsOpenAtTheEndFail(self) -> None:
        world = World()
        results: list[Any] = []
        world.end.callRemote(Ping).addErrback(results.append)
        world.end.connectionLost(Failure(ConnectionDone()))
        assert results[0].check(ConnectionDone)

    def test_questionsAfterTheEndFail(self) -> None:
        world = World()
        world.end.connectionLost(Failure(ConnectionDone()))
        results: list[Any] = []
        world.end.callRemote(Ping).addErrback(results.append)
        assert results[0].check(ConnectionDone)

    def test_answersAfterTheEndAreDropped(self) -> None:
        world = World()
        world.receive(
            box(
                _command=b"hello",
                _ask=b"1",
                version=b"1",
                oldest=b"1",
                name=b"x",
                accepts=b"",
                hosts=b"",
                strategies=b"",
            )
        )
        world.end.connectionLost(Failure(ConnectionDone()))
        world.responders.waiting[0].errback(Refused("too late"))


KEYS = st.sampled_from(
    [b"_command", b"_ask", b"_answer", b"_error", b"_error_code", b"session", b"body", b"token"]
) | st.binary(min_size=1, max_size=20)
VALUES = st.sampled_from(
    [b"ping", b"tell", b"hello", b"report", b"1", bytes(16), b"lan", b"\x00\x06"]
) | st.binary(max_size=100)


class TestFuzz:
    def check(self, data: bytes, cuts: list[int]) -> None:
        """
        Whatever comes, in whatever pieces: nothing is raised, nothing goes to the log as an error
        (the guard of all tests sees that), and there is at most one complaint.
        """
        world = World()
        start = 0
        for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
            world.receive(data[start:cut])
            start = cut
        assert len(world.violations) <= 1
        if world.violations:
            assert world.transport.disconnecting
        else:
            # What is not parsed yet is less than the longest string.
            assert len(world.end.recvd) <= MAX_BOX + 2
        world.end.connectionLost(Failure(ConnectionDone()))

    @given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=5))
    def test_bytes(self, data: bytes, cuts: list[int]) -> None:
        self.check(data, cuts)

    @settings(max_examples=300)
    @given(
        st.lists(st.dictionaries(KEYS, VALUES, max_size=8), max_size=6),
        st.lists(st.integers(0, 2000), max_size=5),
    )
    def test_boxes(self, boxes: list[dict[bytes, bytes]], cuts: list[int]) -> None:
        self.check(b"".join(bytes(amp.AmpBox(one).serialize()) for one in boxes), cuts)

    @given(st.integers(0, 60), st.integers(1, 255))
    def test_commandsWithAByteChanged(self, at: int, change: int) -> None:
        data = bytearray(box(**TELL, body=b"hi", token=bytes(16), _ask=b"1"))
        data[at % len(data)] ^= change
        self.check(bytes(data), [])
