"""
Tests for L{punchd.server.naming.starting}.
"""

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.names import dns
from zope.interface.verify import verifyObject

from punchd.errors import ConfigurationError
from punchd.server.limits import Complaints
from punchd.server.naming.serving import MOST_QUESTION, Datagrams, NamingGate
from punchd.server.naming.starting import DatagramEndpoint, Naming
from punchd.server.sessions import Population
from punchd.values.naming import Listing
from tests.unit.server.pretending import Counter, makeSession


@define
class Ports:
    """
    A reactor that listens nowhere.
    """

    error: Exception | None = None
    asked: list[tuple[int, str, int]] = field(factory=list)

    def listenUDP(self, port: int, protocol: Any, interface: str, maxPacketSize: int) -> Any:
        assert isinstance(protocol, Datagrams)
        if self.error is not None:
            raise self.error
        self.asked.append((port, interface, maxPacketSize))
        return self


def makeGate(*populations: Population) -> NamingGate:
    return Naming("peers.example.org", ()).makeGate(
        clock=Clock(),
        entropy=Counter(),
        population=(*populations, Population())[0],
        complaints=Complaints(Logger()),
        hosts=["192.0.2.1"],
    )


def test_theGateAnswersOfWhoIsThere() -> None:
    population = Population()
    gate = makeGate(population)
    session = makeSession(Clock(), 1, name="bob")
    session.listing = Listing(True)
    question = dns.Message(id=1)
    question.addQuery("bob.peers.example.org", dns.A)

    def answers() -> int:
        packed = gate.responder.toDatagram(question.toStr(), session.observed)
        assert packed is not None
        message = dns.Message()
        message.fromStr(packed)
        return len(message.answers)

    assert answers() == 0
    population.arrive(session)
    assert answers() == 1
    session.listing = Listing()
    assert answers() == 0


@pytest.mark.parametrize(
    ("text", "port", "interface"),
    [
        ("udp:53", 53, ""),
        ("udp:0", 0, ""),
        ("udp:53:interface=192.0.2.1", 53, "192.0.2.1"),
        ("udp6:53", 53, "::"),
        (r"udp6:53:interface=2001\:db8\:\:1", 53, "2001:db8::1"),
    ],
)
def test_anEndpointIsRead(text: str, port: int, interface: str) -> None:
    ports = Ports()
    endpoint = DatagramEndpoint.parse(ports, text)
    assert verifyObject(IStreamServerEndpoint, endpoint)
    results: list[Any] = []
    endpoint.listen(makeGate()).addCallback(results.append)
    assert results == [ports]
    assert ports.asked == [(port, interface, MOST_QUESTION)]


@pytest.mark.parametrize(
    "text",
    [
        "udp",
        "udp:",
        "udp:x",
        "udp:65536",
        "udp:53:",
        "udp:53:backlog=5",
        "udp:53:interface=",
        "udp7:1",
    ],
)
def test_whatIsNoneIsRefused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no endpoint for datagrams: try udp:PORT"):
        DatagramEndpoint.parse(None, text)


def test_aPortThatIsTakenIsAFailure() -> None:
    failures: list[Any] = []
    endpoint = DatagramEndpoint.parse(Ports(CannotListenError("", 53, OSError())), "udp:53")
    endpoint.listen(makeGate()).addErrback(failures.append)
    assert failures[0].check(CannotListenError)


def test_onlyTheDNSTakesDatagrams() -> None:
    with pytest.raises(TypeError):
        DatagramEndpoint.parse(Ports(), "udp:53").listen(Factory())
