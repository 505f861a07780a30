"""
What an introduction will try, and when.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen


@frozen
class Consideration:
    """
    A strategy's answer to "does it apply, and how long do you want?".

    @ivar lead: seconds that it may run alone, before the plan starts the next strategy.
    @ivar patience: seconds after its own start when it has failed.
    """

    lead: float
    patience: float


@frozen
class PlannedAttempt:
    """
    @ivar strategy: its name.
    @ivar start: seconds after the GO.
    @ivar deadline: seconds after the GO.
    """

    strategy: str
    start: float
    deadline: float


@frozen
class Plan:
    """
    The strategies that both sides race for one introduction, in the order of their starts.

    @ivar reason: why there are none, if there are none.
    """

    attempts: tuple[PlannedAttempt, ...]
    reason: str = ""

    @property
    def deadline(self) -> float:
        """
        When everything has failed: seconds after the GO.
        """
        return max((attempt.deadline for attempt in self.attempts), default=0.0)

    def toJSON(self) -> list[dict[str, Any]]:
        """
        The plan as C{punchd ping --json} shows it.
        """
        return [
            {"strategy": one.strategy, "start": one.start, "deadline": one.deadline}
            for one in self.attempts
        ]

    def line(self) -> str:
        """
        The plan in one line.
        """
        return ", ".join(
            f"{attempt.strategy} at {attempt.start:.2f} s (until {attempt.deadline:.2f} s)"
            for attempt in self.attempts
        )
