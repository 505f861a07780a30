"""
What happens once, and who waits for it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

_T = TypeVar("_T")


@define(eq=False)
class Occasion(Generic[_T]):
    """
    Whoever waits, early or late, gets what it came with.
    """

    _result: list[_T] = field(factory=list, init=False)
    _awaiting: list[Deferred[_T]] = field(factory=list, init=False)

    def wait(self) -> Deferred[_T]:
        """
        Fires when it comes, or has come.
        """
        if self._result:
            return succeed(self._result[0])
        awaiting: Deferred[_T] = Deferred()
        self._awaiting.append(awaiting)
        return awaiting

    def come(self, result: _T) -> None:
        """
        It comes.
        """
        self._result.append(result)
        awaiting, self._awaiting = self._awaiting, []
        for one in awaiting:
            one.callback(result)
