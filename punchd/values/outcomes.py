"""
What came of trying: values, because to fail is what most tries are expected to do.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Any

from attrs import frozen

from punchd.values.addresses import Address, showAddress


class Result(Enum):
    """
    How a single socket's try, or a whole attempt, ended.
    """

    CONNECTED = "connected"
    REFUSED = "refused"
    TIMED_OUT = "no answer"
    UNREACHABLE = "unreachable"
    PORT_TAKEN = "port taken"
    NOT_AUTHENTICATED = "not authenticated"
    CANCELLED = "cancelled"
    NOT_POSSIBLE = "not possible"
    FAILED = "failed"


class Way(Enum):
    """
    Which side of TCP a try was, if it was not the relay that brought the two together.
    """

    DIALLED = "dialled"
    ACCEPTED = "accepted"
    RELAYED = "relayed"


@frozen
class Try:
    """
    One socket's fate, or that of many alike: when ports are guessed, nobody wants to read of each.

    @ivar remote: where to; its port is 0 for sockets that dialled several ports of that host.
    @ivar seconds: how long it took; of many, the longest.
    @ivar sockets: how many there were.
    """

    way: Way
    remote: Address
    result: Result
    seconds: float
    detail: str = ""
    sockets: int = 1

    @property
    def where(self) -> str:
        """
        C{remote} as people write it.
        """
        return showWhere(self.remote)

    def line(self) -> str:
        """
        The try in a few words.
        """
        detail = f" ({self.detail})" if self.detail else ""
        return (
            f"{self.way.value} {self.where}: {self.result.value}{detail} "
            f"after {self.seconds * 1000:.0f} ms"
        )


def showWhere(remote: Address) -> str:
    """
    C{remote} as people write it; C{192.0.2.1:*} for several ports of a host, which is port 0.
    """
    return showAddress(remote) if remote.port else showAddress(remote).removesuffix("0") + "*"


@frozen
class Outcome:
    """
    What came of one strategy's attempt.

    @ivar strategy: its name.
    @ivar seconds: how long it ran.
    @ivar tries: every socket's fate, in order of their ends.
    """

    strategy: str
    result: Result
    seconds: float
    tries: tuple[Try, ...] = ()
    detail: str = ""

    def line(self) -> str:
        """
        The outcome in a few words, tries counted by result.
        """
        if self.detail:
            told = self.detail
        elif self.tries:
            counts: Counter[str] = Counter()
            for one in self.tries:
                counts[f"{one.way.value} {one.where}: {one.result.value}"] += one.sockets
            told = ", ".join(
                f"{what} {number} times" if number > 1 else what for what, number in counts.items()
            )
        else:
            told = "nothing was dialled"
        return f"{self.strategy}: {self.result.value} after {self.seconds:.1f} s ({told})"

    def toJSON(self) -> dict[str, Any]:
        """
        The outcome as C{punchd ping --json} shows it.
        """
        return {
            "strategy": self.strategy,
            "result": self.result.value,
            "seconds": round(self.seconds, 4),
            "detail": self.detail,
            "tries": [
                {
                    "way": one.way.value,
                    "remote": one.where,
                    "result": one.result.value,
                    "seconds": round(one.seconds, 4),
                    "detail": one.detail,
                    "sockets": one.sockets,
                }
                for one in self.tries
            ],
        }
