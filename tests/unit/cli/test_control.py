"""
Tests for L{punchd.cli.control} and L{punchd.cli.copying}, with the other end in a thread.
"""

import os
import select
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
CLOSED = b"\xff" * 4

GONE = "the punchd-peer that runs here has ended"

#: Seconds after which something does not come any more.
PATIENCE = 20.0


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
        self.theirs.settimeout(PATIENCE)
        self.results: list[str | None] = []
        self._ours, self._stdin, self._stdout = ours, stdin, stdout
        self._isInputOpen = self._isOutputOpen = True
        self._others = set(threading.enumerate())

        def run() -> None:
            self.results.append(copyBothWays(ours, stdin, stdout))

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def read(self, length: int = 100) -> bytes:
        """
        From standard output.
        """
        ready, _, _ = select.select([self.output], [], [], PATIENCE)
        assert ready, "nothing comes out"
        read = os.read(self.output, length)
        self._isOutputOpen = bool(read)
        return read

    def closeInput(self) -> None:
        os.close(self.input)
        self._isInputOpen = False

    def end(self) -> str | None:
        """
        Wait until it is over, and clean up. As long as there is a thread that reads from standard
        input, its descriptor is not closed: it would be that of something else in the next test.

        @return: why the stream broke, if it did.
        """
        self.thread.join(PATIENCE)
        (broken,) = self.results
        if self._isInputOpen:
            self.closeInput()
        for thread in set(threading.enumerate()) - self._others:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for descriptor in (self.output, self._stdin):
            os.close(descriptor)
        if broken is not None and self._isOutputOpen:
            os.close(self._stdout)
        self._ours.close()
        self.theirs.close()
        return broken


def test_inputGoesOutAndOutputComesIn() -> None:
    copy = Copy()
    os.write(copy.input, b"question")
    copy.closeInput()
    received = b""
    while piece := copy.theirs.recv(100):
        received += piece
    assert received == b"question"
    copy.theirs.sendall(inPieces(b"answer") + END + CLOSED)
    copy.theirs.close()
    assert copy.read() == b"answer"
    assert copy.end() is None


def test_theEndOfInputEndsOneWayOnly() -> None:
    copy = Copy()
    copy.closeInput()
    assert copy.theirs.recv(1) == b""
    copy.theirs.sendall(inPieces(b"still here"))
    assert copy.read() == b"still here"
    copy.theirs.sendall(END + CLOSED)
    copy.theirs.close()
    assert copy.end() is None


def test_whenTheOtherEndHasHungUpInputIsNotWaitedFor() -> None:
    copy = Copy()
    copy.theirs.sendall(END + CLOSED)
    copy.theirs.close()
    assert copy.end() is None


def test_aStreamThatBreaksIsToldFromOneThatEnds() -> None:
    copy = Copy()
    copy.theirs.sendall(inPieces(b"half of it"))
    assert copy.read() == b"half of it"
    copy.theirs.close()
    assert copy.end() == GONE


@pytest.mark.parametrize("chunk", [1, 100])
def test_whyAStreamBroke(chunk: int) -> None:
    copy = Copy()
    said = inPieces(b"half of it") + b"\xff\xff\xff\xfethe link to b\xc3\xb6b is over"
    for at in range(0, len(said), chunk):
        copy.theirs.sendall(said[at : at + chunk])
    received = b""
    while len(received) < len(b"half of it"):
        received += copy.read()
    assert received == b"half of it"
    copy.theirs.close()
    assert copy.end() == "the link to böb is over"


def test_piecesMayComeInAnyChunks() -> None:
    copy = Copy()
    for byte in inPieces(b"one", b"two") + END + CLOSED:
        copy.theirs.sendall(bytes([byte]))
    received = b""
    while piece := copy.read():
        received += piece
    assert received == b"onetwo"
    copy.theirs.close()
    assert copy.end() is None


def test_whenTheOtherEndIsDoneOutputEnds() -> None:
    copy = Copy()
    copy.theirs.sendall(END)
    assert copy.read(1) == b""
    assert copy.results == []
    copy.theirs.sendall(CLOSED)
    copy.theirs.close()
    assert copy.end() is None


@pytest.mark.parametrize("chunk", [1, 100])
def test_whatBreaksOnlyAfterTheOtherEndHasFinishedIsToldToo(chunk: int) -> None:
    copy = Copy()
    said = END + b"\xff\xff\xff\xfeenough"
    for at in range(0, len(said), chunk):
        copy.theirs.sendall(said[at : at + chunk])
    assert copy.read(1) == b""
    copy.theirs.close()
    assert copy.end() == "enough"


@pytest.mark.parametrize("said", [b"", b"\xff", b"\xff\xff\xff"])
def test_whoseInputNobodyConfirmsHasNotFinished(said: bytes) -> None:
    copy = Copy()
    os.write(copy.input, b"question")
    copy.closeInput()
    copy.theirs.sendall(END + said)
    assert copy.read(1) == b""
    copy.theirs.close()
    assert copy.end() == GONE


def test_whyItBrokeIsToldToWhoIsStillSending() -> None:
    copy = Copy()
    os.write(copy.input, b"nobody reads this")
    ready, _, _ = select.select([copy.theirs], [], [], PATIENCE)
    assert ready
    copy.theirs.sendall(inPieces(b"half of it") + b"\xff\xff\xff\xfeenough")
    # With something unread, this is a reset behind what was sent.
    copy.theirs.close()
    assert copy.read() == b"half of it"
    assert copy.end() == "enough"
