"""
Tests for L{punchd.parsers}: what the endpoint strings say.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from punchd.endpoints import PunchdClientEndpoint, PunchdServerEndpoint
from punchd.errors import ConfigurationError, PunchdError
from punchd.identity.folder import StateFolder
from punchd.parsers import OwnPeer, parseClient
from punchd.peer.running import RunningPeer
from twisted.plugins import punchd_endpoints

PIN = 64 * "0"
JOIN = rf"server=example.org\:7761#{PIN}"


def client(text: str, reactor: Any = None) -> PunchdClientEndpoint:
    endpoint = clientFromString(reactor or Clock(), text)
    verifyObject(IStreamClientEndpoint, endpoint)
    assert isinstance(endpoint, PunchdClientEndpoint)
    return endpoint


def server(text: str, reactor: Any = None) -> PunchdServerEndpoint:
    endpoint = serverFromString(reactor or Clock(), text)
    verifyObject(IStreamServerEndpoint, endpoint)
    assert isinstance(endpoint, PunchdServerEndpoint)
    return endpoint


def test_theParserIsAPluginForBoth() -> None:
    for interface in (
        IPlugin,
        IStreamClientEndpointStringParserWithReactor,
        IStreamServerEndpointStringParser,
    ):
        verifyObject(interface, punchd_endpoints.punchd)


def test_aClientsStringNamesPeerAndService() -> None:
    endpoint = client("punchd:bob/ssh")
    assert (endpoint.peer, endpoint.service) == ("bob", "ssh")


def test_aServersStringNamesAService() -> None:
    assert server("punchd:ssh").service == "ssh"


def test_withoutAStateItIsTheStandardFoldersPeer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/home/alice/state")
    standard = StateFolder(Path("/home/alice/state/punchd-peer"))
    for found in (client("punchd:bob/ssh").opener, server("punchd:ssh").exposer):
        assert isinstance(found, RunningPeer)
        assert found._folder == standard


@pytest.mark.parametrize("text", ["punchd:bob/ssh:state=/a/b", "punchd:bob/ssh:state=~/b"])
def test_theStateSaysWhichPeerIsMeant(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/a")
    opener = client(text).opener
    assert isinstance(opener, RunningPeer)
    assert opener._folder == StateFolder(Path("/a/b"))


def test_allStringsOfAFolderShareOnePeerOfTheProcess(tmp_path: Path) -> None:
    reactor = Clock()
    own = f"{JOIN}:name=alice:state={tmp_path}"
    opener = client(f"punchd:bob/ssh:{own}", reactor).opener
    assert isinstance(opener, OwnPeer)
    assert opener.name == "alice"
    assert [str(join) for join in opener.servers] == [f"example.org:7761#{PIN}"]
    exposer: object = server(f"punchd:web:{own}", reactor).exposer
    assert exposer is opener
    assert client(f"punchd:bob/ssh:{own}").opener is not opener


def test_severalServersAreSeparatedByCommas(tmp_path: Path) -> None:
    opener = client(f"punchd:b/s:name=a:server=one,two:state={tmp_path}").opener
    assert isinstance(opener, OwnPeer)
    assert [join.host for join in opener.servers] == ["one", "two"]


def test_nothingIsMadeWhenAStringIsRead(tmp_path: Path) -> None:
    client(f"punchd:bob/ssh:{JOIN}:name=alice:state={tmp_path / 'new'}")
    server(f"punchd:ssh:state={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()


WRONG = [
    ("punchd", "expected punchd:"),
    ("punchd:", "expected PEER/SERVICE"),
    ("punchd:bob", "expected PEER/SERVICE"),
    ("punchd:bob/", "cannot be a service"),
    ("punchd:b b/ssh", "cannot be a peer"),
    ("punchd:bob/ssh:sate=/x", "takes the arguments state, server, name, not 'sate'"),
    ("punchd:bob/ssh:server=example.org", "needs both server=JOIN and name=NAME"),
    ("punchd:bob/ssh:name=alice", "needs both server=JOIN and name=NAME"),
    ("punchd:bob/ssh:name=a a:server=x", "cannot be a name"),
    ("punchd:bob/ssh:name=alice:server=x#1", "64 hexadecimal digits"),
    (f"punchd:bob/ssh:name=alice:server=example.org:7761#{PIN}", "has a backslash before it"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_whatIsWrongIsSaid(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["punchd", "punchd:", "punchd:a/b", "punchd:a:b", "punchd:a:b=c"])
def test_whatIsNoServiceIsSaid(text: str) -> None:
    with pytest.raises(ConfigurationError):
        server(text)


@given(st.lists(st.text(), max_size=3), st.dictionaries(st.text(), st.text(), max_size=3))
def test_anyArgumentsAreTakenOrRefused(arguments: list[str], named: dict[str, str]) -> None:
    with suppress(PunchdError):
        parseClient(Clock(), arguments, named)
