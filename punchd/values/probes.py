"""
What comes back when one SYN is sent.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Answer(Enum):
    """
    What a SYN was answered by.
    """

    CONNECTED = "connected"
    RESET = "reset"
    ICMP = "icmp"
    """A router or the host says that it does not let it through."""

    EXPIRED = "expired"
    """A router on the way says that it has passed too many."""

    SILENCE = "silence"
    UNREACHABLE = "unreachable"
    """It did not get as far as to be answered."""

    @property
    def refused(self) -> bool:
        """
        Whether somebody said no.
        """
        return self in (Answer.RESET, Answer.ICMP)


@frozen
class Finding:
    """
    @ivar seconds: from the SYN to its answer.
    @ivar router: the host that an ICMP message came from.
    """

    answer: Answer
    seconds: float = 0.0
    router: str | None = None
