"""
Tests for L{punchd.peer.master}: what needs no connection. The rest is tested on real sockets.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.task import Clock

from punchd.errors import Unreachable
from punchd.peer.arrivals import Arrivals
from punchd.peer.conversation import Conversation, Welcome
from punchd.peer.master import MasterClient
from punchd.values.addresses import makeAddress
from punchd.values.joining import JoinAddress
from tests.unit.link.pairs import ALICE, CONTEXTS
from tests.unit.peer.servers import GREETING, Listening


def makeClient(note: Callable[[str], None]) -> MasterClient:
    """
    A client that is connected.
    """
    clock: Any = Clock()
    client = MasterClient(
        clock,
        Random(1),
        bytes,
        JoinAddress("example.org"),
        CONTEXTS[ALICE.peerID],
        Arrivals(clock, lambda session: None),
        lambda client: Listening(),
        lambda: GREETING,
        note,
    )
    client._server = "203.0.113.1"
    client._conversation = Conversation(clock, Listening())
    client.welcome = Welcome(makeAddress("198.51.100.1", 1000), ())
    return client


def test_aMoveEndsTheConnectionAndTheNextOneComesAtOnce() -> None:
    steps: list[str] = []
    client = makeClient(steps.append)
    conversation = client._conversation
    assert conversation is not None
    client._moved("this host is elsewhere")
    assert isinstance(conversation.error, Unreachable)
    assert len(steps) == 1
    assert client._wait(1) == 0.0
    # Once; after that there are pauses again.
    assert client._wait(1) > 0.0


def test_aMoveWithoutAConnectionIsNoNews() -> None:
    steps: list[str] = []
    client = makeClient(steps.append)
    client._conversation = None
    client._moved("this host is elsewhere")
    assert steps == []
    assert client._wait(1) > 0.0
