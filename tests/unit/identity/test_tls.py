"""
Tests for L{punchd.identity.tls}: two real contexts on a connection in memory.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from punchd.errors import ConfigurationError, NotTrusted
from punchd.identity.certificates import Credentials, selfSigned
from punchd.identity.keys import peerIDOfCertificate
from punchd.identity.tls import (
    ConnectionCreator,
    Judge,
    SharedSession,
    Verdict,
    anybody,
    makeContext,
    onlyHost,
    onlyPeer,
    verdictOf,
)
from tests.unit.identity.making import Authority, makeIdentity
from tests.unit.link.pairs import User
from tests.unit.net.memory import HERE, Pair

ALICE = makeIdentity()
BOB = makeIdentity()
CAROL = makeIdentity()
ALPN = b"punchd-test/1"

_ROOT = Authority()


def _same(user: User) -> User:
    return user


class Handshake:
    """
    A client and a server, and whom each accepts.
    """

    def __init__(
        self,
        *,
        client: Any = None,
        server: Credentials | None = None,
        clientJudge: Judge = anybody,
        serverJudge: Judge = anybody,
        clientALPN: bytes = ALPN,
        roots: Path | str | None = None,
        name: str | None = None,
        serverContext: SSL.Context | None = None,
    ) -> None:
        self.clock = Clock()
        self.verdicts = (Verdict(clientJudge), Verdict(serverJudge))
        creators: list[Any] = [
            client
            or ConnectionCreator(
                makeContext(selfSigned(ALICE), clientALPN, roots),
                lambda: self.verdicts[0],
                name,
            ),
            ConnectionCreator(
                serverContext or makeContext(server or selfSigned(BOB), ALPN),
                lambda: self.verdicts[1],
            ),
        ]
        self.users = (User(), User())
        protocols: list[Any] = []
        for creator, user in zip(creators, self.users, strict=True):
            factory = TLSMemoryBIOFactory(
                creator, not protocols, Factory.forProtocol(partial(_same, user)), self.clock
            )
            factory.noisy = False
            protocols.append(factory.buildProtocol(HERE))
        self.pair = Pair(self.clock, protocols[0], protocols[1], greet=False)
        # Both speak at once, as AMP does.
        for user in self.users:
            user.transport.write(b"a secret")
        self.pair.flush()

    @property
    def refusals(self) -> list[str | None]:
        return [
            None if verdict.refusal is None else str(verdict.refusal) for verdict in self.verdicts
        ]

    @property
    def heard(self) -> list[bytes]:
        return [user.received for user in self.users]


def judgeOf(identity: Any) -> Judge:
    return onlyPeer(identity.peerID, "bob")


def test_itMakesConnectionsOfBothKinds() -> None:
    creator = ConnectionCreator(makeContext(selfSigned(ALICE), ALPN), lambda: Verdict(anybody))
    verifyObject(IOpenSSLClientConnectionCreator, creator)
    verifyObject(IOpenSSLServerConnectionCreator, creator)


# Keys.


def test_theExpectedKeysHearEachOther() -> None:
    handshake = Handshake(clientJudge=judgeOf(BOB), serverJudge=judgeOf(ALICE))
    assert handshake.heard == [b"a secret", b"a secret"]


def test_eachKnowsWhoTheOtherIs() -> None:
    handshake = Handshake()
    assert [verdict.peerID for verdict in handshake.verdicts] == [BOB.peerID, ALICE.peerID]
    assert verdictOf(handshake.users[0].transport) is handshake.verdicts[0]


def test_aServerWithAnotherKeyIsNotTrusted() -> None:
    mallory = makeIdentity()
    handshake = Handshake(server=selfSigned(mallory), clientJudge=judgeOf(BOB))
    assert handshake.refusals == [
        f"bob has key {mallory.peerID.short}…, not the expected {BOB.peerID.short}…: somebody is "
        "in between, or its key was changed",
        None,
    ]


def test_aServerWithAnotherKeyGetsNothingOfOurs() -> None:
    handshake = Handshake(server=selfSigned(makeIdentity()), clientJudge=judgeOf(BOB))
    assert handshake.heard == [b"", b""]
    assert not handshake.pair.isOpen


def test_aServerWithAnotherKeyDoesNotLearnOurs() -> None:
    handshake = Handshake(server=selfSigned(makeIdentity()), clientJudge=judgeOf(BOB))
    assert handshake.verdicts[1].peerID is None


def test_aClientWithAnotherKeyIsNotTrusted() -> None:
    handshake = Handshake(serverJudge=judgeOf(makeIdentity()))
    assert isinstance(handshake.verdicts[1].refusal, NotTrusted)
    assert handshake.heard[1] == b""
    assert not handshake.pair.isOpen


@pytest.mark.parametrize("days", [-10, 10], ids=["expired", "not yet valid"])
def test_aCertificateOutsideItsTimeIsNotTrusted(days: int) -> None:
    server = _ROOT.vouchFor(["a.example"], BOB, daysFromNow=days)
    handshake = Handshake(server=server, clientJudge=judgeOf(BOB))
    (refusal, _) = handshake.refusals
    assert refusal is not None
    assert "expired or not yet valid" in refusal
    assert handshake.heard == [b"", b""]


def serverSide(handshake: Handshake) -> SSL.Connection:
    connection: SSL.Connection = handshake.users[1].transport.getHandle()
    return connection


def test_sharingASessionLetsGoOfTheOtherSidesCertificate() -> None:
    context = makeContext(selfSigned(BOB), ALPN)
    shared, first = SharedSession(), Handshake(serverContext=context)
    second = Handshake(client=Plain(credentials=selfSigned(CAROL)), serverContext=context)
    for handshake in (first, second):
        shared.replaceThatOf(serverSide(handshake))
    kept = serverSide(second).get_peer_certificate()
    assert kept is not None
    assert peerIDOfCertificate(kept.to_cryptography()) == ALICE.peerID
    # The verdicts are what was proven.
    assert first.verdicts[1].peerID == ALICE.peerID
    assert second.verdicts[1].peerID == CAROL.peerID


def test_bytesGoOnAfterASessionIsShared() -> None:
    context = makeContext(selfSigned(BOB), ALPN)
    shared = SharedSession()
    handshakes = [Handshake(serverContext=context) for _ in range(2)]
    for handshake in handshakes:
        shared.replaceThatOf(serverSide(handshake))
    for handshake in handshakes:
        for user in handshake.users:
            user.transport.write(b", and another")
        handshake.pair.flush()
        assert handshake.heard == [b"a secret, and another"] * 2


def test_aSharedSessionOutlivesWhoeverSendsGarbage() -> None:
    context = makeContext(selfSigned(BOB), ALPN)
    shared = SharedSession()
    handshakes = [Handshake(serverContext=context) for _ in range(2)]
    for handshake in handshakes:
        shared.replaceThatOf(serverSide(handshake))
    broken, whole = handshakes
    # A record that nobody has encrypted: the server answers with an alert, and ends.
    broken.pair.two.protocol.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))
    broken.pair.flush()
    assert broken.users[1].lost is not None
    later = Handshake(serverContext=context)
    shared.replaceThatOf(serverSide(later))
    for handshake in (whole, later):
        handshake.users[0].transport.write(b"!")
        handshake.pair.flush()
        assert handshake.users[1].received == b"a secret!"


@implementer(IOpenSSLClientConnectionCreator)
class Plain:
    """
    A client as others make them.
    """

    def __init__(self, version: int | None = None, credentials: Credentials | None = None) -> None:
        self.context = SSL.Context(SSL.TLS_METHOD)
        self.context.set_alpn_protos([ALPN])
        if version is not None:
            self.context.set_max_proto_version(version)
        if credentials is not None:
            self.context.use_privatekey(credentials.identity.key)
            self.context.use_certificate(credentials.certificate)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


def test_aClientWithoutACertificateIsRefused() -> None:
    handshake = Handshake(client=Plain())
    assert handshake.heard[1] == b""
    assert handshake.verdicts[1].peerID is None
    assert not handshake.pair.isOpen


def test_anOrdinaryClientWithACertificateIsWelcome() -> None:
    handshake = Handshake(client=Plain(credentials=selfSigned(ALICE)))
    assert handshake.verdicts[1].peerID == ALICE.peerID
    assert handshake.heard[1] == b"a secret"


def test_tls12IsRefused() -> None:
    handshake = Handshake(client=Plain(SSL.TLS1_2_VERSION, selfSigned(ALICE)))
    assert handshake.heard == [b"", b""]
    assert not handshake.pair.isOpen


# Protocols.


def negotiated(handshake: Handshake) -> list[bytes | None]:
    return [user.transport.negotiatedProtocol for user in handshake.users]


def test_theProtocolIsAgreedOn() -> None:
    assert negotiated(Handshake()) == [ALPN, ALPN]


def test_withoutACommonProtocolNoneIsAgreedOn() -> None:
    handshake = Handshake(clientALPN=b"punchd-other/1")
    assert ALPN not in negotiated(handshake)


# Names.


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(_ROOT.pem)
    return path


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("a.example", ["a.example"]),
        ("a.example", ["b.example", "a.example"]),
        ("www.a.example", ["*.a.example"]),
        ("192.0.2.1", ["192.0.2.1"]),
        ("2001:db8::1", ["2001:db8::1"]),
    ],
)
def test_aServerForWhoseNameARootVouchesIsTrusted(roots: Path, host: str, names: list[str]) -> None:
    handshake = Handshake(server=_ROOT.vouchFor(names), clientJudge=onlyHost(host), roots=roots)
    assert handshake.refusals == [None, None]
    assert handshake.heard == [b"a secret", b"a secret"]


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("a.example", ["b.example"]),
        ("a.example", []),
        ("192.0.2.1", ["192.0.2.2"]),
        ("192.0.2.1", ["a.example"]),
        ("a.example", ["192.0.2.1"]),
    ],
)
def test_aServerOfAnotherNameIsNotTrusted(roots: Path, host: str, names: list[str]) -> None:
    handshake = Handshake(server=_ROOT.vouchFor(names), clientJudge=onlyHost(host), roots=roots)
    assert handshake.refusals == [f"the server's certificate is not for {host}", None]
    assert handshake.heard == [b"", b""]


def test_aServerForWhomNoRootVouchesIsNotTrusted(roots: Path) -> None:
    server = Authority().vouchFor(["a.example"])
    handshake = Handshake(server=server, clientJudge=onlyHost("a.example"), roots=roots)
    (refusal, _) = handshake.refusals
    assert refusal is not None
    assert "no trusted root vouches for the certificate of a.example" in refusal
    assert handshake.heard == [b"", b""]


def test_aServersOwnWordIsNotEnough(roots: Path) -> None:
    server = selfSigned(BOB, ("a.example",))
    handshake = Handshake(server=server, clientJudge=onlyHost("a.example"), roots=roots)
    assert handshake.verdicts[0].refusal is not None
    assert "--ca" in str(handshake.verdicts[0].refusal)


def test_theSystemsRootsDoNotVouchForOurs() -> None:
    server = _ROOT.vouchFor(["a.example"])
    handshake = Handshake(server=server, clientJudge=onlyHost("a.example"), roots="system")
    assert handshake.verdicts[0].refusal is not None


def test_theNameIsAskedFor(roots: Path) -> None:
    handshake = Handshake(
        server=_ROOT.vouchFor(["a.example"]),
        clientJudge=onlyHost("a.example"),
        roots=roots,
        name="a.example",
    )
    assert handshake.refusals == [None, None]


@pytest.mark.parametrize("content", [None, b"", b"no certificates"])
def test_rootsThatAreNoneAreAConfigurationError(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "roots.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no certificates"):
        makeContext(selfSigned(ALICE), ALPN, path)


def test_aJudgeWithABugTrustsNobody() -> None:
    def judge(certificate: object, chainIsTrusted: bool) -> None:
        raise ValueError("a bug")

    handshake = Handshake(clientJudge=judge)
    assert isinstance(handshake.verdicts[0].refusal, NotTrusted)
    assert handshake.heard == [b"", b""]
