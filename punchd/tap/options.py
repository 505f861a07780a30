"""
How the commands under C{twistd} read their options: the command line, and a TOML file below it.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from twisted.python import usage

from punchd.errors import ConfigurationError
from punchd.identity.folder import defaultState

__all__ = ["PunchdOptions", "defaultState"]


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

    def fail(self, text: str, status: int) -> NoReturn:
        """
        Say what is wrong, and leave.
        """
        sys.stderr.write(f"{self.program}: {text}\n")
        raise SystemExit(status)

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
