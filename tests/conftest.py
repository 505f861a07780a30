"""
What every test stands on: nothing may be left behind in the reactor, and no error may go to the
log unseen.

pytest-twisted runs one reactor for the whole session and lets leaked ports, delayed calls and
logged errors pass; the fixtures here do not.
"""

import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet import process
from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    globalLogBeginner,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

#: Turns of the reactor that a test may leave to what it has just closed. On loopback the other
#: end of a connection hears of it in the next turn, and its own closing takes one more.
SETTLING_TURNS = 4

_LACKING = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """
    Begin logging, to nobody yet.

    Until logging begins, Twisted keeps the latest events, and all that they refer to, for an
    observer that may still come: a dropped Deferred would never be collected, nor its error be
    reported.
    """
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


@attrs.frozen
class Traces:
    """
    What is going on in the reactor at one moment.
    """

    selectables: frozenset[Any]
    calls: frozenset[IDelayedCall]
    children: frozenset[int]

    @classmethod
    def of(cls, reactor: ReactorBase) -> "Traces":
        watched = {*reactor.getReaders(), *reactor.getWriters()}
        return cls(
            # The reactor's own: a pipe that wakes it, another for SIGCHLD.
            selectables=frozenset(watched - reactor._internalReaders),
            calls=frozenset(reactor.getDelayedCalls()),
            children=frozenset(process.reapProcessHandlers),
        )

    def since(self, earlier: "Traces") -> "Traces":
        return Traces(
            selectables=self.selectables - earlier.selectables,
            calls=self.calls - earlier.calls,
            children=self.children - earlier.children,
        )

    def describe(self) -> list[str]:
        return [
            *(f"a socket or pipe is still watched: {each!r}" for each in self.selectables),
            *(f"a delayed call is still pending: {each}" for each in self.calls),
            *(
                f"a child process was not waited for: {process.reapProcessHandlers[each]!r}"
                for each in self.children
            ),
        ]

    def remove(self, reactor: ReactorBase) -> None:
        """
        Take all of it out of the reactor, so that the next test does not suffer from this one.
        """
        for call in self.calls:
            if call.active():
                call.cancel()
        for pid in self.children:
            if pid in process.reapProcessHandlers:
                process.reapProcessHandlers[pid].signalProcess("KILL")
        for selectable in self.selectables:
            reactor.removeReader(selectable)
            reactor.removeWriter(selectable)
            # A port, a connection under way and a connection have this in common.
            closing: Any = getattr(selectable, "connectionLost", None)
            if closing is not None:
                closing(Failure(ConnectionAbortedError("left behind by a test")))


def _runReactor(reactor: ReactorBase) -> None:
    """
    Let the reactor take one turn.
    """
    pytest_twisted.blockon(deferLater(cast(IReactorTime, reactor), 0.0))


def _isAsynchronous(request: pytest.FixtureRequest) -> bool:
    function = getattr(request.node, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return inspect.iscoroutinefunction(function) or pytest_twisted._get_mark(function) is not None


@implementer(ILogObserver)
@attrs.define(eq=False)
class LoggedErrors:
    """
    The errors that a test has logged and nobody has asked for yet. One per test.
    """

    events: list[LogEvent] = attrs.Factory(list)

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event or event.get("log_level") is LogLevel.critical:
            self.events.append(event)

    def flush(self, *errorTypes: type[BaseException]) -> list[Failure]:
        """
        Return the failures logged so far and forget them.

        @param errorTypes: Only these, with their subclasses; none means all, those critical
            events included that carry no failure.
        """
        flushed: list[LogEvent] = []
        kept: list[LogEvent] = []
        for event in self.events:
            failure = event.get("log_failure")
            wanted = not errorTypes or (failure is not None and failure.check(*errorTypes))
            (flushed if wanted else kept).append(event)
        self.events = kept
        return [event["log_failure"] for event in flushed if "log_failure" in event]


@pytest.fixture
def _loggedErrors() -> Iterator[LoggedErrors]:
    errors = LoggedErrors()
    # What pytest captures, and shows with a test that fails.
    printing = textFileLogObserver(sys.stderr)
    globalLogPublisher.addObserver(errors)
    globalLogPublisher.addObserver(printing)
    yield errors
    globalLogPublisher.removeObserver(printing)
    globalLogPublisher.removeObserver(errors)


@pytest.fixture
def flushLoggedErrors(_loggedErrors: LoggedErrors) -> Callable[..., list[Failure]]:
    """
    A function like that of trial's C{TestCase}: it returns the failures logged so far, all or
    those of the types given, and the test no longer fails because of them.
    """
    return _loggedErrors.flush


@pytest.fixture(autouse=True)
def _guard(request: pytest.FixtureRequest, _loggedErrors: LoggedErrors) -> Iterator[None]:
    """
    Fail the test that leaves a socket, a delayed call or a child process in the reactor, or an
    error in the log.

    What was there before the test, such as the server of a fixture for the whole module, may stay.
    """
    from twisted.internet import reactor as globalReactor

    reactor = cast(ReactorBase, globalReactor)
    before = Traces.of(reactor)
    yield
    if _isAsynchronous(request):
        # An error that no callback handled is logged when its Deferred is collected; that is to
        # happen in the test that dropped it.
        gc.collect()

    left = Traces.of(reactor).since(before)
    for _ in range(SETTLING_TURNS):
        if not left.describe():
            break
        _runReactor(reactor)
        left = Traces.of(reactor).since(before)
    complaints = left.describe()
    if complaints:
        left.remove(reactor)
        _runReactor(reactor)

    # Trial's own test cases look after their errors, and flush them, by themselves.
    if not isinstance(request.instance, SynchronousTestCase):
        complaints += [
            f"an error was logged: {eventAsText(each, includeTimestamp=False, includeSystem=False)}"
            for each in _loggedErrors.events
        ]
    if complaints:
        pytest.fail("The test left something behind.\n" + "\n".join(complaints), pytrace=False)


def _lacksForLab() -> str:
    """
    Why no NAT lab can be built here; empty if one can.

    C{tests/all} looks for the tools of the tests, such as C{sshd}, and puts the names of those it
    did not find into C{PUNCHD_NO_NATLAB}.
    """
    lacking = os.environ.get("PUNCHD_NO_NATLAB", "")
    if not lacking:
        from punchd.testing.natlab.requirements import requirements

        lacking = "; ".join(map(str, requirements()))
    return lacking


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Mark what needs the NAT lab; skip it where the lab cannot be built, except on a build server,
    where a missing tool is a failure.
    """
    folder = Path(__file__).parent / "natlab"
    inLab = [each for each in items if folder in each.path.parents]
    if not inLab:
        return
    lacking = _lacksForLab()
    for item in inLab:
        item.add_marker(pytest.mark.natlab)
        if lacking and os.environ.get("CI") == "true":
            item.stash[_LACKING] = lacking
        elif lacking:
            item.add_marker(pytest.mark.skip(reason=f"no NAT lab: {lacking}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Not while collecting: an error there is hardly to be read where several processes collect.
    if _LACKING in item.stash:
        pytest.fail(f"CI=true, and the NAT lab lacks: {item.stash[_LACKING]}", pytrace=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """
    Spare the collections that L{_guard} asks for what was there before the first test, and stays.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Known from the reports, as other processes may have collected and run the tests.
    skipped = terminalreporter.getreports("skipped")
    if any("natlab" in report.keywords for report in skipped):
        terminalreporter.write_sep("!", "THE NAT LAB DID NOT RUN", red=True, bold=True)
        terminalreporter.write_line(f"It lacks: {_lacksForLab()}")
