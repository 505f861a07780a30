"""
Tests for L{punchd.peer.dialling}: introductions that we ask for, of servers that are none.
"""

from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from punchd.errors import (
    Limited,
    NoPath,
    Overlapping,
    ProtocolViolation,
    PunchdError,
    Refused,
    UnknownPeer,
    Unreachable,
)
from punchd.link.path import Path as LinkPath
from punchd.link.punched import PunchedConnection
from punchd.net.held import HeldPort
from punchd.peer.conversation import ANSWER_PATIENCE
from punchd.peer.dialling import Dialling, Wanted
from punchd.peer.meeting import Meeting
from punchd.peer.usage import LINGERING
from punchd.values.addresses import Address, makeAddress
from punchd.values.outcomes import Way
from punchd.values.parties import Offer
from punchd.wire.commands import OWN, Introduce, toldArguments
from punchd.wire.limiting import limitArguments
from punchd.wire.preamble import Side
from tests.unit.link.pairs import BOB, makeTicket
from tests.unit.net.memory import HERE, Pair
from tests.unit.net.ports import FakePort
from tests.unit.peer.clients import PUBLIC, FakeClient, Watcher, makePunches
from tests.unit.peer.punches import dialling


class Asker:
    """
    Alice, with some servers, who wants to meet Bob.

    @ivar found: the paths that were found.
    @ivar met: the meetings that are over.
    """

    def __init__(self, folder: Path, servers: int = 1) -> None:
        self.clock = Clock()
        self.punches = makePunches(self.clock, {"dial": dialling("dial")}, Watcher(), folder)
        self.clients = [FakeClient(self.clock, f"s{number}.example") for number in range(servers)]
        self.dialling = Dialling([client.asClient for client in self.clients], self.punches)
        self.meetings: list[Deferred[Any]] = []
        self.found: list[LinkPath] = []
        self.met: list[Meeting] = []
        self.errors: list[BaseException] = []

    @property
    def client(self) -> FakeClient:
        return self.clients[0]

    def meet(self, relaying: bool = True, notPunching: str = "") -> "Asker":
        wanted = Wanted("bob", BOB.peerID, self._found, relaying, notPunching)
        self.meetings.append(Deferred.fromCoroutine(self.dialling.meet(wanted)))
        self.meetings[-1].addCallbacks(self.met.append, self._failed)
        return self

    def _found(self, path: LinkPath, meeting: Meeting) -> None:
        self.found.append(path)

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, PunchdError | CancelledError)
        self.errors.append(failure.value)

    def cancel(self) -> None:
        """
        Give up on all of them, and expect that nothing is left to be done.
        """
        for meeting in self.meetings:
            meeting.cancel()
        assert self.clock.getDelayedCalls() == []

    def answer(
        self,
        client: int = 0,
        reflexive: Address = PUBLIC,
        session: int = 1,
        limit: Limited | None = None,
        ours: tuple[tuple[str, int], ...] = (("dial", 1),),
    ) -> None:
        """
        Let the server introduce us, who have offered C{ours}.
        """
        self.clients[client].asked[-1][2].callback(
            {
                "session": bytes([session]) * 16,
                "own": HERE,
                "reflexive": reflexive,
                "relay": None,
                **limitArguments(limit),
                **toldArguments(Offer(strategies=(("dial", 1),))),
                **toldArguments(Offer(strategies=ours), OWN),
            }
        )

    def connect(self, session: int = 1, port: FakePort | None = None) -> Pair:
        """
        Let Bob be there where we dial.
        """
        dial = (port or self.client.port).dials[0]
        protocol: Any = dial.factory.buildProtocol(dial.remote)
        ticket = makeTicket(Side.CALLEE, session=bytes([session]) * 16)
        pair = Pair(self.clock, protocol, PunchedConnection(self.clock, Way.ACCEPTED, HERE, ticket))
        dial.connecting.callback(protocol)
        pair.flush()
        # Bob waits for what is never said to him.
        self.clock.advance(0)
        return pair

    def refuse(self, error: Exception, client: int = 0) -> None:
        self.clients[client].asked[-1][2].errback(Failure(error))

    @property
    def error(self) -> BaseException:
        (error,) = self.errors
        return error


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    return Asker(tmp_path)


def test_theServerIsAskedForThePinnedPeer(asker: Asker) -> None:
    asker.meet()
    command, arguments, _ = asker.client.asked[0]
    assert command is Introduce
    assert (arguments["peer"], arguments["token"]) == (BOB.peerID, None)
    asker.cancel()


