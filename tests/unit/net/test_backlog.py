"""
Tests for L{punchd.net.backlog}.
"""

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from punchd.net.backlog import BACKLOG, withBacklog
from punchd.tap.options import serverEndpoint


@pytest.mark.parametrize(
    ("text", "backlog"),
    [
        ("tcp:7000", BACKLOG),
        ("tcp:7000:interface=127.0.0.1", BACKLOG),
        ("tcp6:7000:interface=\\:\\:1", BACKLOG),
        ("tcp:7000:backlog=7", 7),
        ("tcp:port=7000:backlog=2000:interface=127.0.0.1", 2000),
        ("tcp:7000:127.0.0.1:100", 100),
    ],
)
def test_aTCPPortLetsManyWaitUnlessItSaysOtherwise(text: str, backlog: int) -> None:
    reactor = MemoryReactor()
    serverFromString(reactor, withBacklog(text)).listen(Factory())
    [(port, _, waiting, _)] = reactor.tcpServers
    assert (port, waiting) == (7000, backlog)


def test_aUNIXSocketDoesSoToo() -> None:
    reactor = MemoryReactor()
    serverFromString(reactor, withBacklog("unix:/run/here")).listen(Factory())
    [(path, _, waiting, *_)] = reactor.unixServers
    assert (path, waiting) == ("/run/here", BACKLOG)


def test_otherEndpointsStayAsTheyAre() -> None:
    text = "systemd:domain=INET:name=web"
    assert withBacklog(text) == text


def test_whatPeopleNameLetsManyWait() -> None:
    reactor = MemoryReactor()
    serverEndpoint(reactor, "tcp:7000:interface=127.0.0.1", "--forward").listen(Factory())
    assert reactor.tcpServers[0][2] == BACKLOG
