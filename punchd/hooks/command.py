"""
What C{--on-change} says.
"""

from __future__ import annotations

import re
import shlex

from attrs import frozen

from punchd.errors import ConfigurationError

#: Seconds that the command may take, if nothing else is said, and at most.
DEADLINE = 30
MOST_SECONDS = 3600


@frozen
class Command:
    """
    A command to be run when facts change.

    @ivar words: the program, by its path or its name in C{PATH}, and its arguments.
    @ivar deadline: seconds after which it is ended.
    """

    words: tuple[str, ...]
    deadline: float = DEADLINE

    @classmethod
    def parse(cls, text: str, seconds: str = str(DEADLINE)) -> Command:
        """
        @param text: words as for a shell, which none will see.
        @raise ConfigurationError: when there are none, or C{seconds} is not a number of them.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ConfigurationError(
                f"--on-change {text[:80]!r} cannot be split into words: {str(error).lower()}"
            ) from None
        if not words or not words[0]:
            raise ConfigurationError("--on-change takes a command, such as /usr/local/bin/tell")
        if "\0" in text:
            raise ConfigurationError("--on-change takes no words with a NUL in them")
        return cls(words, parseDeadline(seconds))


def parseDeadline(seconds: str) -> float:
    """
    @raise ConfigurationError: when C{seconds} is not a number of them.
    """
    if re.fullmatch(r"[0-9]{1,4}", seconds) is None or not 0 < int(seconds) <= MOST_SECONDS:
        raise ConfigurationError(
            f"--on-change-deadline takes seconds, from 1 to {MOST_SECONDS}, not {seconds!r}"
        )
    return float(seconds)
