"""
Tests for L{punchd.server.registry.sqlite}: they need a file and a thread.
"""

import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from punchd.errors import ConfigurationError, Unreachable
from punchd.server.registry.sqlite import SQLiteRegistry, fromURI
from tests.unit.server.pretending import peerID
from tests.unit.server.registry.contract import RegistryContract


def openRegistry(path: Path) -> SQLiteRegistry:
    from twisted.internet import reactor

    return fromURI(f"sqlite:{path}", reactor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest_twisted.async_yield_fixture
async def registry(path: Path) -> AsyncIterator[SQLiteRegistry]:
    made = openRegistry(path)
    yield made
    await made.close()


class TestSQLiteRegistry(RegistryContract):
    pass


@ensureDeferred
async def test_namesOutliveTheProcess(path: Path) -> None:
    first = openRegistry(path)
    await first.claim("alice", peerID(1))
    await first.close()
    second = openRegistry(path)
    assert await second.owner("alice") == peerID(1)
    await second.close()


@ensureDeferred
async def test_twoServersMayShareAFile(path: Path) -> None:
    first, second = openRegistry(path), openRegistry(path)
    await first.claim("alice", peerID(1))
    assert await second.owner("alice") == peerID(1)
    await first.close()
    await second.close()


@ensureDeferred
async def test_onlyTheOwnerReadsTheFile(registry: SQLiteRegistry, path: Path) -> None:
    await registry.claim("alice", peerID(1))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@ensureDeferred
async def test_anUnwritableFileIsUnreachable(registry: SQLiteRegistry, path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("DROP TABLE names")
    other.close()
    with pytest.raises(Unreachable, match="registry") as caught:
        await registry.claim("alice", peerID(1))
    assert isinstance(caught.value.__cause__, sqlite3.Error)


@ensureDeferred
async def test_itWorksAgainWhenTheTroubleIsOver(registry: SQLiteRegistry, path: Path) -> None:
    await registry.claim("alice", peerID(1))
    other = sqlite3.connect(path)
    other.execute("ALTER TABLE names RENAME TO gone")
    with pytest.raises(Unreachable):
        await registry.claim("bob", peerID(2))
    other.execute("ALTER TABLE gone RENAME TO names")
    other.close()
    await registry.claim("bob", peerID(2))
    assert await registry.owner("alice") == peerID(1)


@ensureDeferred
async def test_aCorruptFileIsUnreachable(registry: SQLiteRegistry, path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(Unreachable):
        await registry.claim("alice", peerID(1))


@pytest.fixture
def occupied(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "occupied"
    file.write_bytes(b"this is no database" * 100)
    yield file
    assert file.read_bytes().startswith(b"this is no database")


class TestAPathThatCannotBeUsed:
    def test_belowAFile(self, occupied: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot open the registry"):
            openRegistry(occupied / "registry.sqlite")

    def test_aFolder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot open the registry"):
            openRegistry(tmp_path)

    def test_aFileOfAnotherKind(self, occupied: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot use the registry"):
            openRegistry(occupied)

    def test_aDatabaseOfSomebodyElse(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE songs (title)")
        connection.close()
        with pytest.raises(ConfigurationError, match="something else"):
            openRegistry(path)

    def test_aDatabaseOfALaterPunchd(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(ConfigurationError, match="version 99"):
            openRegistry(path)

    def test_noPath(self) -> None:
        with pytest.raises(ConfigurationError, match="names no file"):
            fromURI("sqlite:", None)
