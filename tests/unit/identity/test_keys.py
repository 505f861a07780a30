"""
Tests for L{punchd.identity.keys} and L{punchd.identity.certificates}.
"""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from punchd.errors import ConfigurationError
from punchd.identity.certificates import brought, expired, selfSigned
from punchd.identity.folder import StateFolder
from punchd.identity.keys import Identity, PrivateKey, loadKey, peerIDOfCertificate
from tests.unit.identity.making import Authority, makeIdentity


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder.at(str(tmp_path))


def pemOf(key: PrivateKey, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_aNewFolderGetsAKey(folder: StateFolder) -> None:
    assert Identity.inFolder(folder).created


def test_theKeyStaysTheSame(folder: StateFolder) -> None:
    first = Identity.inFolder(folder)
    second = Identity.inFolder(folder)
    assert (second.peerID, second.created) == (first.peerID, False)


def test_theKeyIsItsOwnersAlone(folder: StateFolder) -> None:
    Identity.inFolder(folder)
    assert stat.S_IMODE(folder.file("key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff" * 100])
def test_aBadKeyFileIsSaidWithItsName(folder: StateFolder, content: bytes) -> None:
    folder.write("key.pem", content)
    with pytest.raises(ConfigurationError, match=r"key\.pem"):
        Identity.inFolder(folder)


def test_aBadKeyFileIsLeftAsItIs(folder: StateFolder) -> None:
    folder.write("key.pem", b"not a key")
    with pytest.raises(ConfigurationError):
        Identity.inFolder(folder)
    assert folder.read("key.pem") == b"not a key"


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "RSA"],
)
def test_otherKeysCanBeBrought(key: PrivateKey) -> None:
    assert Identity.of(loadKey(pemOf(key), "x")).peerID == Identity.of(key).peerID


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "curve secp384r1"),
        (ed448.Ed448PrivateKey.generate(), "neither Ed25519, P-256 nor RSA"),
        (dsa.generate_private_key(1024), "neither Ed25519, P-256 nor RSA"),
    ],
)
def test_aKeyThatIsNotForTLSHereIsRefused(key: PrivateKey, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        loadKey(pemOf(key), "x")


def test_aKeyUnderAPasswordIsNoUsableOne() -> None:
    with pytest.raises(ConfigurationError, match="no usable private key"):
        loadKey(pemOf(makeIdentity().key, b"secret"), "x")


def test_aCertificateHasTheIDOfItsKey() -> None:
    identity = makeIdentity()
    assert peerIDOfCertificate(selfSigned(identity).certificate) == identity.peerID


@pytest.mark.parametrize("year", [2020, 2026, 2500, 9999])
def test_aCertificateOfOurMakingDoesNotExpire(year: int) -> None:
    certificate = selfSigned(makeIdentity()).certificate
    assert not expired(certificate, datetime(year, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize(("days", "isExpired"), [(-10, True), (0, False), (10, True)])
def test_aCertificateIsGoodInItsTimeOnly(days: int, isExpired: bool) -> None:
    certificate = Authority().vouchFor(["a.example"], daysFromNow=days).certificate
    assert expired(certificate, datetime.now(UTC)) is isExpired


def test_hostsStandInTheCertificate() -> None:
    certificate = selfSigned(makeIdentity(), ("a.example", "192.0.2.1", "2001:db8::1")).certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == [
        "192.0.2.1",
        "2001:db8::1",
    ]


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b"])
def test_whatIsNoHostCannotStandInACertificate(host: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a host name nor an address"):
        selfSigned(makeIdentity(), (host,))


def test_anOperatorsPairIsTaken() -> None:
    credentials = Authority().vouchFor(["a.example"])
    pem = credentials.certificate.public_bytes(Encoding.PEM)
    taken = brought(pem, pemOf(credentials.identity.key), "x")
    assert taken.identity.peerID == credentials.identity.peerID


def test_theCertificatesUpToTheRootAreKept() -> None:
    authority = Authority()
    credentials = authority.vouchFor(["a.example"])
    pem = credentials.certificate.public_bytes(Encoding.PEM) + authority.pem
    assert brought(pem, pemOf(credentials.identity.key), "x").chain == (authority.certificate,)


def test_aCertificateOfAnotherKeyIsRefused() -> None:
    pem = Authority().vouchFor(["a.example"]).certificate.public_bytes(Encoding.PEM)
    with pytest.raises(ConfigurationError, match="does not belong to the key"):
        brought(pem, pemOf(makeIdentity().key), "x")


def test_withoutACertificateItIsRefused() -> None:
    with pytest.raises(ConfigurationError, match="no certificate"):
        brought(b"nothing", pemOf(makeIdentity().key), "x")
