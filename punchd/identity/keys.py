"""
A peer's or server's own key, and what follows from it.
"""

from __future__ import annotations

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from punchd.errors import ConfigurationError
from punchd.identity.folder import StateFolder
from punchd.values.peers import PeerID

#: What may stand in a key file. Keys that we make are Ed25519; operators bring the others.
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey

_KEY_FILE = "key.pem"


@frozen
class Identity:
    """
    A private key and the ID that others know it by.

    @ivar created: whether the key was made just now.
    """

    key: PrivateKey
    peerID: PeerID
    created: bool = False

    @classmethod
    def of(cls, key: PrivateKey, created: bool = False) -> Identity:
        """
        The identity that has C{key}.
        """
        return cls(key, peerIDOf(key.public_key()), created)

    @classmethod
    def inFolder(cls, folder: StateFolder) -> Identity:
        """
        The identity whose key lies in C{folder}; a new Ed25519 key if there is none.

        @raise ConfigurationError: when the key cannot be read, used or written.
        """
        pem = folder.read(_KEY_FILE)
        if pem is not None:
            return cls.of(loadKey(pem, str(folder.file(_KEY_FILE))))
        key = Ed25519PrivateKey.generate()
        folder.write(
            _KEY_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return cls.of(key, created=True)


def loadKey(pem: bytes, where: str) -> PrivateKey:
    """
    The private key in C{pem}.

    @param where: the file's name, for the error's text.
    @raise ConfigurationError: when there is no key in it, or none that TLS here can use.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"there is no usable private key (PEM) in {where}") from None
    if isinstance(key, EllipticCurvePrivateKey) and not isinstance(key.curve, SECP256R1):
        raise ConfigurationError(f"the key in {where} is on curve {key.curve.name}, not P-256")
    if not isinstance(key, PrivateKey):
        raise ConfigurationError(f"the key in {where} is neither Ed25519, P-256 nor RSA")
    return key


def peerIDOf(publicKey: PublicKeyTypes) -> PeerID:
    """
    The ID that belongs to a public key of the C{cryptography} library.
    """
    return PeerID.ofPublicKey(
        publicKey.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def peerIDOfCertificate(certificate: x509.Certificate) -> PeerID:
    """
    The ID that belongs to a certificate's key.
    """
    return peerIDOf(certificate.public_key())
