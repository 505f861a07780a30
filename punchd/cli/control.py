"""
A thin client of a running peer: the standard library alone, because C{ssh} waits for it.
"""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Failed(Exception):
    """
    It could not be done; the text is one line for the person.

    @ivar answer: what the peer said, if it did.
    """

    def __init__(self, text: str, answer: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.answer = answer or {}


def stateFolder(given: str | None) -> str:
    """
    The state folder of the peer that is meant.
    """
    if given:
        return os.path.expanduser(given)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "punchd-peer")


def isRunning(state: str) -> bool:
    """
    Whether a peer answers in that folder.
    """
    try:
        _open(state).close()
    except Failed:
        return False
    return True


def ask(state: str, command: str, **arguments: str) -> dict[str, Any]:
    """
    Ask the running peer, and return its answer.

    @raise Failed: when there is none, or it says no.
    """
    connection, answer = begin(state, command, **arguments)
    connection.close()
    return answer


def begin(state: str, command: str, **arguments: str) -> tuple[socket.socket, dict[str, Any]]:
    """
    As L{ask}, but the connection stays open.
    """
    connection = _open(state)
    try:
        connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        answer = json.loads(_line(connection))
    except (OSError, ValueError):
        connection.close()
        raise Failed("the running punchd-peer went away before it answered") from None
    if not answer.get("ok"):
        connection.close()
        raise Failed(str(answer.get("error") or answer.get("reason") or "it failed"), answer)
    return connection, answer


def _open(state: str) -> socket.socket:
    path = os.path.join(state, "control")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            text = f"no punchd-peer is running with the state folder {state}: start it with"
            raise Failed(
                f"{text} 'twistd punchd-peer', or name another folder by --state"
            ) from None
        raise Failed(f"cannot reach the punchd-peer of {state}: {error}") from None
    return connection


def _line(connection: socket.socket) -> bytes:
    # Byte by byte behind the first piece would be slow; but what follows the line belongs to a
    # stream.
    line = b""
    while not line.endswith(b"\n"):
        peeked = connection.recv(65536, socket.MSG_PEEK)
        if not peeked:
            raise OSError("closed")
        wanted = peeked.find(b"\n") + 1 or len(peeked)
        line += connection.recv(wanted)
    return line
