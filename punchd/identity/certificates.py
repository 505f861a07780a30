"""
Certificates: a peer's carries its key and nothing else, a server's also the names it is known by.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from punchd.errors import ConfigurationError
from punchd.identity.keys import Identity, PrivateKey, loadKey

# Trust comes from pins, which do not expire; RFC 5280, 4.1.2.5 names this date for "no end". The
# beginning lies far back, so that a machine whose clock was never set can still log in.
_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@frozen
class Credentials:
    """
    What TLS shows and proves: an identity, its certificate, and the certificates up to the root.
    """

    identity: Identity
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


def selfSigned(identity: Identity, hosts: tuple[str, ...] = ()) -> Credentials:
    """
    Credentials of one's own making.

    @param hosts: names and literal addresses for which the certificate shall be valid.
    @raise ConfigurationError: when one of them cannot stand in a certificate.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.peerID.short)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(identity.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_generalName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return Credentials(identity, builder.sign(identity.key, _hashFor(identity.key)))


def brought(certificatePEM: bytes, keyPEM: bytes, where: str) -> Credentials:
    """
    Credentials that an operator brings.

    @param certificatePEM: the certificate, and after it those up to the root.
    @param where: the files' names, for the error's text.
    @raise ConfigurationError: when there is none, or it does not belong to the key.
    """
    identity = Identity.of(loadKey(keyPEM, where))
    try:
        first, *rest = x509.load_pem_x509_certificates(certificatePEM)
    except ValueError:
        raise ConfigurationError(f"there is no certificate (PEM) in {where}") from None
    if first.public_key() != identity.key.public_key():
        raise ConfigurationError(f"the first certificate does not belong to the key: {where}")
    return Credentials(identity, first, tuple(rest))


def expired(certificate: x509.Certificate, now: datetime) -> bool:
    """
    Whether C{now} lies outside the certificate's time.
    """
    return not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _generalName(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode("ascii"))
    except (UnicodeError, ValueError):
        raise ConfigurationError(f"{host!r} is neither a host name nor an address") from None


def _hashFor(key: PrivateKey) -> SHA256 | None:
    # Ed25519 has its own hash; the library wants None.
    return None if isinstance(key, Ed25519PrivateKey) else SHA256()
