"""
Tests for L{punchd.cli.control} and L{punchd.cli.copying}, with the other end in a thread.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from punchd.cli.control import Failed, ask, begin, isRunning, stateFolder
from punchd.cli.copying import copyBothWays


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[bytes], list[bytes]]]:
    """
    A function that lets a peer of the test answer one question with the given bytes; it returns
    the list in which the question will be.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "control"))
    listening.listen()
    threads: list[threading.Thread] = []

    def answer(content: bytes) -> list[bytes]:
        questions: list[bytes] = []

        def run() -> None:
            connection, _ = listening.accept()
            with connection:
                questions.append(connection.recv(65536))
                connection.sendall(content)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return questions

    yield answer
    for thread in threads:
        thread.join()
    listening.close()


def test_theAnswerIsReturned(tmp_path: Path, serve: Callable[[bytes], list[bytes]]) -> None:
    questions = serve(b'{"ok": true, "name": "alice"}\n')
    assert ask(str(tmp_path), "status") == {"ok": True, "name": "alice"}
    assert questions == [b'{"command": "status"}\n']


def test_aNoIsAFailureWithItsText(tmp_path: Path, serve: Callable[[bytes], list[bytes]]) -> None:
    serve(b'{"ok": false, "error": "no such peer"}\n')
    with pytest.raises(Failed, match="no such peer"):
        ask(str(tmp_path), "status")


def test_aFailureKeepsItsFacts(tmp_path: Path, serve: Callable[[bytes], list[bytes]]) -> None:
    serve(b'{"ok": false, "reason": "no path", "path": null}\n')
    with pytest.raises(Failed) as caught:
        ask(str(tmp_path), "status")
    assert caught.value.answer["path"] is None


@pytest.mark.parametrize("answer", [b"", b'{"ok": tr', b"nonsense\n"])
def test_aPeerThatGoesAwayIsAFailure(
    tmp_path: Path, serve: Callable[[bytes], list[bytes]], answer: bytes
) -> None:
    serve(answer)
    with pytest.raises(Failed, match="went away"):
        ask(str(tmp_path), "status")


def test_whatFollowsTheAnswerBelongsToTheStream(
    tmp_path: Path, serve: Callable[[bytes], list[bytes]]
) -> None:
    serve(b'{"ok": true}\nSSH-2.0-')
    connection, answer = begin(str(tmp_path), "connect", peer="bob", service="ssh")
    with connection:
        assert answer == {"ok": True}
        assert connection.recv(100) == b"SSH-2.0-"


def test_withoutAPeerItSaysHowToStartOne(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="twistd punchd-peer"):
        ask(str(tmp_path), "status")


def test_aSocketThatNobodyListensOnIsNoPeer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control"))
    assert not isRunning(str(tmp_path))


def test_aPathTooLongForASocketIsAFailure(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot reach"):
        ask(str(tmp_path / ("x" * 200)), "status")


def test_theFolderThatIsGivenCounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    assert stateFolder("~/here") == "/home/alice/here"


def test_theFoldersDefaultIsThePeers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert stateFolder(None) == "/somewhere/punchd-peer"


END = bytes(4)


def inPieces(*pieces: bytes) -> bytes:
    return b"".join(len(piece).to_bytes(4, "big") + piece for piece in pieces)


class Copy:
    """
    C{copyBothWays} with pipes for standard input and output.
    """

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        stdin, self.input = os.pipe()
        self.output, stdout = os.pipe()
        self.results: list[bool] = []
        self._ours, self._stdin = ours, stdin

        def run() -> None:
            self.results.append(copyBothWays(ours, stdin, stdout))

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def end(self) -> bool:
        self.thread.join(20)
        (inOrder,) = self.results
        for descriptor in (self.input, self.output, self._stdin):
            try:
                os.close(descriptor)
            except OSError:
                continue
        self._ours.close()
        self.theirs.close()
        return inOrder


def test_inputGoesOutAndOutputComesIn() -> None:
    copy = Copy()
    os.write(copy.input, b"question")
    os.close(copy.input)
    received = b""
    while piece := copy.theirs.recv(100):
        received += piece
    assert received == b"question"
    copy.theirs.sendall(inPieces(b"answer") + END)
    copy.theirs.close()
    assert os.read(copy.output, 100) == b"answer"
    assert copy.end()


def test_theEndOfInputEndsOneWayOnly() -> None:
    copy = Copy()
    os.close(copy.input)
    assert copy.theirs.recv(1) == b""
    copy.theirs.sendall(inPieces(b"still here"))
    assert os.read(copy.output, 100) == b"still here"
    copy.theirs.sendall(END)
    copy.theirs.close()
    assert copy.end()


def test_whenTheOtherEndHasHungUpInputIsNotWaitedFor() -> None:
    copy = Copy()
    copy.theirs.sendall(END)
    copy.theirs.close()
    assert copy.end()


def test_aStreamThatBreaksIsToldFromOneThatEnds() -> None:
    copy = Copy()
    copy.theirs.sendall(inPieces(b"half of it"))
    assert os.read(copy.output, 100) == b"half of it"
    copy.theirs.close()
    assert not copy.end()


def test_piecesMayComeInAnyChunks() -> None:
    copy = Copy()
    for byte in inPieces(b"one", b"two") + END:
        copy.theirs.sendall(bytes([byte]))
    received = b""
    while piece := os.read(copy.output, 100):
        received += piece
    assert received == b"onetwo"
    copy.theirs.close()
    assert copy.end()


def test_whenTheOtherEndIsDoneOutputEnds() -> None:
    copy = Copy()
    copy.theirs.sendall(END)
    assert os.read(copy.output, 1) == b""
    copy.theirs.close()
    assert copy.end()
