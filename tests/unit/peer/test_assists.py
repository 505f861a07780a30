"""
Tests for L{punchd.peer.assists}.
"""

import pytest

from punchd.errors import Refused, Unreachable
from punchd.peer.assists import AssistServices
from punchd.values.addresses import makeAddress
from punchd.values.parties import LocalAddressPolicy
from punchd.wire.commands import Assist, Relay


def services(server: str, observed: str, *named: Assist) -> AssistServices:
    """
    Those of a server that we have found at C{server}, and that sees us at C{observed}.
    """
    return AssistServices(named, server, LocalAddressPolicy(makeAddress(observed, 1000)))


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
@pytest.mark.parametrize("kind", [Assist, Relay])
def test_servicesOfTheServerAreDialled(
    server: str, observed: str, host: str | None, kind: type[Assist | Relay]
) -> None:
    found = services(server, observed).addressOf(kind(host, 7762))
    assert found == makeAddress(host or server, 7762)


@pytest.mark.parametrize("kind", [Assist, Relay])
@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.1.1", "224.0.0.1", "::1"])
def test_aServiceThatIsNotForUsToDialIsNotDialled(host: str, kind: type[Assist | Relay]) -> None:
    with pytest.raises(Refused):
        services("203.0.113.1", "198.51.100.1").addressOf(kind(host, 7762))


@pytest.mark.parametrize("host", ["assist.example.org", "\x1b[2J", "1.2.3"])
def test_anAssistServiceWithoutAnAddressIsUnreachable(host: str) -> None:
    with pytest.raises(Unreachable) as caught:
        services("203.0.113.1", "198.51.100.1").addressOf(Assist(host, 7762))
    assert str(caught.value).isprintable()


def test_eachIsNamedByItsFirstPlace() -> None:
    named = (Assist("x", 1), Assist(None, 7762), Assist("203.0.113.1", 7762), Assist(None, 7763))
    found = services("203.0.113.1", "198.51.100.1", *named).all()
    assert found == {1: makeAddress("203.0.113.1", 7762), 3: makeAddress("203.0.113.1", 7763)}


def test_whereNoneCanBeUsedTheReasonIsTold() -> None:
    with pytest.raises(Unreachable):
        services("203.0.113.1", "198.51.100.1", Assist("x", 1)).all()
    assert services("203.0.113.1", "198.51.100.1").all() == {}
