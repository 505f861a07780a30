"""
SOCKS version 5 (RFC 1928), as much of it as it takes to be asked for a name: no authentication, and
CONNECT alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from attrs import frozen

from punchd.errors import ProtocolViolation

_VERSION = 5
_CONNECT = 1
_NAME = 3

#: The one method: no authentication. And the answer when that is not offered.
_NO_AUTHENTICATION = 0
_NO_METHOD = 0xFF

#: Bytes of a request before its address, and before a name.
_HEAD = 4
_NAME_HEAD = 5

#: The longest greeting is 257 bytes, the longest request 262.
MOST_MESSAGE = 262


class Reply(IntEnum):
    """
    What became of a request (section 6).
    """

    SUCCEEDED = 0
    FAILED = 1
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


@frozen
class Greeted:
    """
    The client has greeted.

    @ivar answer: what it is to be sent.
    @ivar isWelcome: whether it goes on.
    """

    answer: bytes
    isWelcome: bool


@frozen
class Requested:
    """
    The client wants a connection.

    @ivar name: the host's.
    @ivar refusal: why it cannot be had; C{None} if it can, as far as the protocol goes.
    """

    name: str
    port: int
    refusal: Reply | None = None


class SocksReader:
    """
    Reads one greeting and one request, and nothing after it.

    @ivar rest: what came behind the request.
    """

    def __init__(self) -> None:
        self.rest = b""
        self._isGreeted = False
        self._isDone = False

    def read(self, data: bytes) -> Iterator[Greeted | Requested]:
        """
        What C{data} completes.

        @raise ProtocolViolation: when this is not SOCKS 5.
        """
        self.rest += data
        if not self._isGreeted:
            yield from self._greeting()
        if self._isGreeted and not self._isDone:
            yield from self._request()

    def _greeting(self) -> Iterator[Greeted]:
        received = self.rest
        self._checkVersion()
        if len(received) < 2 or len(received) < 2 + received[1]:
            return
        end = 2 + received[1]
        methods, self.rest = received[2:end], received[end:]
        isWelcome = _NO_AUTHENTICATION in methods
        self._isGreeted, self._isDone = True, not isWelcome
        method = _NO_AUTHENTICATION if isWelcome else _NO_METHOD
        yield Greeted(bytes([_VERSION, method]), isWelcome)

    def _request(self) -> Iterator[Requested]:
        received = self.rest
        self._checkVersion()
        if len(received) < _HEAD:
            return
        refusal = None
        if received[1] != _CONNECT:
            refusal = Reply.COMMAND_NOT_SUPPORTED
        elif received[3] != _NAME:
            refusal = Reply.ADDRESS_NOT_SUPPORTED
        if refusal is not None:
            # What follows is of no interest, nor perhaps of a known form.
            self._isDone = True
            yield Requested("", 0, refusal)
            return
        if len(received) < _NAME_HEAD or len(received) < _NAME_HEAD + received[4] + 2:
            return
        end = _NAME_HEAD + received[4]
        self._isDone = True
        self.rest = received[end + 2 :]
        name = received[_NAME_HEAD:end].decode("utf-8", "replace")
        yield Requested(name, int.from_bytes(received[end : end + 2], "big"))

    def _checkVersion(self) -> None:
        if self.rest and self.rest[0] != _VERSION:
            raise ProtocolViolation(f"SOCKS {_VERSION} is spoken here, not {self.rest[0]}")


def packReply(reply: Reply) -> bytes:
    """
    The answer to a request. The address in it, which is that of the connection at a proxy's other
    side, is 0.0.0.0:0 here: there is none that would mean anything to the client.
    """
    return bytes([_VERSION, reply, 0, 1]) + bytes(6)
