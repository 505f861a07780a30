"""
Tests for L{punchd.hooks.memory}.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from punchd.errors import ConfigurationError
from punchd.hooks.facts import Facts, Subject
from punchd.hooks.memory import FOLDER, Memory
from punchd.identity.folder import StateFolder
from tests.unit.hooks.pretending import ID, makeFacts

LINK = Facts(Subject.LINK, "bob", ID, path="direct")


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder.at(str(tmp_path))


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "punchd.hooks.memory":
            said.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


def loaded(folder: StateFolder) -> list[Facts]:
    return list(Memory.inFolder(folder).load())


def test_theNextProcessKnowsWhoWasThere(folder: StateFolder) -> None:
    memory = Memory.inFolder(folder)
    memory.keep(makeFacts("Bob"))
    memory.keep(makeFacts("carol"))
    memory.keep(LINK)
    assert loaded(folder) == [LINK.gone(), makeFacts("Bob").gone(), makeFacts("carol").gone()]


def test_whoIsToldToHaveGoneIsForgotten(folder: StateFolder) -> None:
    memory = Memory.inFolder(folder)
    memory.keep(makeFacts())
    memory.forget(makeFacts().key)
    assert loaded(folder) == []
    memory.forget(makeFacts().key)


def test_itIsWrittenOnce(folder: StateFolder) -> None:
    memory = Memory.inFolder(folder)
    memory.keep(makeFacts())
    path = folder.file(FOLDER) / "peer-bob"
    path.write_text("touched")
    memory.keep(makeFacts(address="198.51.100.2"))
    assert path.read_text() == "touched"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("peer-bob", "{"),
        ("peer-bob", "[]"),
        ("peer-bob", "{}"),
        ("peer-bob", "[" * 100_000),
        ("peer-bob", json.dumps({"subject": "peer", "name": "a\nb", "id": str(ID)})),
        ("peer-bob", json.dumps({"subject": "peer", "name": 5, "id": str(ID)})),
        ("peer-bob", json.dumps({"subject": "world", "name": "bob", "id": str(ID)})),
        ("peer-bob", json.dumps({"subject": "peer", "name": "bob", "id": "x"})),
        ("peer-carol", json.dumps({"subject": "peer", "name": "bob", "id": str(ID)})),
    ],
)
def test_whatIsNotOursIsIgnoredAndTold(
    folder: StateFolder, name: str, content: str, warnings: list[str]
) -> None:
    memory = Memory.inFolder(folder)
    (folder.file(FOLDER) / name).write_text(content)
    memory.keep(makeFacts("dave"))
    assert [facts.name for facts in loaded(folder)] == ["dave"]
    assert len(warnings) == 1


def test_whatWasHalfWrittenIsRemoved(folder: StateFolder) -> None:
    Memory.inFolder(folder)
    rest = folder.file(FOLDER) / ".peer-bob.abc"
    rest.write_text("{")
    assert loaded(folder) == []
    assert not rest.exists()


def test_aFolderThatCannotBeMadeIsAMistake(folder: StateFolder) -> None:
    folder.write(FOLDER, b"")
    with pytest.raises(ConfigurationError, match="cannot make the state folder"):
        Memory.inFolder(folder)


def test_whatCannotBeKeptIsToldOnce(folder: StateFolder, warnings: list[str]) -> None:
    memory = Memory.inFolder(folder)
    folder.file(FOLDER).rmdir()
    memory.keep(makeFacts("bob"))
    memory.keep(makeFacts("carol"))
    memory.forget("peer-bob")
    assert len(warnings) == 1
    assert "No such file or directory; after a restart, --on-change may not" in warnings[0]
    folder.file(FOLDER).mkdir()
    memory.keep(makeFacts("bob"))
    assert [facts.name for facts in loaded(folder)] == ["bob"]
