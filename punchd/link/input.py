"""
What has come for one stream, until its protocol has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

from punchd.link.carrier import Carrier
from punchd.link.flow import Window
from punchd.link.telling import tell
from punchd.wire.frames import Kind, packPosition

#: Pieces below this length are kept together, up to that one: each object has some fifty bytes of
#: its own, which no window counts.
SMALL = 4096
MOST_TOGETHER = 65536


@define(eq=False)
class Input:
    """
    Made with its stream; lives as long. What the protocol does not take now is kept here, as much
    as the window grants.

    @ivar window: what is granted to the other end.
    @ivar isPaused: whether the protocol wants no more for now.
    @ivar hasEnded: whether no more will come.
    """

    _carrier: Carrier
    _number: int
    _failed: Callable[[], None]
    window: Window = field(init=False)
    isPaused: bool = field(default=False, init=False)
    hasEnded: bool = field(default=False, init=False)
    _unread: deque[bytes | bytearray] = field(factory=deque, init=False)
    _isDelivering: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.window = Window(self._carrier.budget, self._carrier.limits)

    @property
    def isRead(self) -> bool:
        """
        Whether the protocol has everything, and knows it.
        """
        return not (self._unread or self._isDelivering or self.isPaused)

    def receive(self, data: bytes, protocol: Any) -> None:
        """
        Bytes have come.

        @param protocol: C{None} as long as there is none.
        """
        if protocol is None or self.isPaused or self._unread or self._isDelivering:
            self._keep(data)
        else:
            self._give(data, protocol)

    def _keep(self, data: bytes) -> None:
        unread = self._unread
        if len(data) >= SMALL:
            unread.append(data)
        elif unread and isinstance(unread[-1], bytearray) and len(unread[-1]) < MOST_TOGETHER:
            unread[-1] += data
        else:
            unread.append(bytearray(data))

    def deliver(self, protocol: Any) -> None:
        """
        Give what is kept to C{protocol}.
        """
        if self._isDelivering:
            return
        self._isDelivering = True
        while self._unread and not self.isPaused:
            self._give(bytes(self._unread.popleft()), protocol)
        self._isDelivering = False

    def _give(self, data: bytes, protocol: Any) -> None:
        if not tell(protocol.dataReceived, data):
            self._failed()
        self.consumed(len(data))

    def consumed(self, length: int) -> None:
        """
        Bytes were read, or are for nobody. More is granted then, too: who sends them may read only
        when all are gone.
        """
        carrier, window = self._carrier, self.window
        if window.consume(length) and not self.hasEnded:
            credit = window.grant(carrier.clock.seconds(), carrier.leastRoundTrip)
            carrier.send(packPosition(Kind.CREDIT, credit, self._number), withAck=True)

    def drop(self) -> bool:
        """
        Nobody will read any more.

        @return: whether there was something to be read.
        """
        length = sum(map(len, self._unread))
        self._unread.clear()
        self.consumed(length)
        return length > 0

    def stop(self) -> None:
        """
        The stream is over.
        """
        self._unread.clear()
        self.hasEnded = True
        self.window.close()
