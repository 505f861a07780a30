"""
Tests for L{punchd.peer.master}: what needs no connection. The rest is tested on real sockets.
"""

from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from punchd.errors import Refused, Unreachable
from punchd.peer.arrivals import Arrivals
from punchd.peer.conversation import Conversation, Welcome
from punchd.peer.master import MasterClient
from punchd.values.addresses import makeAddress
from punchd.values.joining import JoinAddress
from punchd.wire.commands import Assist
from tests.unit.link.pairs import ALICE, CONTEXTS
from tests.unit.peer.servers import GREETING, Listening


def makeClient(server: str, observed: str) -> MasterClient:
    """
    A client whose server is at C{server}, and sees it at C{observed}.
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
        lambda step: None,
    )
    client._server = server
    client._conversation = Conversation(clock, Listening())
    client.welcome = Welcome(makeAddress(observed, 1000), ())
    return client


@pytest.mark.parametrize(
    ("server", "observed", "host"),
    [
        ("203.0.113.1", "198.51.100.1", None),
        ("203.0.113.1", "198.51.100.1", "203.0.113.1"),
        ("203.0.113.1", "198.51.100.1", "203.0.113.2"),
        ("10.0.0.1", "198.51.100.1", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
    ],
)
def test_assistServicesOfTheServerAreAsked(server: str, observed: str, host: str | None) -> None:
    client = makeClient(server, observed)
    assert client.addressOf(Assist(host, 7762)) == makeAddress(host or server, 7762)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.1.1", "224.0.0.1", "::1"])
def test_anAssistServiceThatIsNotForUsToDialIsNotAsked(host: str) -> None:
    with pytest.raises(Refused):
        makeClient("203.0.113.1", "198.51.100.1").addressOf(Assist(host, 7762))


@pytest.mark.parametrize("host", ["assist.example.org", "\x1b[2J", "1.2.3"])
def test_anAssistServiceWithoutAnAddressIsUnreachable(host: str) -> None:
    with pytest.raises(Unreachable) as caught:
        makeClient("203.0.113.1", "198.51.100.1").addressOf(Assist(host, 7762))
    assert str(caught.value).isprintable()
