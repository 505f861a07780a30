"""
The registry in an SQLite file.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from attrs import define
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from punchd.errors import ConfigurationError, Refused, Unreachable
from punchd.interfaces import IRegistry
from punchd.server.registry import taken
from punchd.values.peers import PeerID

#: What C{PRAGMA user_version} says in our files.
SCHEMA_VERSION = 1

_SCHEMA = """
    CREATE TABLE names (
        name TEXT PRIMARY KEY COLLATE NOCASE,
        peer BLOB NOT NULL CHECK (length(peer) = 32),
        since TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
"""

# Several processes may share the file; a writer holds it for milliseconds.
_BUSY_SECONDS = 5.0


@implementer(IRegistry)
@define(eq=False)
class SQLiteRegistry:
    """
    Owners of names in a file. Made at the server's start; one thread and one connection, which
    L{close} ends.
    """

    _pool: Any

    def claim(self, name: str, peerID: PeerID) -> Deferred[None]:
        claimed: Deferred[None] = self._pool.runInteraction(_claim, name, peerID)
        return claimed.addErrback(_translated)

    def owner(self, name: str) -> Deferred[PeerID | None]:
        found: Deferred[PeerID | None] = self._pool.runInteraction(_owner, name)
        return found.addErrback(_translated)

    def close(self) -> Deferred[None]:
        # Waits for what is under way: a transaction of milliseconds.
        self._pool.close()
        return succeed(None)


def fromURI(uri: str, reactor: object) -> SQLiteRegistry:
    """
    The registry of C{sqlite:PATH}; the file is made if there is none.

    @raise ConfigurationError: when the file cannot be made or used, or is none of ours.
    """
    path = Path(uri.removeprefix("sqlite:")).expanduser()
    if not path.name:
        raise ConfigurationError(f"the registry {uri!r} names no file: expected sqlite:PATH")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(f"cannot open the registry {path}: {error.strerror}") from None
    try:
        _prepare(path)
    except sqlite3.Error as error:
        raise ConfigurationError(f"cannot use the registry {path}: {error}") from None
    return SQLiteRegistry(
        ConnectionPool(
            "sqlite3",
            str(path),
            timeout=_BUSY_SECONDS,
            # The pool's one thread makes the connection, the reactor's closes it.
            check_same_thread=False,
            cp_min=1,
            cp_max=1,
            cp_noisy=False,
            cp_reactor=reactor,
        )
    )


def _prepare(path: Path) -> None:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"the registry {path} has version {version}, this punchd needs {SCHEMA_VERSION}: "
                "it was made by another version, or by something else"
            )
        connection.execute("COMMIT")
        # Readers do not wait for the writer, nor it for them.
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _claim(transaction: Any, name: str, peerID: PeerID) -> None:
    owner = _owner(transaction, name)
    if owner is None:
        # Two processes may come here at once; the primary key lets one of them in.
        transaction.execute(
            "INSERT INTO names (name, peer) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (name, peerID.digest),
        )
        owner = _owner(transaction, name)
    if owner != peerID:
        raise taken(name)


def _owner(transaction: Any, name: str) -> PeerID | None:
    row = transaction.execute("SELECT peer FROM names WHERE name = ?", (name,)).fetchone()
    return None if row is None else PeerID(bytes(row[0]))


def _translated(failure: Failure) -> Failure:
    failure.trap(sqlite3.Error, Refused)
    if failure.check(Refused):
        return failure
    raise Unreachable(
        "the server cannot read or write its registry now; its operator finds why in its log"
    ) from failure.value
