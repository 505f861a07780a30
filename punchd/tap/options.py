"""
How the commands under C{twistd} read their options: the command line, and a TOML file below it; and
what they make of them.
"""

from __future__ import annotations

import os
import signal
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import ILogObserver
from twisted.python import usage

from punchd.errors import ConfigurationError
from punchd.hooks.command import DEADLINE, Command, parseDeadline
from punchd.identity.folder import defaultState
from punchd.net.backlog import withBacklog
from punchd.net.inherited import PREFIX, inheritedStreams
from punchd.tap.journal import ERROR, JournalObserver, leadsToJournal, prefixed
from punchd.tap.program import Program, Task
from punchd.tap.supervisor import Supervisor

__all__ = ["PunchdOptions", "defaultState", "makeProgram", "serverEndpoint"]


#: Options of all programs that run a command when facts change.
ON_CHANGE = [
    ["on-change", None, None, "command to run when an address, path or published service changes"],
    ["on-change-deadline", None, str(DEADLINE), "seconds that this command may take"],
]


class PunchdOptions(usage.Options):
    """
    Options whose mistakes are one line on standard error and exit status 2, and which may come from
    a TOML file: C{--config FILE} holds the long options' names as keys; what stands on the command
    line wins, and for repeatable options replaces the file's.

    @cvar repeatable: the long names of options that may be given several times.
    """

    program = ""
    repeatable: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        # Docstrings are indented; the help is wrapped anew.
        self.docs = {name: doc and " ".join(doc.split()) for name, doc in self.docs.items()}
        self.many: dict[str, list[str]] = {name: [] for name in self.repeatable}
        # Set aside while the command line and the file are read: what stands on the command line
        # wins even if it says the same as the default.
        self._standard = {name: value for name, value in self.defaults.items() if name != "config"}
        for name in self._standard:
            self[name] = None

    def parseOptions(self, options: Any = None) -> None:
        try:
            super().parseOptions(options)
        except (usage.UsageError, ConfigurationError) as error:
            self.fail(str(error), 2)

    def postOptions(self) -> None:
        if self["config"]:
            self._readFile(self["config"])
        for name, value in self._standard.items():
            if self[name] is None:
                self[name] = value

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"what is {arguments[0]!r}? Options begin with --")

    def collect(self, name: str, value: str) -> None:
        """
        Note one occurrence of a repeatable option.
        """
        self.many[name].append(value)

    def onChange(self) -> Command | None:
        """
        The command that C{--on-change} names, if it is given.

        @raise ConfigurationError: when it is none, or its deadline no number of seconds.
        """
        text, seconds = self["on-change"], self["on-change-deadline"]
        if text is None:
            parseDeadline(seconds)
            return None
        return Command.parse(text, seconds)

    def fail(self, text: str, status: int) -> NoReturn:
        """
        Say what is wrong, and leave.
        """
        line = f"{self.program}: {text}\n"
        isForJournal = leadsToJournal(sys.stderr, os.environ)
        sys.stderr.write(prefixed(ERROR, line) if isForJournal else line)
        raise SystemExit(status)

    def observer(self) -> ILogObserver | None:
        """
        What shall write the log, if the log goes to the journal, and nobody has said that it should
        go elsewhere.
        """
        said: Mapping[str, object] = self.parent or {}
        if said.get("logfile") or said.get("syslog"):
            return None
        return JournalObserver(sys.stderr) if leadsToJournal(sys.stderr, os.environ) else None

    def _readFile(self, path: str) -> None:
        try:
            table = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is no TOML: {error}") from None
        for name, value in table.items():
            self._take(path, name, value)

    def _take(self, path: str, name: str, value: object) -> None:
        if name in self.many:
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(one, str | int) for one in values):
                raise ConfigurationError(f"{path}: {name} takes text, or a list of texts")
            if not self.many[name]:
                self.many[name] = [str(one) for one in values]
        elif name in self.flags():
            if not isinstance(value, bool):
                raise ConfigurationError(f"{path}: {name} is true or false")
            if self[name] is None:
                self[name] = value
        elif name in self.defaults and name != "config":
            if not isinstance(value, str | int):
                raise ConfigurationError(f"{path}: {name} takes a text")
            if self[name] is None:
                self[name] = str(value)
        else:
            raise ConfigurationError(f"{path}: there is no option {name!r}")

    def flags(self) -> set[str]:
        """
        The long names of options that take no value.
        """
        return {flag[0] for flag in getattr(self, "optFlags", [])}


def serverEndpoint(reactor: Any, text: str, option: str) -> IStreamServerEndpoint:
    """
    The endpoint that C{text} describes.

    @param option: in which it stands.
    @raise ConfigurationError: when there is none such.
    """
    try:
        if text.startswith(PREFIX):
            return inheritedStreams(reactor, text)
        endpoint: IStreamServerEndpoint = serverFromString(reactor, withBacklog(text))
    except ConfigurationError as error:
        raise ConfigurationError(f"{option}: {error}") from None
    except Exception as error:  # parsers of endpoint strings, other people's too, raise anything
        raise ConfigurationError(f"{option}: {text!r} is no endpoint: {error}") from None
    return endpoint


def makeProgram(
    reactor: Any, options: PunchdOptions, service: IService, task: Task, patience: float = 0.0
) -> Program:
    """
    What C{twistd} is to run.

    @param patience: seconds that draining may take.
    """

    def whenSignalled(hurry: Callable[[], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reactor.callFromThread(hurry))

    return Program(
        reactor,
        service,
        task,
        Supervisor.fromEnvironment(os.environ, os.getpid()),
        patience=patience,
        whenSignalled=whenSignalled,
        observer=options.observer(),
    )
