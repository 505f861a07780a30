"""
Tests for L{punchd.tap.supervisor}: what is told, to a real socket.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define
from twisted.logger import capturedLogs, eventAsText

from punchd.tap.supervisor import Supervisor

PID = 4711


@define
class Listening:
    """
    As systemd does.
    """

    socket: socket.socket
    address: str

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536).decode("utf-8"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listening]:
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@punchd-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
        here.bind(name.replace("@", "\0") if name.startswith("@") else name)
        here.setblocking(False)
        yield Listening(here, name)


def supervisor(listening: Listening, **more: str) -> Supervisor:
    return Supervisor.fromEnvironment({"NOTIFY_SOCKET": listening.address, **more}, PID)


def test_readinessIsTold(listening: Listening) -> None:
    assert supervisor(listening).isReady()
    assert listening.heard() == ["READY=1"]


def test_statusIsToldWhenItIsNews(listening: Listening) -> None:
    telling = supervisor(listening)
    for line in ("two\nlines", "two lines", "another", "another"):
        telling.status(line)
    assert listening.heard() == ["STATUS=two lines", "STATUS=another"]


def test_aLongStatusIsCutBetweenCharacters(listening: Listening) -> None:
    supervisor(listening).status("x" + "ü" * 5000)
    [told] = listening.heard()
    assert told.startswith("STATUS=xüü")
    assert len(told.encode("utf-8")) < 4096


def test_theEndIsToldWithItsTime(listening: Listening) -> None:
    supervisor(listening).stops(15.5)
    assert listening.heard() == ["STOPPING=1\nEXTEND_TIMEOUT_USEC=15500000"]


@pytest.mark.parametrize("whose", [{}, {"WATCHDOG_PID": str(PID)}])
def test_lifeIsToldToAWatchdog(listening: Listening, whose: dict[str, str]) -> None:
    telling = supervisor(listening, WATCHDOG_USEC="3000000", **whose)
    assert telling.watchdog == 3
    telling.lives()
    assert listening.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
    ],
)
def test_withoutAWatchdogNoLifeIsTold(listening: Listening, said: dict[str, str]) -> None:
    telling = supervisor(listening, **said)
    assert telling.watchdog is None
    telling.lives()
    assert listening.heard() == []


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_withoutASocketNothingIsTold(address: str) -> None:
    telling = Supervisor.fromEnvironment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"}, PID)
    assert not telling
    assert telling.watchdog is None
    assert not telling.isReady()
    telling.status("nothing")
    telling.stops(1.0)


def test_nobodyElseTellsInOurName(listening: Listening) -> None:
    environ = {"NOTIFY_SOCKET": listening.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    Supervisor.fromEnvironment(environ, PID)
    assert environ == {}


def test_whatCannotBeToldIsSaidOnceAndToldLater(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    telling = Supervisor(str(path))
    with capturedLogs() as events:
        assert not telling.isReady()
        assert not telling.isReady()
        telling.status("a")
    [event] = events
    said = eventAsText(event, includeTimestamp=False, includeSystem=False)
    assert said.startswith(f"cannot tell {path} how it goes: ")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
        here.bind(str(path))
        telling.status("a")
        assert telling.isReady()
        assert [here.recv(4096) for _ in range(2)] == [b"STATUS=a", b"READY=1"]


def test_whoDoesNotReadDoesNotHoldUsUp(listening: Listening) -> None:
    telling = supervisor(listening)
    told = [telling.isReady() for _ in range(10_000)]
    assert told[0]
    assert not told[-1]
    listening.heard()
    assert telling.isReady()
