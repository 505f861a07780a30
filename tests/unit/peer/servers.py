"""
A server in memory that says whatever the test wants.
"""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.protocols.tls import TLSMemoryBIOFactory

from punchd.identity.certificates import Credentials, selfSigned
from punchd.identity.tls import (
    ConnectionCreator,
    Judge,
    Verdict,
    anybody,
    makeContext,
    onlyPeer,
)
from punchd.peer.conversation import Call, Conversation, Greeting, Welcome
from punchd.values.addresses import Address
from punchd.values.nat import UNKNOWN
from punchd.values.parties import Offer
from punchd.values.peers import PeerID
from punchd.wire.boxes import BoundedAMP
from punchd.wire.commands import (
    OWN,
    Assist,
    Hello,
    Introduction,
    Ping,
    Tell,
    Tokens,
    Told,
    Update,
    toldArguments,
)
from punchd.wire.versions import MASTER_ALPN
from tests.unit.identity.making import makeIdentity
from tests.unit.net.memory import HERE, Pair

SERVER = makeIdentity()
ALICE = makeIdentity()

GREETING = Greeting("alice", frozenset([PeerID(b"b" * 32)]), Offer(UNKNOWN, (HERE,), (("lan", 1),)))


class ServerSide(amp.CommandLocator):
    """
    Answers as a server does, and remembers what it was asked.

    @ivar answersPings: whether it does.
    @ivar greeting: what it answers to a hello; an exception is raised instead.
    """

    def __init__(self) -> None:
        self.answersPings = True
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.greeting: Any = {
            "version": 1,
            "observed": HERE,
            "assists": [Assist(None, 7762), Assist("203.0.113.50", 7763)],
        }

    def _note(self, what: str, arguments: dict[str, Any]) -> None:
        self.asked.append((what, arguments))

    @Hello.responder
    def _hello(self, **arguments: Any) -> Any:
        self._note("hello", arguments)
        if isinstance(self.greeting, Exception):
            raise self.greeting
        return self.greeting

    @Update.responder
    def _update(self, **arguments: Any) -> dict[str, Any]:
        self._note("update", arguments)
        return {}

    @Tokens.responder
    def _tokens(self, count: int) -> dict[str, Any]:
        self._note("tokens", {"count": count})
        return {"tokens": [bytes([number]) * 16 for number in range(count)]}

    @Tell.responder
    def _tell(self, **arguments: Any) -> dict[str, Any]:
        self._note("tell", arguments)
        return {}

    @Ping.responder
    def _ping(self) -> Any:
        self._note("ping", {})
        return {} if self.answersPings else Deferred()


class Listening:
    """
    Remembers what the server says; may say no.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.messages: list[tuple[bytes, str, bytes, Address | None]] = []
        self.notes: list[tuple[bytes, str, bool]] = []
        self.refusal: Exception | None = None
        self.returns = 0

    def called(self, call: Call) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(call)

    def told(self, session: bytes, strategy: str, body: bytes, observed: Address | None) -> None:
        self.messages.append((session, strategy, body, observed))

    def relayNoted(self, session: bytes, reason: str, isOver: bool) -> None:
        self.notes.append((session, reason, isOver))

    def backAgain(self) -> None:
        self.returns += 1


class Spoken:
    """
    A peer's conversation with the server of the test, over real TLS in memory.

    @ivar welcomes: what the server said when it let us in.
    @ivar errors: why it did not.
    """

    def __init__(
        self,
        *,
        alpn: bytes = MASTER_ALPN,
        judge: Judge | None = None,
        credentials: Credentials | None = None,
        side: ServerSide | None = None,
        greet: bool = True,
    ) -> None:
        self.clock = Clock()
        self.side = side or ServerSide()
        self.listening = Listening()
        self.conversation = Conversation(self.clock, self.listening)
        judge = judge or onlyPeer(SERVER.peerID, "the server at example.org:7761")
        creator = ConnectionCreator(
            makeContext(selfSigned(ALICE), MASTER_ALPN), lambda: Verdict(judge)
        )
        client = TLSMemoryBIOFactory(
            creator, True, Factory.forProtocol(lambda: self.conversation.protocol), self.clock
        )
        self.server: Any = BoundedAMP(self.side, lambda violation: None)
        serverCreator = ConnectionCreator(
            makeContext(credentials or selfSigned(SERVER), alpn), lambda: Verdict(anybody)
        )
        accepting = TLSMemoryBIOFactory(
            serverCreator, False, Factory.forProtocol(lambda: self.server), self.clock
        )
        for factory in (client, accepting):
            factory.noisy = False
        one, two = client.buildProtocol(HERE), accepting.buildProtocol(HERE)
        self.wire = Pair(self.clock, one, two, greet=False)
        self.welcomes: list[Welcome] = []
        self.errors: list[Exception] = []
        self.presented: list[Any] = []
        loggingIn = Deferred.fromCoroutine(self.conversation.login(self._present))
        loggingIn.addCallbacks(
            self.welcomes.append, lambda failure: self.errors.append(failure.value)
        )
        if greet:
            self.flush()

    def _present(self, transport: Any) -> Greeting:
        self.presented.append(transport)
        return GREETING

    def flush(self) -> None:
        self.wire.flush()

    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    def introduce(self, **changes: Any) -> list[Any]:
        """
        Let the server introduce somebody; what the peer answers is in the list.
        """
        answers: list[Any] = []
        arguments = {
            "session": b"s" * 16,
            "caller": PeerID(b"b" * 32),
            "own": HERE,
            "reflexive": HERE,
            **toldArguments(Offer(strategies=(("lan", 1),))),
            **toldArguments(Offer(), OWN),
            **changes,
        }
        self.server.callRemote(Introduction, **arguments).addCallbacks(
            answers.append, lambda failure: answers.append(failure.value)
        )
        self.flush()
        return answers

    def tell(self, **changes: Any) -> None:
        arguments = {"session": b"s" * 16, "strategy": "lan", "body": b"hello", **changes}
        self.server.callRemote(Told, **arguments)
        self.flush()

    def end(self) -> None:
        """
        Break the connection, and expect that nothing is left to be done.
        """
        self.wire.one.abortConnection()
        self.flush()
        assert self.clock.getDelayedCalls() == []
