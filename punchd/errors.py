"""
Everything that punchd raises on purpose: one small tree.

An error's text is one line for the person who reads it: what could not be done, why, and what to
try. Expected results of an attempt to connect (refused, reset, timed out) are not errors but
values: see L{punchd.values.outcomes}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from punchd.values.outcomes import Outcome
    from punchd.values.plans import Plan


class PunchdError(Exception):
    """
    The root of the tree: whatever a caller of punchd may want to catch.
    """


class ProtocolViolation(PunchdError):
    """
    The other end sent what the protocol does not allow. The connection is closed.
    """


class IncompatibleVersions(PunchdError):
    """
    The two ends speak no common version of a protocol; the text names both.
    """


class NotTrusted(PunchdError):
    """
    A key or a certificate is not the one that was expected.
    """


class UnknownPeer(PunchdError):
    """
    There is no such peer: not pinned here, not connected to the server, or it does not accept us.
    """


class Refused(PunchdError):
    """
    The other end understood and said no: a name is taken, a service is not exposed or not allowed.
    """


class Overlapping(Refused):
    """
    Another introduction of the same two ports is under way; a fresh port makes it possible.
    """


class Limited(Refused):
    """
    A limit is reached.

    @ivar seconds: until it is worth asking again.
    """

    def __init__(self, reason: str, seconds: float) -> None:
        """
        @param reason: which limit, for the person.
        """
        super().__init__(reason)
        self.seconds = seconds


class PortTaken(Refused):
    """
    The router has lent that port to another host.
    """


class Unreachable(PunchdError):
    """
    Somebody who is needed cannot be reached now: the server, the running peer, the local service.
    """


class ConfigurationError(PunchdError):
    """
    An option, a file or the environment is not usable; the text says which and why.
    """


class NoPath(PunchdError):
    """
    No strategy found a direct path.

    @ivar outcomes: what each strategy of the plan tried, and what came of it.
    @ivar plan: what was to be tried, if it came to a plan.
    @ivar limit: what keeps the relay from helping out, if that is a limit.
    """

    def __init__(
        self,
        peer: str,
        outcomes: tuple[Outcome, ...],
        reason: str = "",
        hint: str = "",
        plan: Plan | None = None,
        limit: Limited | None = None,
    ) -> None:
        """
        @param reason: instead of what was tried.
        @param hint: what may lie behind it.
        """
        told = "; ".join(outcome.line() for outcome in outcomes)
        text = f"no direct path to {peer}: {reason or told or 'nothing could be tried'}"
        super().__init__(f"{text}; {hint}" if hint else text)
        self.peer = peer
        self.outcomes = outcomes
        self.plan = plan
        self.limit = limit
        self._reason, self._hint = reason, hint

    def withoutRelay(self, problem: PunchdError) -> NoPath:
        """
        The same, where the relay was no help either.
        """
        more = f"no relayed path either: {problem}"
        hint = f"{self._hint}; {more}" if self._hint else more
        limit = problem if isinstance(problem, Limited) else None
        return NoPath(self.peer, self.outcomes, self._reason, hint, self.plan, limit)
