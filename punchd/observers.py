"""
Who takes note of what happens when nobody else does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from punchd.interfaces import IObserver

if TYPE_CHECKING:
    from punchd.values.happenings import Happening


@implementer(IObserver)
@frozen
class LoggingObserver:
    """
    Writes each happening to the log, as one line.
    """

    _log = Logger()

    def happened(self, happening: Happening) -> None:
        if happening.session:
            self._log.info(
                "{who}: introduction {session}: {step}",
                who=happening.who,
                session=happening.session[:8],
                step=happening.step,
            )
        else:
            self._log.info("{who}: {step}", who=happening.who, step=happening.step)
