"""
AMP with bounds: what a stranger sends can neither fill memory nor the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from punchd.errors import ProtocolViolation
from punchd.wire.arguments import Line
from punchd.wire.commands import ERRORS, FATAL

#: The longest box, in bytes of keys and values. The largest honest one is a Hello that accepts
#: 1,024 peers (32 KiB).
MAX_BOX = 48 * 1024

#: Elements of a box.
MAX_KEYS = 48

#: The longest tag of a question: it comes back in the answer, whether or not that is read.
MAX_TAG = 64

_FOR_DESCRIPTORS = (
    "_descriptors",
    "_getDescriptor",
    "_sendingDescriptorCounter",
    "_receivingDescriptorCounter",
)

_LINE = Line()


class BoundedAMP(amp.AMP):
    """
    One AMP connection. A box that is too large, or that no command fits, ends it with one call of
    C{onViolation}, and with an answer that says why where an answer is possible.

    @ivar onViolation: called with a L{ProtocolViolation} at most once.
    @ivar onBox: called for each box that came whole; may raise L{ProtocolViolation}.
    """

    def __init__(
        self,
        locator: amp.CommandLocator,
        onViolation: Callable[[ProtocolViolation], None],
        onBox: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(locator=locator)
        # What AMP passes file descriptors on UNIX sockets with; a server has thousands of these.
        for unused in _FOR_DESCRIPTORS:
            self.__dict__.pop(unused, None)
        self.onViolation = onViolation
        self.onBox = onBox
        self._boxBytes = 0
        self._violated = False

    # Strings longer than this are refused by their length, before they come.
    _MAX_VALUE_LENGTH = MAX_BOX

    def makeConnection(self, transport: Any) -> None:
        # AMP's own writes a line to the log for whoever connects.
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # As above.
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None

    def dataReceived(self, data: bytes) -> None:
        if self._violated:
            return
        try:
            super().dataReceived(data)
        except ProtocolViolation as violation:
            self._end(violation)
        except (KeyError, amp.NoEmptyBoxes):
            self._end(ProtocolViolation("a box that is neither a command nor an awaited answer"))

    def lengthLimitExceeded(self, length: int) -> None:
        self._end(ProtocolViolation(f"a key or value of {length} bytes"))

    def proto_key(self, string: bytes) -> str:
        self._count(string)
        if not string:
            self._boxBytes = 0
            self.onBox()
        following: str = super().proto_key(string)
        return following

    def proto_value(self, string: bytes) -> str:
        self._count(string)
        following: str = super().proto_value(string)
        return following

    def _count(self, string: bytes) -> None:
        self._boxBytes += len(string) + 2
        if self._boxBytes > MAX_BOX or len(self._currentBox or ()) > MAX_KEYS:
            raise ProtocolViolation("a box that is larger than any command")

    def ampBoxReceived(self, box: amp.AmpBox) -> None:
        if len(box.get(amp.ASK, b"")) > MAX_TAG:
            raise ProtocolViolation(f"a tag of {len(box[amp.ASK])} bytes")
        # An error's text is for people: it goes to terminals and into logs.
        if amp.ERROR_DESCRIPTION in box:
            text = _LINE.fromString(box[amp.ERROR_DESCRIPTION])
            box[amp.ERROR_DESCRIPTION] = _LINE.toString(text)
        super().ampBoxReceived(box)

    def dispatchCommand(self, box: amp.AmpBox) -> Deferred[amp.AmpBox]:
        answered: Deferred[amp.AmpBox] = super().dispatchCommand(box)
        answered.addErrback(self._checked)
        return answered

    def _checked(self, failure: Failure) -> Failure | amp.AmpBox:
        # Responders' own errors are RemoteAmpErrors by now; what remains was raised while the box
        # was parsed, or is a bug, which AMP logs.
        error = failure.value
        if isinstance(error, amp.RemoteAmpError):
            # That of an unknown command quotes all of its name.
            error.description = error.description[:400]
            if error.errorCode in FATAL.values():
                self._tell(ProtocolViolation(error.description))
                error.fatal = True
            return failure
        if isinstance(error, ProtocolViolation | KeyError | ValueError | amp.AmpError):
            violation = (
                error
                if isinstance(error, ProtocolViolation)
                else ProtocolViolation(f"a command without what it needs: {error!r:.120}")
            )
            self._tell(violation)
            raise amp.RemoteAmpError(
                ERRORS[ProtocolViolation], str(violation), fatal=True, local=failure
            )
        return failure

    def _end(self, violation: ProtocolViolation) -> None:
        self._tell(violation)
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _tell(self, violation: ProtocolViolation) -> None:
        if not self._violated:
            self._violated = True
            self.onViolation(violation)

    def unhandledError(self, failure: Failure) -> Any:
        # An answer for a connection that is gone is nobody's error.
        if failure.check(amp.RemoteAmpError, amp.ProtocolSwitched) is None:
            self.onBugFailure(failure)
        if self.transport is not None:
            self.transport.loseConnection()

    def onBugFailure(self, failure: Failure) -> None:
        """
        Something failed that nobody handled: hand it to AMP's own logging.
        """
        super().unhandledError(failure)
