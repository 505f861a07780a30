"""
Whom a command has been told of, kept for the next start: who has gone meanwhile is not seen going.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from attrs import define, field
from twisted.logger import Logger

from punchd.errors import ConfigurationError
from punchd.hooks.facts import Facts, Subject
from punchd.identity.folder import StateFolder
from punchd.values.peers import PeerID, checkedName

#: The folder inside the state folder. It has a file for each subject that the command believes to
#: be there.
FOLDER = "on-change"

_log = Logger()


@define(eq=False)
class Memory:
    """
    Made with a L{Teller<punchd.hooks.telling.Teller>}.
    """

    _folder: StateFolder
    _kept: set[str] = field(factory=set, init=False)
    _said: str = field(default="", init=False)

    @classmethod
    def inFolder(cls, folder: StateFolder) -> Memory:
        """
        @raise ConfigurationError: when nothing can be kept there.
        """
        return cls(StateFolder.at(str(folder.file(FOLDER))))

    def load(self) -> Iterator[Facts]:
        """
        The subjects that the command was told of by an earlier process, as being gone.
        """
        for path in sorted(self._folder.path.iterdir()):
            if path.name.startswith("."):
                # What a killed process has not renamed.
                path.unlink(missing_ok=True)
                continue
            try:
                table = json.loads(path.read_bytes())
                facts = Facts(
                    Subject(table["subject"]),
                    checkedName(table["name"]),
                    PeerID.parse(table["id"]),
                    isThere=False,
                )
                if facts.key != path.name:
                    raise ValueError(facts.key)
            except (OSError, ValueError, KeyError, TypeError, ConfigurationError, RecursionError):
                _log.warn("{path} is none of punchd's files, or damaged: ignored", path=path)
                continue
            self._kept.add(facts.key)
            yield facts

    def keep(self, facts: Facts) -> None:
        """
        The command is being told that the subject is there.
        """
        if facts.key in self._kept:
            return
        table = {"subject": facts.subject.value, "name": facts.name, "id": str(facts.peerID)}
        try:
            self._folder.write(facts.key, json.dumps(table).encode("ascii"))
        except ConfigurationError as error:
            self._say(str(error))
        else:
            self._kept.add(facts.key)
            self._said = ""

    def forget(self, key: str) -> None:
        """
        The command knows that the subject is gone.
        """
        self._kept.discard(key)
        try:
            self._folder.file(key).unlink(missing_ok=True)
        except OSError as error:
            self._say(f"cannot remove {self._folder.file(key)}: {error.strerror}")

    def _say(self, problem: str) -> None:
        # Files have many names, and disks one reason to be full.
        reason = problem.rpartition(": ")[2]
        if reason != self._said:
            self._said = reason
            _log.warn(
                "{problem}; after a restart, --on-change may not be told who has gone meanwhile",
                problem=problem,
            )
