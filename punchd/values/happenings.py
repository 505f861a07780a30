"""
What happened, for whoever watches: the timeline of an introduction is made of these.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Happening:
    """
    @ivar who: the part of punchd that tells: C{server}, or a peer's name.
    @ivar session: the introduction's session in hexadecimal, or the empty string.
    @ivar step: one sentence.
    @ivar at: seconds on the teller's clock.
    """

    who: str
    session: str
    step: str
    at: float
