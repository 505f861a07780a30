"""
Tests for L{punchd.hooks.command}.
"""

import pytest

from punchd.errors import ConfigurationError
from punchd.hooks.command import Command


def test_wordsAreThoseThatAShellWouldSee() -> None:
    command = Command.parse("/usr/bin/tell --to 'a b' \"c;d\" e\\ f $HOME *", "5")
    assert command.words == ("/usr/bin/tell", "--to", "a b", "c;d", "e f", "$HOME", "*")
    assert command.deadline == 5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "takes a command"),
        ("   ", "takes a command"),
        ("'' x", "takes a command"),
        ("tell 'bob", "cannot be split into words: no closing quotation"),
        ("tell \\", "cannot be split into words: no escaped character"),
        ("tell \0", "NUL"),
    ],
)
def test_whatIsNoCommandIsAMistake(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Command.parse(text)


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "1.5", "x", "", "٣"])
def test_aDeadlineIsANumberOfSeconds(seconds: str) -> None:
    with pytest.raises(ConfigurationError, match="takes seconds, from 1 to 3600"):
        Command.parse("tell", seconds)