def test_withoutAServerItSaysWhichAndWhy(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 2)
    for client in asker.clients:
        client.isConnected = False
    asker.clients[1].problem = "the name 'alice' is taken"
    asker.meet()
    asker.clock.pump([0.05] * 40)
    assert isinstance(asker.error, Unreachable)
    assert str(asker.error) == (
        "not connected to any server (s0.example:7761: still connecting; "
        "s1.example:7761: the name 'alice' is taken)"
    )


def test_aServerThatComesBackSoonIsWaitedFor(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 1)
    asker.clients[0].isConnected = False
    asker.meet()
    asker.clock.pump([0.05] * 10)
    assert not asker.clients[0].asked
    asker.clients[0].isConnected = True
    asker.clock.advance(0.05)
    assert len(asker.clients[0].asked) == 1


def test_anotherServerIsAskedWhenOneDoesNotKnowThePeer(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 2).meet()
    asker.refuse(UnknownPeer("not here"), 0)
    assert len(asker.clients[1].asked) == 1
    asker.refuse(UnknownPeer("nor here"), 1)
    assert str(asker.error) == "nor here"


def test_anotherServerIsAskedWhenOneGoesAway(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 2).meet()
    asker.refuse(Unreachable("the server closed the connection"), 0)
    assert len(asker.clients[1].asked) == 1
    asker.answer(1)
    assert [dial.remote for dial in asker.clients[1].port.dials] == [PUBLIC]
    asker.cancel()


def test_aServerThatDoesNotAnswerIsNotWaitedForForEver(asker: Asker) -> None:
    asker.meet()
    asker.clock.advance(ANSWER_PATIENCE)
    assert str(asker.error) == "the server has not answered for 8 s"
    assert asker.client.usage.isFree(BOB.peerID)


def test_aRefusalIsNotTakenToAnotherServer(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 2).meet()
    asker.refuse(Refused("not allowed"), 0)
    assert asker.clients[1].asked == []
    assert str(asker.error) == "not allowed"


def test_theIntroductionIsRun(asker: Asker) -> None:
    asker.meet().answer()
    assert [dial.remote for dial in asker.client.port.dials] == [PUBLIC]
    asker.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.1.1", "169.254.169.254", "224.0.0.1"])
def test_nothingIsSentToAnAddressThatIsNotForUs(asker: Asker, host: str) -> None:
    asker.meet().answer(reflexive=makeAddress(host, 4000))
    assert "no address for us to dial" in str(asker.error)
    assert asker.client.port.dials == []
    assert asker.clock.getDelayedCalls() == []


def test_theServerHearsOfTheEnd(asker: Asker) -> None:
    asker.meet().answer()
    asker.clock.advance(4)
    assert asker.client.reports == [(b"\x01" * 16, None)]


def test_whileThePortIsUsedTowardAPeerAFreshOneIsTaken(asker: Asker) -> None:
    asker.client.punchAlready(BOB.peerID)
    asker.meet()
    assert asker.client.asked[0][1]["token"] == b"t" * 16
    asker.cancel()
    assert asker.client.released == asker.client.ports


def test_whenIntroductionsOverlapAFreshPortIsTaken(asker: Asker) -> None:
    asker.meet().refuse(Overlapping("another one is under way"))
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None, b"t" * 16]
    asker.cancel()


def test_overlappingIsNotTriedForEver(asker: Asker) -> None:
    asker.meet()
    for _ in range(3):
        asker.refuse(Overlapping("another one is under way"))
    assert isinstance(asker.error, Overlapping)
    assert len(asker.client.asked) == 3
    assert asker.client.released == asker.client.ports


def test_whereNothingWasDialledThePortIsFree(asker: Asker) -> None:
    asker.meet().refuse(UnknownPeer("not here"))
    assert asker.client.usage.isFree(BOB.peerID)


def punchInVain(asker: Asker) -> None:
    asker.meet().answer()
    asker.clock.advance(4)
    # What was learnt from it is written down later.
    asker.clock.advance(20)


def test_afterAPunchAFreshPortIsTaken(asker: Asker) -> None:
    punchInVain(asker)
    asker.meet()
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None, b"t" * 16]
    asker.cancel()


def test_longAfterAPunchThePortWillDo(asker: Asker) -> None:
    punchInVain(asker)
    asker.clock.advance(LINGERING - 20)
    asker.meet()
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None, None]
    asker.cancel()


