"""
How much one peer, and all together, may have relayed.
"""

from __future__ import annotations

import re

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from punchd.errors import ConfigurationError, Limited
from punchd.net.pacing import Allowance
from punchd.server.relaycarrying import MOST_AT_ONCE
from punchd.server.relaytokens import Meeting
from punchd.values.peers import PeerID

#: Relayed paths at a time, of one peer and of all.
MOST_PATHS = 64
MOST_PATHS_OF_ALL = 4000

#: Bytes that one peer may have relayed in L{WINDOW} seconds. All together may as many as they like:
#: what the operator's network costs, nobody else knows.
MOST_BYTES = 100_000_000_000
WINDOW = 86_400.0

#: Seconds that one relayed path may last. The peers then get another one, so that paths which
#: nobody needs do not stay for ever.
MOST_SECONDS = 86_400.0

#: Seconds after which it is worth asking again whether one of as many paths as there may be has
#: ended.
PATHS_PATIENCE = 10.0

#: Bytes that may always wait to be moved.
LEAST_QUEUE = 32768

#: Seconds that a path is left alone which goes faster than it may.
BREATH = 0.05

_SUFFIXES = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_AMOUNT = re.compile(r"([0-9]{1,12})([KMGT]?)\Z", re.I)


@frozen
class Bound:
    """
    A limit, for one peer and for all together; C{None} is no limit.
    """

    each: int | None
    all: int | None

    @classmethod
    def parse(cls, text: str, standard: Bound, option: str) -> Bound:
        """
        Read C{PEER[/ALL]}: numbers, with K, M, G or T behind them, or C{off}.

        @param standard: has what is not said.
        @param option: where C{text} comes from, for the error.
        @raise ConfigurationError: when it is something else.
        """
        each, slash, every = text.partition("/")
        return cls(parseAmount(each, option), parseAmount(every, option) if slash else standard.all)


def parseAmount(text: str, option: str) -> int | None:
    """
    Read a number, with K, M, G or T behind it; C{off} is C{None}.

    @raise ConfigurationError: when it is something else.
    """
    if text == "off":
        return None
    found = _AMOUNT.match(text)
    if found is None or not int(found[1]):
        raise ConfigurationError(
            f"{option} takes numbers like 500K, 20M or 1G, or off; not {text!r}"
        )
    return int(found[1]) * _SUFFIXES[found[2].upper()]


@frozen
class RelayLimits:
    """
    What an operator allows.

    @ivar paths: relayed paths at a time.
    @ivar bytes: bytes within L{WINDOW} seconds, both ways together.
    @ivar rate: bytes a second, likewise.
    @ivar seconds: how long one path may last; C{None} for as long as it likes.
    """

    paths: Bound = Bound(MOST_PATHS, MOST_PATHS_OF_ALL)
    bytes: Bound = Bound(MOST_BYTES, None)
    rate: Bound = Bound(None, None)
    seconds: float | None = MOST_SECONDS


@define(eq=False)
class Account:
    """
    What one peer, or all together, have relayed.

    @ivar who: whose it is, for people.
    @ivar paths: how many there are now.
    @ivar bytes: how many were moved since C{since}.
    @ivar least: bytes below which it does not pay to go on.
    """

    who: str
    since: float
    mostPaths: int | None
    mostBytes: int | None
    mostPerSecond: int | None
    rate: Allowance | None
    least: int
    paths: int = field(default=0, init=False)
    bytes: int = field(default=0, init=False)


