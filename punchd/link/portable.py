"""
OpenSSL's side of a TLS connection, by nothing but what pyOpenSSL promises: for a pyOpenSSL that has
not inside what L{punchd.link.records} takes from there. It costs more.
"""

from __future__ import annotations

from inspect import isfunction
from typing import TYPE_CHECKING, Any

from attrs import define, field
from OpenSSL import SSL

if TYPE_CHECKING:
    from punchd.link.records import Space


def hasInside(ssl: Any, user: type) -> bool:
    """
    Whether pyOpenSSL has inside what C{user} takes from there.

    @param ssl: the module C{OpenSSL.SSL}.
    @param user: a class whose methods use OpenSSL's functions by their own names, and the insides
        of a C{Connection}.
    """
    library = getattr(ssl, "_lib", None)
    connection = ssl.Connection(ssl.Context(ssl.TLS_METHOD), None)
    names = {
        name
        for method in vars(user).values()
        if isfunction(method)
        for name in method.__code__.co_names
        if name.startswith(("SSL_", "BIO_"))
    }
    return (
        all(hasattr(library, name) for name in names)
        and all(hasattr(connection, name) for name in ("_ssl", "_into_ssl", "_from_ssl"))
        and hasattr(getattr(ssl, "_ffi", None), "from_buffer")
    )


@define(eq=False)
class PortableRecords:
    """
    As L{Records<punchd.link.records.Records>}, but that where a C{Space} is, and where data is, is
    a view of it.
    """

    tls: SSL.Connection
    _most: int
    _error: SSL.Error | None = field(default=None, init=False)

    def take(self, data: memoryview) -> None:
        """
        Bytes have come from the other end.
        """
        self.tls.bio_write(data)

    def decrypt(self, space: Space) -> tuple[int, bool]:
        """
        Put into C{space} all the plaintext that there is, or as much as it has room for.

        @return: how many bytes that was; and whether there is something else to be heard, which
            L{hear} tells.
        """
        at, last = 0, space.end - self._most
        while at <= last:
            try:
                at += self.tls.recv_into(space.view[at : at + self._most])
            except SSL.WantReadError:
                return at, False
            except SSL.Error as error:
                # It tells it once.
                self._error = error
                return at, True
        return at, True

    def hear(self) -> None:
        """
        Tell what there is beside plaintext.

        @raise SSL.Error: which is how it is told.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.tls.recv(1)

    def encrypt(self, address: memoryview, length: int) -> bool:
        """
        Make records of the first C{length} bytes at C{address}; L{said} has them.

        @return: whether that was possible; if not, C{tls.send} tells why.
        """
        at = 0
        while at < length:
            try:
                at += self.tls.send(address[at:length])
            except SSL.Error:
                return False
        return True

    def said(self, space: Space) -> int:
        """
        Put into C{space} what shall go to the other end.

        @return: how many bytes that was; none, if there is no more.
        """
        try:
            said = self.tls.bio_read(space.end)
        except SSL.WantReadError:
            return 0
        space.view[: len(said)] = said
        return len(said)

    def end(self) -> None:
        """
        The connection is over.
        """
