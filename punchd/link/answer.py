"""
What becomes of the wish for a service.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from punchd.errors import PunchdError


@define(eq=False)
class Answer:
    """
    Made with its stream. Whoever asks, early or late, hears it.

    @ivar isYes: whether the service is connected.
    """

    isYes: bool = field(default=False, init=False)
    _refusal: PunchdError | None = field(default=None, init=False)
    _awaiting: list[Deferred[None]] = field(factory=list, init=False)

    def wait(self) -> Deferred[None]:
        """
        Fires with C{None}, or fails with why not.
        """
        if self._refusal is not None:
            return fail(self._refusal)
        if self.isYes:
            return succeed(None)
        awaiting: Deferred[None] = Deferred()
        self._awaiting.append(awaiting)
        return awaiting

    def yes(self) -> None:
        """
        The service is connected.
        """
        self.isYes = True
        awaiting, self._awaiting = self._awaiting, []
        for one in awaiting:
            one.callback(None)

    def no(self, refusal: PunchdError) -> None:
        """
        It is not, and will not be.
        """
        if not self.isYes:
            self._refusal = refusal
        awaiting, self._awaiting = self._awaiting, []
        for one in awaiting:
            one.errback(refusal)
