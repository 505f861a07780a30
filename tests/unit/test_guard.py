"""
The guard of L{tests.conftest}: what a test leaves behind makes it fail, and only that test.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tests.conftest

INNER = """
import sys

import pytest
import pytest_twisted
from twisted.internet import defer, protocol, reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

log = Logger()


def listen():
    silent = protocol.Factory.forProtocol(protocol.Protocol)
    return reactor.listenTCP(0, silent, interface="127.0.0.1")


async def test_leaksPort():
    listen()


def test_leaksPortWithoutCoroutine():
    listen()


async def test_leaksConnection():
    port = listen()
    there = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    await there.connect(protocol.Factory.forProtocol(protocol.Protocol))
    await port.stopListening()


async def test_leaksDelayedCall():
    reactor.callLater(3600, lambda: None)


async def test_leaksChild():
    reactor.spawnProcess(protocol.ProcessProtocol(), "/bin/sleep", ["sleep", "3600"])


def test_logsFailure():
    try:
        1 / 0
    except ZeroDivisionError:
        log.failure("a surprise")


def test_logsCritical():
    log.critical("the end is near")


async def test_dropsFailedDeferred():
    defer.fail(ValueError("nobody looks at this"))


def test_flushesAnotherError(flushLoggedErrors):
    test_logsFailure()
    assert flushLoggedErrors(KeyError) == []


def test_flushesItsError(flushLoggedErrors):
    test_logsFailure()
    [failure] = flushLoggedErrors(ArithmeticError)
    assert failure.check(ZeroDivisionError)


def test_logsWarning():
    log.warn("not an error")


def test_doesNothing():
    pass


async def test_cleansUp():
    port = listen()
    there = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    client = await there.connect(protocol.Factory.forProtocol(protocol.Protocol))
    await deferLater(reactor, 0.01)
    client.transport.loseConnection()
    await port.stopListening()


@pytest.fixture
def closingPort():
    port = listen()
    yield port
    pytest_twisted.blockon(defer.maybeDeferred(port.stopListening))


@pytest.fixture(scope="module")
def sharedPort():
    port = listen()
    yield port
    pytest_twisted.blockon(defer.maybeDeferred(port.stopListening))


def test_usesPortThatItsFixtureCloses(closingPort):
    pass


def test_usesPortOfTheModule(sharedPort):
    pass


class TestTrial(SynchronousTestCase):
    def test_flushesInTrialsWay(self):
        test_logsFailure()
        self.flushLoggedErrors(ZeroDivisionError)

    def test_logsFailureInTrial(self):
        test_logsFailure()
"""

LEAVES = {
    "test_leaksPort": "a socket or pipe is still watched: <<class 'twisted.internet.tcp.Port",
    "test_leaksPortWithoutCoroutine": "a socket or pipe is still watched",
    "test_leaksConnection": "still watched: <<class 'twisted.internet.tcp.Client'>",
    "test_leaksDelayedCall": "a delayed call is still pending: <DelayedCall",
    "test_leaksChild": "a child process was not waited for",
    "test_logsFailure": "an error was logged: a surprise",
    "test_logsCritical": "an error was logged: the end is near",
    "test_dropsFailedDeferred": "builtins.ValueError: nobody looks at this",
    "test_flushesAnotherError": "an error was logged: a surprise",
    "test_logsFailureInTrial": "ZeroDivisionError",
}

LEAVES_NOTHING = [
    "test_flushesItsError",
    "test_logsWarning",
    "test_doesNothing",
    "test_cleansUp",
    "test_usesPortThatItsFixtureCloses",
    "test_usesPortOfTheModule",
    "test_flushesInTrialsWay",
]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """
    What pytest says about each of the inner tests that it does not pass, by name; an empty text
    for those that it does.
    """
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "conftest.py").write_bytes(Path(tests.conftest.__file__).read_bytes())
    (folder / "test_inner.py").write_text(INNER)
    (folder / "pytest.ini").write_text("[pytest]\n")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml=report.xml"],
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    said: dict[str, str] = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        said.setdefault(case.attrib["name"], "")
        for bad in [*case.iter("failure"), *case.iter("error")]:
            said[case.attrib["name"]] += f"{bad.attrib['message']}\n{bad.text}"
    return said


@pytest.mark.parametrize(("name", "complaint"), LEAVES.items(), ids=LEAVES)
def test_whatIsLeftBehindFailsTheTest(
    complaints: Mapping[str, str], name: str, complaint: str
) -> None:
    assert complaint in complaints[name]


@pytest.mark.parametrize("name", LEAVES_NOTHING)
def test_othersPass(complaints: Mapping[str, str], name: str) -> None:
    assert complaints[name] == ""


def test_allInnerTestsRan(complaints: Mapping[str, str]) -> None:
    assert set(complaints) == {*LEAVES, *LEAVES_NOTHING}
