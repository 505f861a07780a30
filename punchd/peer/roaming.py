"""
Noticing that this host has come to another network: a laptop that is carried about.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from punchd.values.addresses import Address

#: Seconds between looks; each is a look into the kernel's routes, and sends nothing.
GLANCE = 2.0


@define(eq=False)
class Roaming:
    """
    Watches from which of this host's addresses the server is dialled. L{begin} and L{end} come with
    the connections to it.

    A connection does not break when its address is gone: nothing comes through it any more, which
    its pings would notice some seconds later.

    @ivar _source: see L{punchd.net.own.sourceToward}.
    @ivar _moved: called when it is another one than at the beginning, with a line that says so.
    """

    _clock: IReactorTime
    _source: Callable[[Address], str | None]
    _moved: Callable[[str], None]
    _glance: IDelayedCall | None = field(default=None, init=False)

    def begin(self, server: Address) -> None:
        """
        There is a connection to C{server}.
        """
        self.end()
        self._wait(server, self._source(server))

    def end(self) -> None:
        """
        It has ended.
        """
        if self._glance is not None and self._glance.active():
            self._glance.cancel()
        self._glance = None

    def _wait(self, server: Address, at: str | None) -> None:
        self._glance = self._clock.callLater(GLANCE, self._look, server, at)

    def _look(self, server: Address, at: str | None) -> None:
        now = self._source(server)
        if at is not None and now is not None and now != at:
            self._glance = None
            self._moved(f"this host is at {now} now, no longer at {at}")
        else:
            # Without any way, another one may come, or the same again.
            self._wait(server, at or now)
