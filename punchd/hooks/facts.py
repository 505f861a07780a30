"""
What a command is told, and the environment variables that say it.

Values that other peers have chosen, their names and those of services, consist of letters, digits,
C{.}, C{_} and C{-}; they begin with a letter or a digit. All others are made here.
"""

from __future__ import annotations

from enum import Enum

from attrs import evolve, frozen

from punchd.values.peers import PeerID


class Subject(Enum):
    """
    What facts are about: at a server, a peer; at a peer, itself, or its link to another one.
    """

    PEER = "peer"
    SELF = "self"
    LINK = "link"


class Event(Enum):
    """
    What has become of the subject since the command was told last.
    """

    ARRIVED = "arrived"
    CHANGED = "changed"
    LEFT = "left"


@frozen
class Facts:
    """
    All that is known of one subject at one moment, as far as commands are told.

    @ivar name: of the peer; for a link, what the other peer is pinned under.
    @ivar isThere: whether the peer is logged in, or the link has a path; else the rest is empty.
    @ivar observed: the address at which the server sees the peer; or a server sees this one.
    @ivar addresses: those that anybody may know; services are reached at the first one.
    @ivar services: what is reached there by anybody: names and ports.
    @ivar path: C{direct} or C{relayed}, for a link.
    @ivar strategy: which one has opened the direct path.
    """

    subject: Subject
    name: str
    peerID: PeerID
    isThere: bool = True
    observed: str = ""
    addresses: tuple[str, ...] = ()
    services: tuple[tuple[str, int], ...] = ()
    path: str = ""
    strategy: str = ""

    @property
    def key(self) -> str:
        """
        Tells subjects apart; good for the name of a file. A name counts, in any case, and not its
        owner: that may change, and is part of the facts.
        """
        return f"{self.subject.value}-{self.name.lower()}"

    @property
    def canLeave(self) -> bool:
        """
        Whether the subject may be gone one day; for a peer itself, its last facts are good until
        there are others.
        """
        return self.subject is not Subject.SELF

    def __str__(self) -> str:
        """
        The subject, for people.
        """
        return f"the link to {self.name}" if self.subject is Subject.LINK else self.name

    def gone(self) -> Facts:
        """
        The facts when the subject is not there any more.
        """
        return Facts(self.subject, self.name, self.peerID, isThere=False)

    def isPartOf(self, other: Facts) -> bool:
        """
        Whether these facts are C{other} without some of its services, or without the address beside
        the first one.
        """
        return (
            self != other
            and self.addresses[:1] == other.addresses[:1]
            and set(self.addresses) <= set(other.addresses)
            and set(self.services) <= set(other.services)
            and evolve(self, addresses=other.addresses, services=other.services) == other
        )

    def toVariables(self) -> dict[str, str]:
        """
        What says them.
        """
        path = self.path
        if self.subject is Subject.LINK and not self.isThere:
            path = "none"
        return {
            "PUNCHD_SUBJECT": self.subject.value,
            "PUNCHD_PEER": self.name,
            "PUNCHD_PEER_ID": str(self.peerID),
            "PUNCHD_ADDRESS": next(iter(self.addresses), ""),
            "PUNCHD_IPV4": next((one for one in self.addresses if ":" not in one), ""),
            "PUNCHD_IPV6": next((one for one in self.addresses if ":" in one), ""),
            "PUNCHD_SERVICES": " ".join(f"{name}={port}" for name, port in self.services),
            "PUNCHD_OBSERVED": self.observed,
            "PUNCHD_PATH": path,
            "PUNCHD_STRATEGY": self.strategy,
        }


# What may differ from one time to the next.
_CHANGING = ("PEER_ID", "ADDRESS", "IPV4", "IPV6", "SERVICES", "OBSERVED", "PATH", "STRATEGY")


def variablesFor(facts: Facts, told: Facts | None) -> dict[str, str]:
    """
    All variables for one run of the command.

    @param told: the facts of the latest run that succeeded, if there is one.
    """
    now = facts.toVariables()
    before = (told or evolve(facts.gone(), isThere=True)).toVariables()
    if not facts.isThere:
        event = Event.LEFT
    elif told is None or not told.isThere:
        event = Event.ARRIVED
    else:
        event = Event.CHANGED
    changed = [
        name.lower() for name in _CHANGING if now[f"PUNCHD_{name}"] != before[f"PUNCHD_{name}"]
    ]
    return {"PUNCHD_EVENT": event.value, "PUNCHD_CHANGED": " ".join(changed), **now}
