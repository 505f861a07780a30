"""
The assist services of a server, as it names them, and as they can be used.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from punchd.errors import PunchdError, Refused, Unreachable
from punchd.net.held import HeldPort
from punchd.values.addresses import Address, makeAddress, showAddress
from punchd.values.parties import LocalAddressPolicy
from punchd.wire.commands import Assist, Relay


@frozen
class AssistServices:
    """
    Made from what one server has said when it let us in.

    @ivar _server: the host at which we have found the server.
    """

    _named: Iterable[Assist]
    _server: str
    _policy: LocalAddressPolicy

    def all(self) -> dict[int, Address]:
        """
        Where each is, once, by its place among those that were named.

        @raise Refused: when the server names none but such as we have no business to dial.
        @raise Unreachable: when it does so in a way that nobody understands.
        """
        found: dict[int, Address] = {}
        problem = None
        for place, assist in enumerate(self._named):
            try:
                remote = self.addressOf(assist)
            except PunchdError as error:
                problem = error
            else:
                if remote not in found.values():
                    found[place] = remote
        if not found and problem is not None:
            raise problem
        return found

    def reachedFrom(self, port: HeldPort) -> dict[int, Address]:
        """
        Those that C{port} reaches: of its family.

        @raise PunchdError: as L{all}.
        """
        return {place: each for place, each in self.all().items() if port.reaches(each)}

    def addressOf(self, service: Assist | Relay) -> Address:
        """
        Where that one is, or the relay, to which the same applies.

        @raise PunchdError: as L{all}.
        """
        what = "a relay" if isinstance(service, Relay) else "an assist service"
        try:
            remote = makeAddress(service.host or self._server, service.port)
        except ValueError:
            raise Unreachable(f"{service.host!r:.80} is no address of {what}") from None
        if remote.host != self._server and not self._policy.allowsReflexive(remote):
            raise Refused(
                f"the server names {what} at {showAddress(remote)}, which is no address for us to "
                "dial"
            )
        return remote