@define(eq=False)
class Accounts:
    """
    All accounts of a relay.
    """

    _clock: IReactorTime
    limits: RelayLimits
    _all: Account = field(init=False)
    _each: dict[PeerID, Account] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        paths, bytes_, rate = self.limits.paths, self.limits.bytes, self.limits.rate
        self._all = self._open("all peers together", paths.all, bytes_.all, rate.all)

    def limit(self, *peers: PeerID) -> Limited | None:
        """
        Why there can be no relayed path between C{peers} now, if so.
        """
        known = (self._each.get(peerID) for peerID in peers)
        return self._limit([self._all, *(one for one in known if one is not None)])

    def _limit(self, accounts: list[Account]) -> Limited | None:
        for account in accounts:
            if account.mostPaths is not None and account.paths >= account.mostPaths:
                return Limited(
                    f"{account.who} may have {account.mostPaths} relayed paths at a time, and "
                    "there are as many",
                    PATHS_PATIENCE,
                )
        return Tally(self._clock, tuple(accounts)).exhausted()

    def open(self, meeting: Meeting) -> Tally | Limited:
        """
        One more relayed path, which must be closed some time.

        @return: why it cannot be; nothing is to be closed then.
        """
        limits = self.limits
        accounts = [self._all]
        for member in meeting.members:
            account = self._each.get(member.peerID)
            if account is None:
                account = self._each[member.peerID] = self._open(
                    member.name, limits.paths.each, limits.bytes.each, limits.rate.each
                )
            accounts.append(account)
        limit = self._limit(accounts)
        if limit is not None:
            return limit
        for account in accounts:
            account.paths += 1
        return Tally(self._clock, tuple(accounts))

    def sweep(self) -> None:
        """
        Begin anew with accounts whose time is over, and forget those of peers that have nothing.
        """
        now = self._clock.seconds()
        for account in (self._all, *self._each.values()):
            if now - account.since >= WINDOW:
                account.since, account.bytes = now, 0
        idle = [one for one, account in self._each.items() if not (account.paths or account.bytes)]
        for peerID in idle:
            del self._each[peerID]

    def __len__(self) -> int:
        return len(self._each)

    def _open(self, who: str, paths: int | None, most: int | None, rate: int | None) -> Account:
        allowance, least = None, 0
        if rate is not None:
            # A quarter of a second at once, so that what comes in bursts is not slowed down.
            least = max(1, min(MOST_AT_ONCE, int(rate * BREATH)))
            allowance = Allowance(self._clock, rate, max(rate / 4, least))
        return Account(who, self._clock.seconds(), paths, most, rate, allowance, least)


@define(eq=False)
class Tally:
    """
    What one relayed path does to the accounts of both its peers, and of all.
    """

    _clock: IReactorTime
    _accounts: tuple[Account, ...]
    _slowest: Account | None = field(default=None, init=False)
    _paced: tuple[tuple[Account, Allowance], ...] = field(init=False)
    _counted: tuple[tuple[Account, int], ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._paced = tuple((one, one.rate) for one in self._accounts if one.rate is not None)
        self._counted = tuple(
            (one, one.mostBytes) for one in self._accounts if one.mostBytes is not None
        )

    @property
    def queue(self) -> int | None:
        """
        How many bytes may wait to be moved, where there is a rate: what takes a quarter second. The
        kernel would let megabytes pile up, and whatever the peers say next would wait behind them.
        """
        rates = [one.mostPerSecond for one in self._accounts if one.mostPerSecond is not None]
        return max(LEAST_QUEUE, min(rates) // 4) if rates else None

    def portion(self) -> int:
        """
        How many bytes may be moved now; 0 after which L{slowed} says why.
        """
        portion = MOST_AT_ONCE
        for account, allowance in self._paced:
            left = allowance.left
            if left < account.least:
                self._slowest = account
                return 0
            portion = min(portion, left)
        return portion

    def moved(self, count: int) -> None:
        """
        So many were.
        """
        for account in self._accounts:
            account.bytes += count
        for _, allowance in self._paced:
            allowance.takeUpTo(count)

    def exhausted(self) -> Limited | None:
        """
        Why no more bytes may be moved, if they may not.
        """
        for account, most in self._counted:
            if account.bytes >= most:
                left = max(0.0, account.since + WINDOW - self._clock.seconds())
                return Limited(
                    f"{account.who} may have {most} bytes relayed in {WINDOW / 3600:.0f} hours, "
                    f"and had as many; there is more in {max(left, 60) / 3600:.1f} hours",
                    left,
                )
        return None

    def slowed(self) -> str:
        """
        Which limit kept it last from moving more.
        """
        slowest = self._slowest or self._accounts[0]
        return f"{slowest.who} may have {slowest.mostPerSecond} bytes a second relayed"

    def close(self) -> None:
        """
        The path is over.
        """
        for account in self._accounts:
            account.paths -= 1
