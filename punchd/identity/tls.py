"""
TLS 1.3 with a certificate on both sides, and who the other side has proven to be.

Nobody here believes a certificate's issuer, except a peer that knows its server by name only. What
counts is the key: its holder proves it in the handshake, and its L{PeerID} is compared with the one
that was expected, inside the handshake, so that a wrong one never gets a byte of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from OpenSSL import SSL, crypto
from OpenSSL.SSL import Connection, Context
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from punchd.errors import ConfigurationError, NotTrusted
from punchd.identity.certificates import Credentials, expired
from punchd.identity.keys import peerIDOfCertificate
from punchd.values.peers import PeerID

#: What decides about the other side's certificate: raises L{NotTrusted}, or returns.
Judge = Callable[[x509.Certificate, bool], None]


@define
class Verdict:
    """
    What one handshake found out about the other side. Lives as long as the connection.

    @ivar judge: gets the certificate, and whether its chain ends at a trusted root.
    @ivar peerID: who it is, once it has shown an acceptable certificate.
    @ivar refusal: why it was not accepted.
    """

    judge: Judge
    peerID: PeerID | None = None
    refusal: NotTrusted | None = None
    _chainIsTrusted: bool = field(default=True, init=False)

    def noteCertificate(self, certificate: x509.Certificate, depth: int, sound: bool) -> bool:
        """
        OpenSSL has looked at a certificate of the chain: from the root down to the other side's own
        (depth 0), each perhaps more than once, for each doubt that it has.

        @return: whether the handshake may go on.
        """
        self._chainIsTrusted = self._chainIsTrusted and sound
        if depth > 0:
            return True
        try:
            if expired(certificate, datetime.now(UTC)):
                raise NotTrusted(
                    "the other side's certificate is expired or not yet valid "
                    f"(until {certificate.not_valid_after_utc:%Y-%m-%d}); is the clock right?"
                )
            self.judge(certificate, self._chainIsTrusted)
        except NotTrusted as refusal:
            self.refusal = refusal
            return False
        self.peerID = peerIDOfCertificate(certificate)
        return True


def anybody(certificate: x509.Certificate, chainIsTrusted: bool) -> None:
    """
    The judge who accepts every key; what its holder may do is decided by its ID.
    """


def onlyPeer(expected: PeerID, who: str) -> Judge:
    """
    The judge who accepts one key.

    @param who: whom it belongs to, for the error's text.
    """

    def judge(certificate: x509.Certificate, chainIsTrusted: bool) -> None:
        found = peerIDOfCertificate(certificate)
        if found != expected:
            raise NotTrusted(
                f"{who} has key {found.short}…, not the expected {expected.short}…: somebody is "
                "in between, or its key was changed"
            )

    return judge


def onlyHost(host: str) -> Judge:
    """
    The judge who accepts a certificate that a trusted root vouches for, and that names C{host}
    (RFC 9525, by service-identity).
    """

    def judge(certificate: x509.Certificate, chainIsTrusted: bool) -> None:
        if not chainIsTrusted:
            raise NotTrusted(
                f"no trusted root vouches for the certificate of {host}: give its #PIN in "
                "--server, or its root with --ca"
            )
        verify: Callable[[x509.Certificate, str], None] = verify_certificate_hostname
        if isIPAddress(host) or isIPv6Address(host):
            verify = verify_certificate_ip_address
        try:
            verify(certificate, host)
        except (VerificationError, CertificateError):
            raise NotTrusted(f"the server's certificate is not for {host}") from None

    return judge


@frozen
class _Protocols:
    """
    The ALPN callback of a TLS server. An end that speaks nothing of ours gets no protocol, and
    whoever uses the connection sees that: what was negotiated is on the TLS transport.
    """

    alpn: bytes

    def __call__(self, connection: Connection, offered: list[bytes]) -> Any:
        return self.alpn if self.alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def makeContext(
    credentials: Credentials, alpn: bytes, roots: Path | str | None = None, lean: bool = False
) -> Context:
    """
    The OpenSSL context for all connections of one service; making one is not cheap.

    @param roots: a PEM file with trusted roots, C{"system"}, or C{None} where only keys count.
    @param lean: for services with thousands of idle connections: both ends agree on P-256 alone,
        and prefer ChaCha20.
    @raise ConfigurationError: when the roots cannot be used.
    """
    context = Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    # No renegotiation exists in 1.3; no tickets and no cache: a session resumed would skip the
    # proof.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Idle connections give their buffers back: half the memory of an idle peer at the server.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    if lean:
        # OpenSSL keeps what the key exchange left behind for as long as the connection lives: 9 KiB
        # more with its default, X25519MLKEM768, which is worth it where people's data flows.
        context.set_tmp_ecdh(SECP256R1())
        # Half a KiB less than AES-GCM with its tables, and no slower for a few bytes now and then.
        context.set_tls13_ciphersuites(
            b"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
        )
    else:
        context.set_tls13_ciphersuites(
            b"TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
        )
    context.use_privatekey(credentials.identity.key)
    context.use_certificate(credentials.certificate)
    for above in credentials.chain:
        context.add_extra_chain_cert(above)
    context.set_alpn_protos([alpn])
    context.set_alpn_select_callback(_Protocols(alpn))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    if roots == "system":
        context.set_default_verify_paths()
    elif roots is not None:
        try:
            context.load_verify_locations(str(roots))
        except SSL.Error:
            raise ConfigurationError(f"there are no certificates (PEM) in {roots}") from None
    return context


def _verify(
    connection: Connection, certificate: crypto.X509, errno: int, depth: int, preverified: int
) -> bool:
    # What Twisted keeps there is the TLS transport.
    verdict = verdictOf(connection.get_app_data())
    try:
        return verdict.noteCertificate(certificate.to_cryptography(), depth, bool(preverified))
    except Exception as error:
        # OpenSSL takes certificates that other parsers stumble over, each in its own way; what is
        # raised here would go through the reactor, and a stranger could fill the log with it.
        verdict.refusal = NotTrusted(f"the other side's certificate is not readable: {error!r:.80}")
        return False


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
@define
class ConnectionCreator:
    """
    Makes the OpenSSL connection of one TLS handshake or of many.

    @ivar makeVerdict: called for each handshake.
    @ivar serverName: what to ask for (RFC 6066, 3), if anything.
    """

    context: Context
    makeVerdict: Callable[[], Verdict]
    serverName: str | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        connection = self._connection(tlsProtocol)
        if self.serverName is not None:
            connection.set_tlsext_host_name(self.serverName.encode("idna"))
        return connection

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        return self._connection(tlsProtocol)

    def _connection(self, tlsProtocol: Any) -> Connection:
        tlsProtocol.punchdVerdict = self.makeVerdict()
        return Connection(self.context, None)


@define
class SharedSession:
    """
    One TLS session for all connections of a service, from the end of their handshakes.

    OpenSSL keeps a session with each connection for as long as it lives: the other side's
    certificate and what the key exchange left behind, 5.5 KiB, for a resumption that we never
    allow. The verdict has what we want to know of it by then.
    """

    _session: SSL.Session | None = field(default=None, init=False)

    def replaceThatOf(self, connection: Connection) -> None:
        """
        Let go of the session of C{connection}, whose handshake is over.
        """
        if self._session is None:
            self._session = connection.get_session()
        else:
            connection.set_session(self._session)


def verdictOf(transport: Any) -> Verdict:
    """
    The verdict on the other side of a TLS transport.
    """
    verdict: Verdict = transport.punchdVerdict
    return verdict
