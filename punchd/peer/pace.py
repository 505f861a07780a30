"""
How soon a better path is looked for, and which kind.
"""

from __future__ import annotations

from random import Random

from attrs import define, field
from twisted.application.internet import backoffPolicy

from punchd.errors import Limited

#: Seconds that the end which did not make the link leaves to the other before it dials.
YIELDING = 3.0

#: Seconds after the loss of a path in which attempts may come to nothing for the same reason: who
#: waits for the link is not told of them.
PASSING = 5.0

#: Between attempts to get a lost link onto any path: the first wait, the longest, the growth.
LOST_WAITS = (0.5, 4.0, 1.5)

#: The same, while the relay has told us to wait: only a direct path can come of them.
LIMITED_WAITS = (4.0, 60.0, 1.5)

#: Punches that must have been in vain until a link is given up which the relay will not help in its
#: lifetime.
MOST_IN_VAIN = 3

#: The same, between attempts to get a relayed one onto a direct path.
DIRECT_WAITS = (10.0, 300.0, 2.0)

#: A path that is lost before it is so old, in seconds, has not proven itself. After so many direct
#: ones of that kind, the link stays on the relay until the next attempt is due.
PROVEN_AFTER = 10.0
MOST_FLAPS = 2

#: One that is lost before it is so old was none, unless it has carried so many bytes of the link's,
#: which is more than another one costs: attempts go on to be counted.
BROKEN_BEFORE = 1.0
WORTH = 0x4000


@define(eq=False)
class Pace:
    """
    Made with each link, which tells it of what becomes of its paths. Waits grow while attempts
    come to nothing, or to direct paths that do not last.
    """

    _random: Random
    _isInitiator: bool
    # Since there was a path that was any good, and since one had proven itself.
    _lostAttempts: int = field(default=0, init=False)
    _directAttempts: int = field(default=0, init=False)
    _flaps: int = field(default=0, init=False)
    _since: float | None = field(default=None, init=False)
    _arrivedBefore: int = field(default=0, init=False)
    _lostAt: float | None = field(default=None, init=False)
    _wasDirect: bool = field(default=False, init=False)
    # Punches since there was a direct path; what the relay says since there was any.
    _inVain: int = field(default=0, init=False)
    _limit: Limited | None = field(default=None, init=False)
    _isLimitTold: bool = field(default=False, init=False)

    @property
    def isFlapping(self) -> bool:
        """
        Whether a lost link had better not look for a direct path first.
        """
        return self._flaps >= MOST_FLAPS

    def attempt(self, isLost: bool) -> None:
        """
        The link is dialled.
        """
        if isLost:
            self._lostAttempts += 1
        else:
            self._directAttempts += 1

    def noDirect(self) -> None:
        """
        An attempt has led to no direct path.
        """
        if not self.isFlapping:
            self._inVain += 1

    def limited(self, limit: Limited | None) -> bool:
        """
        An attempt for a lost link has led to no path at all.

        @param limit: what keeps the relay from helping out, if it is that.
        @return: whether that is worth telling, as it was not told yet.
        """
        self._limit = limit
        isNews = limit is not None and not self._isLimitTold
        self._isLimitTold = self._isLimitTold or isNews
        return isNews

    def isHopeless(self, seconds: float) -> bool:
        """
        Whether a lost link will hardly get a path within C{seconds}.
        """
        isInVain = self._inVain >= MOST_IN_VAIN
        return isInVain and self._limit is not None and self._limit.seconds > seconds

    def isPassing(self, now: float) -> bool:
        """
        Whether an attempt for a lost link that has come to nothing says little of the next one: the
        link had a path a moment ago, and no limit keeps it from another one.
        """
        isRecent = self._lostAt is not None and now - self._lostAt < PASSING
        return isRecent and self._limit is None

    def forgive(self) -> None:
        """
        Punch, whatever became of it.
        """
        self._flaps = 0

    def reset(self) -> None:
        """
        Begin as if there had been none.
        """
        self._flaps = self._directAttempts = 0
        self._lostAt = None

    def changed(self, isConnected: bool, isDirect: bool, now: float, arrived: int) -> bool:
        """
        The link has a path, another one, or none any more.

        @param arrived: bytes that have come over the link's paths, in either direction.
        @return: whether it has fallen back from a direct path to a relayed one.
        """
        hasFallen = isConnected and self._wasDirect and not isDirect
        if self._since is not None and (hasFallen or not isConnected):
            age = now - self._since
            if age >= BROKEN_BEFORE or arrived - self._arrivedBefore >= WORTH:
                self._lostAttempts = 0
            if age >= PROVEN_AFTER:
                self.reset()
            elif self._wasDirect:
                self._flaps += 1
            if not isConnected:
                self._lostAt = now
        if isConnected:
            self._limit, self._isLimitTold = None, False
            self._inVain = 0 if isDirect else self._inVain
        self._since = now if isConnected else None
        self._arrivedBefore = arrived
        self._wasDirect = isDirect
        return hasFallen

    def wait(self, isConnected: bool, isWantedNow: bool) -> float | None:
        """
        Seconds until the next attempt to get a lost link, or a relayed one, onto another path;
        C{None} if that is the other end's business.

        @param isWantedNow: whether somebody waits for it.
        """
        if isConnected:
            if not self._isInitiator:
                return None
            return self._grown(DIRECT_WAITS, self._directAttempts)
        if self._limit is not None:
            shortest = self._grown(LOST_WAITS, self._lostAttempts)
            longest = self._grown(LIMITED_WAITS, self._lostAttempts)
            return max(shortest, min(self._limit.seconds, longest))
        if self._lostAttempts:
            return self._grown(LOST_WAITS, self._lostAttempts)
        return 0.0 if self._isInitiator or isWantedNow else YIELDING

    def _grown(self, waits: tuple[float, float, float], attempts: int) -> float:
        policy = backoffPolicy(*waits, jitter=lambda: self._random.uniform(0.0, 0.5))
        return policy(attempts)
