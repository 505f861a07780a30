"""
Identities and certificates for tests.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from punchd.identity.certificates import Credentials
from punchd.identity.keys import Identity, PrivateKey


def makeIdentity() -> Identity:
    """
    A new one.
    """
    return Identity.of(Ed25519PrivateKey.generate())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """
    Somebody who vouches for servers.
    """

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.certificate = self._certificate("a root", self._key, (), True, 0)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def vouchFor(
        self, hosts: Sequence[str], identity: Identity | None = None, daysFromNow: int = 0
    ) -> Credentials:
        """
        A server's credentials, valid for C{hosts} on the day that is so far away.
        """
        identity = identity or makeIdentity()
        certificate = self._certificate("a server", identity.key, hosts, False, daysFromNow)
        return Credentials(identity, certificate)

    def _certificate(
        self, subject: str, key: PrivateKey, hosts: Sequence[str], isRoot: bool, daysFromNow: int
    ) -> x509.Certificate:
        middle = datetime.now(UTC) + timedelta(days=daysFromNow)
        names: list[x509.GeneralName] = []
        for host in hosts:
            try:
                names.append(x509.IPAddress(ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("a root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(middle - timedelta(days=2))
            .not_valid_after(middle + timedelta(days=2))
            .add_extension(x509.BasicConstraints(isRoot, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, None)
