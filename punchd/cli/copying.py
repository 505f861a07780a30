"""
Standard input and output onto a socket, with half-close: the whole of C{punchd connect}.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PIECE = 256 * 1024

# Bytes of a piece's length, and what may be in its place.
_HEAD = 4
_BROKEN = 0xFFFFFFFE
_CLOSED = 0xFFFFFFFF

# Nobody was left to say more.
_GONE = "the punchd-peer that runs here has ended"


def copyBothWays(connection: socket.socket, stdin: int = 0, stdout: int = 1) -> str | None:
    """
    Copy until the other end is done. What comes from C{connection} is in pieces, each with its
    length before it; one of length 0 is the end in order. What is said behind it is how the other
    direction has ended.

    When standard input ends, only that direction does. When the other end has closed both, there is
    nobody left to read for, and this returns although standard input may still be open.

    @return: C{None} when the stream ended in order; else why it broke, as far as that was said.
    """
    sending = threading.Thread(target=_send, args=(stdin, connection), daemon=True)
    sending.start()
    return _receive(connection, stdout)


def _send(stdin: int, connection: socket.socket) -> None:
    try:
        while piece := os.read(stdin, _PIECE):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The other direction tells what became of the stream.
        return


def _receive(connection: socket.socket, stdout: int) -> str | None:
    head, left = b"", 0
    try:
        while received := _come(connection):
            view = memoryview(received)
            while view:
                if left:
                    written = os.write(stdout, view[:left])
                    left -= written
                    view = view[written:]
                    continue
                missing = _HEAD - len(head)
                head += bytes(view[:missing])
                view = view[missing:]
                if len(head) == _HEAD:
                    left, head = int.from_bytes(head, "big"), b""
                    if not left:
                        os.close(stdout)
                        return _lastWord(connection, view)
                    if left == _BROKEN:
                        return _text(_rest(connection, view))
    except BrokenPipeError:
        # Nobody reads our output any more.
        return ""
    except OSError as error:
        return f"cannot write to standard output: {error.strerror}"
    return _GONE


def _come(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_PIECE)
    except OSError:
        # A reset says no more than an end without a word.
        return b""


def _lastWord(connection: socket.socket, begun: memoryview) -> str | None:
    # The input may still be wanted, for as long as it likes.
    said = _rest(connection, begun)
    word = int.from_bytes(said[:_HEAD], "big")
    if word == _CLOSED:
        return None
    return _text(said[_HEAD:]) if word == _BROKEN else _GONE


def _rest(connection: socket.socket, begun: memoryview) -> bytes:
    rest = bytes(begun)
    # When there is something that we have sent and nobody has read, it ends with an error.
    with suppress(OSError):
        while received := connection.recv(_PIECE):
            rest += received
    return rest


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace")


def leave(status: int) -> NoReturn:
    """
    End the process at once, although a thread may still wait for input.
    """
    sys.stderr.flush()
    os._exit(status)