def test_afterAPunchThePortWillDoIfThereIsNoOther(asker: Asker) -> None:
    punchInVain(asker)
    asker.client.problemWithPorts = Unreachable("the assist service does not answer")
    asker.meet()
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None, None]
    asker.cancel()


def test_norWhenAnotherAnswersWhereItsAssistServiceShould(asker: Asker) -> None:
    punchInVain(asker)
    asker.client.problemWithPorts = ProtocolViolation("that is no assist service")
    asker.meet()
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None, None]
    asker.cancel()


def test_afterAPunchAFreshPortIsNotAwaitedForLong(asker: Asker) -> None:
    """
    A relayed path needs none, and comes of the same introduction.
    """
    punchInVain(asker)
    asker.client.ipv6.others = [Deferred()]
    asker.meet()
    asker.clock.advance(0.9)
    assert len(asker.client.asked) == 1
    asker.clock.advance(0.2)
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None, None]
    assert asker.client.released == asker.client.ports
    asker.cancel()


def test_whoWantsOnlyTheRelayNeedsNoFreshPort(asker: Asker) -> None:
    asker.client.punchAlready(BOB.peerID)
    asker.meet(notPunching="later")
    assert [arguments["token"] for _, arguments, _ in asker.client.asked] == [None]
    asker.cancel()


# IPv6.


def six(asker: Asker, number: int, token: bytes) -> Any:
    port = FakePort(asker.clock, number=number, token=token, interface="2001:db8::1")
    return cast(HeldPort, port)


def test_theServerIsToldThePortOfOurIPv6Candidate(asker: Asker) -> None:
    asker.client.ipv6.port = six(asker, 6000, b"6" * 16)
    asker.meet()
    assert asker.client.asked[0][1]["ipv6token"] == b"6" * 16
    asker.cancel()
    assert asker.client.released == []


def test_anotherIntroductionHasAnIPv6PortOfItsOwn(asker: Asker) -> None:
    asker.client.ipv6.port = six(asker, 6000, b"6" * 16)
    fresh = six(asker, 6001, b"7" * 16)
    asker.client.ipv6.others = [succeed(fresh)]
    asker.client.punchAlready(BOB.peerID)
    asker.meet()
    assert asker.client.asked[0][1]["ipv6token"] == b"7" * 16
    asker.cancel()
    assert fresh in asker.client.released


def test_whatIsGivenUpReleasesBothPorts(asker: Asker) -> None:
    taking: Deferred[HeldPort | None] = Deferred()
    asker.client.ipv6.others = [taking]
    asker.client.punchAlready(BOB.peerID)
    asker.meet()
    asker.cancel()
    assert asker.client.asked == []
    assert asker.client.released == asker.client.ports


def test_withoutAFreshPortTheIPv6PortIsReleased(asker: Asker) -> None:
    fresh = six(asker, 6001, b"7" * 16)
    asker.client.ipv6.others = [succeed(fresh)]
    asker.client.punchAlready(BOB.peerID)
    asker.client.problemWithPorts = Unreachable("the assist service does not answer")
    asker.meet()
    assert asker.client.released == [fresh]
    assert str(asker.error) == "the assist service does not answer"


# What is asked for.


def test_withoutPunchingNothingIsOfferedButTheRelay(asker: Asker) -> None:
    asker.meet(notPunching="later")
    assert list(asker.client.asked[0][1]["strategies"]) == []
    asker.answer(ours=())
    assert isinstance(asker.error, NoPath)
    assert str(asker.error).endswith("later")


@pytest.mark.parametrize("relaying", [True, False])
def test_theRelayIsAskedForIfItWillDo(tmp_path: Path, relaying: bool) -> None:
    asker = Asker(tmp_path)
    asker.punches.offer = evolve(asker.punches.offer, takesRelay=True)
    asker.meet(relaying=relaying)
    assert asker.client.asked[0][1]["takesrelay"] == (relaying or None)
    asker.cancel()


def test_whoHasNoServerIsTold(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 0).meet()
    assert "no server" in str(asker.error)


def test_whenNothingOpensItSaysSo(asker: Asker) -> None:
    asker.meet().answer()
    asker.clock.advance(4)
    assert isinstance(asker.error, NoPath)
    assert not asker.met
    assert not asker.found


# The port.


def test_thePortIsUsedUntilThePathIsLost(asker: Asker) -> None:
    asker.meet().answer()
    pair = asker.connect()
    assert [path.isDirect for path in asker.found] == [True]
    assert len(asker.met) == 1
    assert asker.client.usage.isOngoing(BOB.peerID)
    pair.one.abortConnection()
    pair.flush()
    assert not asker.client.usage.isOngoing(BOB.peerID)


