"""
OpenSSL's side of a TLS connection: plaintext into records, and records into plaintext.

pyOpenSSL makes a buffer, a copy and half a dozen calls of Python for each record of 16 KiB that is
read, and two copies of what is written. Where it counts, this does in a loop what pyOpenSSL does
with its own OpenSSL, into memory that all connections share. The names that it takes from there
have been the same since pyOpenSSL 0.14; should one be missing some day, L{punchd.link.portable}
does without them.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from punchd.link.portable import PortableRecords, hasInside

_log = Logger()

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)

#: The most plaintext of a record, and what encryption may add to it (RFC 8446, 5.1 and 5.2).
MOST_PLAINTEXT = 1 << 14
MOST_CIPHERTEXT = 5 + MOST_PLAINTEXT + 256

#: Bytes that are encrypted, or decrypted, at a time.
PORTION = 32 * MOST_PLAINTEXT

#: Seconds without much to be read or written until OpenSSL's buffers are given back.
RESTING = 1.0


class Space:
    """
    Memory for what OpenSSL gives: a portion, and a record that was begun before. Borrow one with
    L{borrow}, and give it back with L{giveBack}.
    """

    def __init__(self) -> None:
        memory = bytearray(PORTION + 2 * MOST_CIPHERTEXT)
        self.view = memoryview(memory)
        self.address = addressOf(self.view)
        self.end = len(memory)


# Those that nobody has. One is enough, unless what is read makes somebody read.
_spaces: list[Space] = []


def borrow() -> Space:
    """
    Memory for one use.
    """
    return _spaces.pop() if _spaces else Space()


def addressOf(data: memoryview) -> Any:
    """
    Where C{data} is, for L{Records.encrypt}.
    """
    return _ffi.from_buffer(data) if isFamiliar else data


def giveBack(space: Space) -> None:
    """
    Nobody looks at its view any more.
    """
    _spaces.append(space)


class Records:
    """
    Made for each connection; ends with it.

    @ivar tls: pyOpenSSL's connection, which has buffers in memory.
    """

    def __init__(self, tls: SSL.Connection, clock: IReactorTime) -> None:
        self.tls = tls
        self._clock = clock
        self._ssl: Any = tls._ssl
        # pyOpenSSL has OpenSSL return after each record.
        _lib.SSL_clear_mode(self._ssl, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
        # Whether OpenSSL's buffers have grown lately, and who will look whether they still do.
        self._hasGrown = False
        self._resting: IDelayedCall | None = None

    def take(self, data: memoryview) -> None:
        """
        Bytes have come from the other end.
        """
        length = len(data)
        self._note(length)
        _lib.BIO_write(self.tls._into_ssl, _ffi.from_buffer(data), length)

    def decrypt(self, space: Space) -> tuple[int, bool]:
        """
        Put into C{space} all the plaintext that there is, or as much as it has room for.

        @return: how many bytes that was; and whether there is something else to be heard, which
            L{hear} tells.
        """
        read, ssl, address = _lib.SSL_read, self._ssl, space.address
        at, last = 0, space.end - MOST_PLAINTEXT
        while at <= last:
            count = read(ssl, address + at, MOST_PLAINTEXT)
            if count <= 0:
                return at, _lib.SSL_get_error(ssl, count) != _lib.SSL_ERROR_WANT_READ
            at += count
        return at, True

    def hear(self) -> None:
        """
        Tell what there is beside plaintext.

        @raise SSL.Error: which is how it is told.
        """
        self.tls.recv(1)

    def encrypt(self, address: Any, length: int) -> bool:
        """
        Make records of the C{length} bytes at C{address}; L{said} has them.

        @return: whether that was possible; if not, C{tls.send} tells why.
        """
        self._note(length)
        written: int = _lib.SSL_write(self._ssl, address, length)
        return written == length

    def said(self, space: Space) -> int:
        """
        Put into C{space} what shall go to the other end.

        @return: how many bytes that was; none, if there is no more.
        """
        count: int = _lib.BIO_read(self.tls._from_ssl, space.address, space.end)
        return max(count, 0)

    def _note(self, length: int) -> None:
        """
        OpenSSL has to hold so much at once.
        """
        if length > MOST_CIPHERTEXT:
            self._hasGrown = True
            if self._resting is None:
                self._resting = self._clock.callLater(RESTING, self._rest)

    def _rest(self) -> None:
        self._resting = None
        if self._hasGrown:
            self._hasGrown = False
            self._resting = self._clock.callLater(RESTING, self._rest)
        else:
            self._shrink()

    def _shrink(self) -> None:
        """
        Return what OpenSSL's buffers take beyond what is in them: by themselves they never shrink,
        but hold 4/3 of the most that ever was in them at once.
        """
        tls: Any = self.tls
        content = _ffi.new("char **")
        if any(_lib.BIO_get_mem_data(one, content) for one in (tls._into_ssl, tls._from_ssl)):
            return
        tls._into_ssl, tls._from_ssl = (_lib.BIO_new(_lib.BIO_s_mem()) for _ in range(2))
        # It frees those that it had.
        _lib.SSL_set_bio(self._ssl, tls._into_ssl, tls._from_ssl)

    def end(self) -> None:
        """
        The connection is over.
        """
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None


#: Whether pyOpenSSL has inside what is taken from there.
isFamiliar = hasInside(SSL, Records)
if not isFamiliar:
    _log.warn(
        "pyOpenSSL {version} is not the one that this was made for: links cost more processor time",
        version=metadata.version("pyOpenSSL"),
    )


def makeRecords(tls: SSL.Connection, clock: IReactorTime) -> Records | PortableRecords:
    """
    The records of a connection.
    """
    return Records(tls, clock) if isFamiliar else PortableRecords(tls, MOST_PLAINTEXT)
