"""
Processes that exist only in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from signal import SIGKILL, SIGTERM

from attrs import define, field
from twisted.internet.defer import Deferred

from punchd.hooks.facts import Facts, Subject
from punchd.values.peers import PeerID


@define(eq=False)
class PretendedChild:
    """
    A process that does what the test says.

    @ivar endsOn: the signals that it ends at.
    @ivar leftovers: how many others there are in its group, which end at SIGKILL.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    said: Callable[[bytes], None]
    endsOn: tuple[int, ...] = (SIGTERM, SIGKILL)
    leftovers: int = 0
    signals: list[int] = field(factory=list)
    isDeaf: bool = False
    exited: Deferred[int] = field(factory=Deferred)
    silent: Deferred[None] = field(factory=Deferred)

    def signal(self, number: int) -> bool:
        if self.exited.called and not self.leftovers:
            return False
        self.signals.append(number)
        if number == SIGKILL:
            self.leftovers = 0
        if not self.exited.called and number in self.endsOn:
            self.exit(-number)
        return True

    def deafen(self) -> None:
        self.isDeaf = True
        if not self.silent.called:
            self.silent.callback(None)

    def exit(self, status: int = 0, *, isSilent: bool = True) -> None:
        self.exited.callback(status)
        if isSilent and not self.silent.called:
            self.silent.callback(None)


@define(eq=False)
class Spawner:
    """
    Starts them.

    @ivar problem: why none can be started.
    """

    children: list[PretendedChild] = field(factory=list)
    problem: OSError | None = None

    def __call__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        said: Callable[[bytes], None],
    ) -> PretendedChild:
        if self.problem is not None:
            raise self.problem
        self.children.append(PretendedChild(words, environment, said))
        return self.children[-1]

    @property
    def told(self) -> list[str]:
        """
        What each run was told.
        """
        return [
            " ".join(filter(None, (each.environment[f"PUNCHD_{name}"] for name in _TOLD)))
            for each in self.children
        ]


_TOLD = ("EVENT", "PEER", "ADDRESS", "SERVICES", "PATH")

ID = PeerID(bytes([7]) * 32)


def makeFacts(name: str = "bob", address: str = "198.51.100.1", peerID: PeerID = ID) -> Facts:
    """
    The facts of a peer at a server.
    """
    return Facts(Subject.PEER, name, peerID, observed=address, addresses=(address,))
