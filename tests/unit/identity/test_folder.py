"""
Tests for L{punchd.identity.folder}.
"""

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from punchd.errors import ConfigurationError
from punchd.identity.folder import StateFolder, defaultState


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder.at(str(tmp_path / "state"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_aNewFolderIsItsOwnersAlone(folder: StateFolder) -> None:
    assert mode(folder.path) == 0o700


def test_theFoldersAboveAreMade(tmp_path: Path) -> None:
    assert StateFolder.at(str(tmp_path / "a" / "b" / "c")).path.is_dir()


def test_whatWasWrittenIsRead(folder: StateFolder) -> None:
    folder.write("file", b"content")
    assert folder.read("file") == b"content"


def test_whatIsNotThereIsNone(folder: StateFolder) -> None:
    assert folder.read("file") is None


def test_aFileIsItsOwnersAloneWhateverTheUmask(folder: StateFolder) -> None:
    old = os.umask(0)
    try:
        folder.write("file", b"secret")
    finally:
        os.umask(old)
    assert mode(folder.file("file")) == 0o600


def test_aFileIsReplacedNotWrittenInto(folder: StateFolder) -> None:
    folder.write("file", b"old")
    with folder.file("file").open("rb") as old:
        folder.write("file", b"new")
        assert old.read() == b"old"


def test_nothingElseIsLeft(folder: StateFolder) -> None:
    folder.write("file", b"one")
    folder.write("file", b"two")
    assert [one.name for one in folder.path.iterdir()] == ["file"]


def test_whatCannotBeWrittenLeavesNothing(folder: StateFolder) -> None:
    folder.file("file").mkdir()
    folder.file("file").joinpath("inside").touch()
    with pytest.raises(ConfigurationError, match="cannot write"):
        folder.write("file", b"content")
    assert [one.name for one in folder.path.iterdir()] == ["file"]


def test_aFullDiskLeavesTheOldFile(folder: StateFolder) -> None:
    folder.write("file", b"old")
    # A limit on the size of files fails in the middle of writing, as a full disk does.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match="cannot write"):
            folder.write("file", b"n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert folder.read("file") == b"old"
    assert [one.name for one in folder.path.iterdir()] == ["file"]


_KILLED = """
import os, sys
from punchd.identity.folder import StateFolder, defaultState

def die(*arguments):
    os.kill(os.getpid(), 9)

setattr(os, sys.argv[2], die)
StateFolder.at(sys.argv[1]).write("file", b"new")
"""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_aProcessKilledInTheMiddleLeavesTheOldFile(folder: StateFolder, moment: str) -> None:
    folder.write("file", b"old")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(folder.path), moment], capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert folder.read("file") == b"old"


def test_aPathBelowAFileCannotBeAFolder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="--state"):
        StateFolder.at(str(tmp_path / "file" / "state"))


def test_aFileIsNoFolder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="--state"):
        StateFolder.at(str(tmp_path / "file"))


def test_whatCannotBeReadIsSaid(folder: StateFolder) -> None:
    folder.file("file").mkdir()
    with pytest.raises(ConfigurationError, match="cannot read"):
        folder.read("file")


asRoot = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

#: Nobody's.
OTHER = 65534


@asRoot
def test_whatRootWritesIsTheFoldersOwners(folder: StateFolder) -> None:
    os.chown(folder.path, OTHER, OTHER)
    folder.write("file", b"content")
    status = folder.file("file").stat()
    assert (status.st_uid, status.st_gid, mode(folder.file("file"))) == (OTHER, OTHER, 0o600)


def asNobody(tmp_path: Path, code: str) -> str:
    """
    What goes wrong when somebody else tries.
    """
    tmp_path.chmod(0o755)
    for above in tmp_path.parents[:3]:
        above.chmod(0o755)
    # All is there before the rights to look for it are given up.
    program = (
        "import os, sys\n"
        "from punchd.errors import ConfigurationError\n"
        "from punchd.identity.folder import StateFolder\n"
        f"os.setresuid({OTHER}, {OTHER}, {OTHER})\n"
        "try:\n"
        f"    {code}\n"
        "except ConfigurationError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


@asRoot
def test_aFolderOfSomebodyElsesIsSaidSo(tmp_path: Path) -> None:
    said = asNobody(tmp_path, "StateFolder.at(sys.argv[1])")
    assert f"cannot write to the state folder {tmp_path} (it belongs to root, and this is" in said


@asRoot
def test_aFileOfSomebodyElsesIsSaidSo(tmp_path: Path) -> None:
    os.chown(tmp_path, OTHER, OTHER)
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "file").chmod(0o600)
    said = asNobody(tmp_path, "StateFolder.at(sys.argv[1]).read('file')")
    assert "file: Permission denied (it belongs to root, and this is" in said


def test_whoHasNoHomeIsToldToChooseAFolder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert defaultState("punchd-peer") == "~/.local/state/punchd-peer"
    with pytest.raises(ConfigurationError, match="has no home; choose one with --state"):
        StateFolder.at(defaultState("punchd-peer"))
