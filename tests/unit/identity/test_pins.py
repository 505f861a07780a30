"""
Tests for L{punchd.identity.pins}.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from punchd.errors import ConfigurationError, UnknownPeer
from punchd.identity.folder import StateFolder
from punchd.identity.pins import Pins
from punchd.values.peers import PeerID, Pin

BOB = PeerID(b"b" * 32)
CAROL = PeerID(b"c" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder.at(str(tmp_path))


def test_aNewFolderHasNone(folder: StateFolder) -> None:
    assert list(Pins.inFolder(folder)) == []


def test_whoIsTrustedIsKnownByNameAndByID(folder: StateFolder) -> None:
    pins = Pins.inFolder(folder)
    pins.trust("bob", BOB)
    assert (pins.idOf("bob"), pins.nameOf(BOB)) == (BOB, "bob")


def test_pinsOutliveTheProcess(folder: StateFolder) -> None:
    Pins.inFolder(folder).trust("bob", BOB)
    Pins.inFolder(folder).trust("carol", CAROL)
    assert list(Pins.inFolder(folder)) == [Pin("bob", BOB), Pin("carol", CAROL)]


def test_aNameCanGoToAnotherKey(folder: StateFolder) -> None:
    pins = Pins.inFolder(folder)
    pins.trust("bob", BOB)
    pins.trust("bob", CAROL)
    assert list(pins) == [Pin("bob", CAROL)]


def test_aKeyHasOneName(folder: StateFolder) -> None:
    pins = Pins.inFolder(folder)
    pins.trust("bob", BOB)
    pins.trust("robert", BOB)
    assert list(pins) == [Pin("robert", BOB)]


def test_whoIsNotTrustedIsUnknownAndTheTextSaysWhatToDo(folder: StateFolder) -> None:
    pins = Pins.inFolder(folder)
    with pytest.raises(UnknownPeer, match="punchd trust bob ID"):
        pins.idOf("bob")
    assert pins.nameOf(BOB) is None


@pytest.mark.parametrize("name", ["Bob", "bbo", "bobb"])
def test_whoIsMisspeltHearsOfTheNameThatThereIs(folder: StateFolder, name: str) -> None:
    pins = Pins.inFolder(folder)
    pins.trust("carol", CAROL)
    pins.trust("bob", BOB)
    with pytest.raises(UnknownPeer, match=r"\(there is 'bob'\)"):
        pins.idOf(name)


def test_whoIsLikeNobodyHearsOfNobody(folder: StateFolder) -> None:
    pins = Pins.inFolder(folder)
    pins.trust("carol", CAROL)
    with pytest.raises(UnknownPeer, match=r"^no peer is pinned as 'bob': run"):
        pins.idOf("bob")


def test_aNameThatCannotBeOneIsNotTrusted(folder: StateFolder) -> None:
    with pytest.raises(ConfigurationError):
        Pins.inFolder(folder).trust("../bob", BOB)


def test_aPinThatCannotBeWrittenDoesNotCount(folder: StateFolder) -> None:
    pins = Pins.inFolder(folder)
    pins.trust("bob", BOB)
    folder.file("pins.json").unlink()
    folder.file("pins.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot write"):
        pins.trust("carol", CAROL)
    assert list(pins) == [Pin("bob", BOB)]


BAD = [
    b"[" * 100_000,
    b"",
    b"{",
    b"[]",
    b"7",
    b"null",
    b'{"bob": 7}',
    b'{"bob": null}',
    b'{"bob": "xyz"}',
    b'{"b b": "%s"}' % str(BOB).encode(),
    b"\xff\xfe",
]


@pytest.mark.parametrize("content", BAD)
def test_aBadFileIsSaidWithItsName(folder: StateFolder, content: bytes) -> None:
    folder.write("pins.json", content)
    with pytest.raises(ConfigurationError, match=r"pins\.json holds no pins"):
        Pins.inFolder(folder)


@pytest.mark.parametrize("content", BAD)
def test_aBadFileIsLeftAsItIs(folder: StateFolder, content: bytes) -> None:
    folder.write("pins.json", content)
    with pytest.raises(ConfigurationError):
        Pins.inFolder(folder)
    assert folder.read("pins.json") == content


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anyContentIsPinsOrAConfigurationError(content: bytes) -> None:
    class Folder(StateFolder):
        def read(self, name: str) -> bytes:
            return content

    try:
        Pins.inFolder(Folder(Path("/nowhere")))
    except ConfigurationError:
        return
    assert isinstance(json.loads(content), dict)


def test_whatATrustReplacesIsSaid(tmp_path: Path) -> None:
    pins = Pins.inFolder(StateFolder.at(str(tmp_path)))
    one, two = PeerID(b"\x01" * 32), PeerID(b"\x02" * 32)
    assert pins.trust("bob", one) is None
    assert pins.trust("bob", one) is None
    assert "bob was 0101" in str(pins.trust("bob", two))
    assert "pinned as bob" in str(pins.trust("robert", two))
