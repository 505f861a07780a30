"""
Which port of which peer the assist service has seen, and under which address.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from punchd.errors import Refused
from punchd.values.addresses import Address
from punchd.wire.observing import TOKEN_LENGTH

#: Seconds that a token waits for its use, and that an observation is remembered.
LIFETIME = 60.0

#: Tokens and observations of one peer; for more, the oldest go.
MOST_PER_OWNER = 64


@define(eq=False)
class Observation:
    """
    A token, and what came of it.

    @ivar observed: C{None} until somebody has shown the token.
    @ivar isOpen: whether the connection on which it was shown is open still.
    @ivar isDropped: whether it counts no longer.
    """

    owner: Hashable
    until: float
    observed: Address | None = None
    isOpen: bool = False
    isDropped: bool = False


@define(eq=False)
class Observations:
    """
    All tokens of a server. An owner is whoever asked for a token.
    """

    _clock: IReactorTime
    _entropy: Callable[[int], bytes]
    # In the order of their ends, as all live equally long from when they were issued or shown.
    _byToken: dict[bytes, Observation] = field(factory=dict, init=False)
    _byOwner: dict[Hashable, dict[bytes, Observation]] = field(factory=dict, init=False)

    def issue(self, owner: Hashable) -> bytes:
        """
        A new token for C{owner}.
        """
        token = self._entropy(TOKEN_LENGTH)
        own = self._byOwner.setdefault(owner, {})
        if len(own) >= MOST_PER_OWNER:
            self._drop(next(iter(own)))
        self._byToken[token] = own[token] = Observation(owner, self._clock.seconds() + LIFETIME)
        return token

    def show(self, token: bytes, observed: Address) -> Observation | None:
        """
        Somebody has shown C{token} on a connection from C{observed}; when that connection closes,
        it sets C{isOpen} to false.

        @return: C{None} when there is no such token, or it was shown before.
        """
        observation = self._byToken.get(token)
        if observation is None or observation.observed is not None:
            return None
        observation.observed = observed
        observation.isOpen = True
        self._prolong(token, observation)
        return observation

    def addressFor(self, owner: Hashable, token: bytes, isOpen: bool = False) -> Address:
        """
        The address of the port that C{owner} has shown C{token} from.

        @param isOpen: only if the connection on which it was shown is open still.
        @raise Refused: when there is none.
        """
        observation = self._byOwner.get(owner, {}).get(token)
        if observation is None or observation.observed is None:
            raise Refused(
                "the assist service has seen no port with this token, or too long ago: "
                "ask for another one"
            )
        if isOpen and not observation.isOpen:
            raise Refused("the connection on which this token was shown is closed")
        return observation.observed

    def forget(self, owner: Hashable) -> None:
        """
        C{owner} is gone.
        """
        for token in list(self._byOwner.get(owner, ())):
            self._drop(token)

    def sweep(self) -> None:
        """
        Drop what is too old.
        """
        now = self._clock.seconds()
        while self._byToken:
            token, observation = next(iter(self._byToken.items()))
            if observation.until > now:
                return
            if observation.isOpen:
                self._prolong(token, observation)
            else:
                self._drop(token)

    def _prolong(self, token: bytes, observation: Observation) -> None:
        observation.until = self._clock.seconds() + LIFETIME
        self._byToken[token] = self._byToken.pop(token)

    def _drop(self, token: bytes) -> None:
        observation = self._byToken.pop(token)
        observation.isDropped = True
        own = self._byOwner[observation.owner]
        del own[token]
        if not own:
            del self._byOwner[observation.owner]