def test_afterAPathAFreshPortIsTaken(asker: Asker) -> None:
    asker.meet().answer()
    pair = asker.connect()
    asker.clock.advance(LINGERING)
    pair.one.abortConnection()
    pair.flush()
    asker.meet()
    assert asker.client.asked[-1][1]["token"] == b"t" * 16
    asker.cancel()


def test_thePortIsUsedWhileTheQuestionIsUnderWay(asker: Asker) -> None:
    asker.meet()
    assert asker.client.usage.isOngoing(BOB.peerID)
    asker.cancel()
    assert asker.client.usage.isFree(BOB.peerID)


def test_aFreshPortIsReleasedWhenThePathIsThere(asker: Asker) -> None:
    asker.client.punchAlready(BOB.peerID)
    asker.meet().answer()
    (fresh,) = asker.client.ports
    pair = asker.connect(port=fresh)
    assert len(asker.met) == 1
    assert asker.client.released == [fresh]
    asker.client.otherPunches.close()
    assert asker.client.usage.isFree(BOB.peerID)
    pair.one.abortConnection()
    pair.flush()


@pytest.mark.parametrize("answered", [False, True])
def test_cancellingEndsTheUseOfThePort(asker: Asker, answered: bool) -> None:
    asker.meet()
    if answered:
        asker.answer()
    asker.cancel()
    assert [type(error) for error in asker.errors] == [CancelledError]
    assert not asker.client.usage.isOngoing(BOB.peerID)
    assert asker.client.usage.isFree(BOB.peerID) is not answered
    assert all(dial.isCancelled for dial in asker.client.port.dials)


def test_cancellingWhileThereIsNoServerEndsIt(asker: Asker) -> None:
    asker.client.isConnected = False
    asker.meet()
    asker.cancel()
    assert [type(error) for error in asker.errors] == [CancelledError]


def test_aBugOfWhoTakesThePathIsNotSwallowed(asker: Asker) -> None:
    def bug(path: LinkPath, meeting: Meeting) -> None:
        raise ZeroDivisionError("a bug")

    told: list[object] = []
    wanted = Wanted("bob", BOB.peerID, bug)
    meeting = Deferred.fromCoroutine(asker.dialling.meet(wanted))
    meeting.addErrback(lambda failure: told.append(failure.type))
    asker.answer()
    pair = asker.connect()
    assert told == [ZeroDivisionError]
    pair.one.abortConnection()
    pair.flush()
    assert not asker.client.usage.isOngoing(BOB.peerID)
    asker.punches.stop()
    assert asker.clock.getDelayedCalls() == []


# A relay that has reached a limit.


def punchFails(asker: Asker, client: int, limit: Limited | None) -> None:
    """
    A server introduces us; nobody is there where we dial.
    """
    asker.answer(client, session=client + 1, limit=limit)
    for _ in range(100):
        asker.clock.advance(0.5)
        if asker.errors or (
            client + 1 < len(asker.clients) and len(asker.clients[client + 1].asked)
        ):
            return
    raise AssertionError("the punch does not end")


def test_theCallerIsToldForHowLongTheRelayWillNotHelp(asker: Asker) -> None:
    asker.meet()
    punchFails(asker, 0, Limited("bob may have 10 bytes", 99.0))
    assert isinstance(asker.error, NoPath)
    assert asker.error.limit is not None
    assert asker.error.limit.seconds == 100
    assert str(asker.error).endswith("no relayed path either: bob may have 10 bytes")


@pytest.mark.parametrize(
    ("other", "wait"), [(None, 100), (Limited("a third", 9.0), 10), (Limited("or", 999.0), 100)]
)
def test_anotherServersRelayMayHelp(tmp_path: Path, other: Limited | None, wait: float) -> None:
    asker = Asker(tmp_path, 2).meet()
    punchFails(asker, 0, Limited("bob may have 10 bytes", 99.0))
    assert asker.errors == []
    punchFails(asker, 1, other)
    assert isinstance(asker.error, NoPath)
    assert asker.error.limit is not None
    assert asker.error.limit.seconds == wait


def test_whoIsNotAtAnotherServerIsStillLimitedAtTheFirst(tmp_path: Path) -> None:
    asker = Asker(tmp_path, 2).meet()
    punchFails(asker, 0, Limited("bob may have 10 bytes", 99.0))
    asker.refuse(UnknownPeer("no such peer"), 1)
    assert isinstance(asker.error, NoPath)
    assert asker.error.limit is not None
