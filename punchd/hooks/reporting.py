"""
What the log says of the runs of a command: each trouble once, and when it is over.
"""

from __future__ import annotations

from attrs import define, field
from twisted.logger import Logger

from punchd.hooks.run import Ending

_log = Logger()

#: Troubles that are told until one of them is over.
MOST_TROUBLES = 10


@define(eq=False)
class Reports:
    """
    Made with a L{Teller<punchd.hooks.telling.Teller>}.

    @ivar _troubles: who has had each trouble, and has not been served since.
    """

    _troubles: dict[str, set[str]] = field(factory=dict, init=False)
    _isSilent: bool = field(default=False, init=False)

    def failed(self, key: str, subject: str, ending: Ending) -> None:
        """
        A run has failed, and will be repeated.

        @param subject: what it was about, for people.
        """
        # Of what it has said, the end mostly says why; there may be times and numbers before it.
        last = "" if ending.wasEnded else "".join(ending.output[-1:])
        trouble = f"{ending.problem}: {last}"
        known = self._troubles.get(trouble)
        if known is not None:
            known.add(key)
        elif len(self._troubles) < MOST_TROUBLES:
            self._troubles[trouble] = {key}
            self._tell(subject, ending.output)
            _log.warn(
                "the --on-change command {problem} ({subject}); it will be tried again",
                problem=ending.problem,
                subject=subject,
            )
        elif not self._isSilent:
            self._isSilent = True
            _log.warn("the --on-change command fails in ever new ways; no more of them are told")

    def succeeded(self, key: str, subject: str, output: tuple[str, ...]) -> None:
        """
        A run has done what it should.
        """
        self._tell(subject, output)
        if self.forget(key):
            _log.info("the --on-change command works again ({subject})", subject=subject)
        elif not output:
            _log.info("the --on-change command has run ({subject})", subject=subject)

    def forget(self, key: str) -> bool:
        """
        Nothing more will be tried there.

        @return: whether some trouble is over by that.
        """
        over = [trouble for trouble, keys in self._troubles.items() if not keys - {key}]
        for keys in self._troubles.values():
            keys.discard(key)
        for trouble in over:
            del self._troubles[trouble]
        self._isSilent = self._isSilent and not over
        return bool(over)

    def _tell(self, subject: str, output: tuple[str, ...]) -> None:
        for line in output:
            _log.info("--on-change ({subject}): {line}", subject=subject, line=line)
