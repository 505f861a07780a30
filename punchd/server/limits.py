"""
What strangers may do before they have said who they are, and how much of it goes to the log.
"""

from __future__ import annotations

from ipaddress import ip_network

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from punchd.net.pacing import Allowance
from punchd.values.addresses import Address

#: Connections of one network, and of all, that have not said who they are.
MOST_STRANGERS_PER_NETWORK = 64
MOST_STRANGERS = 4096

#: Connections that one network may make, per second and at once.
ACCEPTS_PER_SECOND = 50.0
ACCEPTS_AT_ONCE = 500.0

# How many networks' allowances are remembered; more means that somebody has very many of them.
_MOST_NETWORKS = 65536


def networkOf(address: Address) -> str:
    """
    Whom connections from C{address} are counted for: an IPv4 address, or an IPv6 network of 64
    bits, which is the least that one customer gets (RFC 6177).
    """
    if ":" in address.host:
        return str(ip_network((address.host.partition("%")[0], 64), strict=False))
    return address.host


@define(eq=False)
class Networks:
    """
    How often something may happen for each network, of as many as are remembered.
    """

    _clock: IReactorTime
    rate: float
    burst: float
    most: int = _MOST_NETWORKS
    _allowances: dict[str, Allowance] = field(factory=dict, init=False)

    def take(self, network: str) -> bool:
        """
        Use the allowance of C{network} once, if there is any left.
        """
        allowance = self._allowances.get(network)
        if allowance is None:
            if len(self._allowances) >= self.most:
                del self._allowances[next(iter(self._allowances))]
            allowance = self._allowances[network] = Allowance(self._clock, self.rate, self.burst)
        return allowance.take()

    def forget(self) -> None:
        """
        Let go of networks for which nothing happened lately.
        """
        idle = [network for network, allowance in self._allowances.items() if allowance.isFull]
        for network in idle:
            del self._allowances[network]

    def __len__(self) -> int:
        return len(self._allowances)


@define(eq=False)
class Strangers:
    """
    The connections of one server that have not said who they are. Made and kept by the server.
    """

    _clock: IReactorTime
    mostPerNetwork: int = MOST_STRANGERS_PER_NETWORK
    most: int = MOST_STRANGERS
    rate: float = ACCEPTS_PER_SECOND
    burst: float = ACCEPTS_AT_ONCE
    _total: int = field(default=0, init=False)
    _here: dict[str, int] = field(factory=dict, init=False)
    _arrivals: Networks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._arrivals = Networks(self._clock, self.rate, self.burst)

    def admit(self, address: Address) -> str | None:
        """
        Count one more, who must L{leave} some time.

        @return: why it is not admitted, and not counted; C{None} if it is.
        """
        network = networkOf(address)
        if not self._arrivals.take(network):
            return "too many connections a second"
        if self._here.get(network, 0) >= self.mostPerNetwork:
            return "too many connections that have not said who they are"
        if self._total >= self.most:
            return "too many connections, of all together, that have not said who they are"
        self._here[network] = self._here.get(network, 0) + 1
        self._total += 1
        return None

    def leave(self, address: Address) -> None:
        """
        One who was admitted has said who it is, or has gone.
        """
        network = networkOf(address)
        left = self._here[network] - 1
        if left:
            self._here[network] = left
        else:
            del self._here[network]
        self._total -= 1

    def forget(self) -> None:
        """
        Let go of networks from which nothing came lately.
        """
        self._arrivals.forget()


@define(eq=False)
class Complaints:
    """
    One line in the log for what a stranger does wrong; of a flood, the first lines of each second
    and how many more there were.
    """

    _log: Logger
    most: int = 10
    _said: int = field(default=0, init=False)

    def say(self, text: str) -> None:
        """
        Write the line, or count it.
        """
        self._said += 1
        if self._said <= self.most:
            self._log.warn("{text}", text=text)

    def sweep(self) -> None:
        """
        A second is over.
        """
        more = self._said - self.most
        self._said = 0
        if more > 0:
            self._log.warn("{more} more such lines are left out", more=more)
