"""
The contracts between punchd's parts, and between punchd and plugins, in prose.

This module imports zope.interface and nothing else at run time: Twisted's plugin cache refers to
these classes, so any Twisted program that asks for any plugin loads this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    # What a strategy holds a port by; the class is in punchd.net.held.
    from punchd.net.held import HeldPort
    from punchd.values.addresses import Address
    from punchd.values.happenings import Happening
    from punchd.values.leases import Lease, RouterFacts
    from punchd.values.outcomes import Outcome
    from punchd.values.parties import Situation
    from punchd.values.peers import PeerID
    from punchd.values.plans import Consideration

    # Gets a stream, as openStream gives it.
    StreamTaker = Callable[[Any], None]


class IPlugin(Interface):
    """
    What every punchd plugin has beside its own interface's methods.
    """

    name = Attribute("The word that selects this plugin: lower-case, of C{str}.")


class IStrategyMaker(IPlugin):
    """
    What a dropin in C{twisted/plugins/} offers for a strategy: light, the code is loaded by
    L{make}.
    """

    def make() -> IStrategy:
        """
        Load the code and return the strategy.

        @raise Exception: anything; the plugin is then reported by name and left out.
        """


class IRegistryMaker(IPlugin):
    """
    What a dropin offers for a kind of registry; C{name} is the scheme of its URI.
    """

    def make(uri: str, reactor: object) -> IRegistry:
        """
        Make the registry that C{uri} describes.

        @raise punchd.errors.ConfigurationError: when the URI is not usable.
        """


class IStrategy(Interface):
    """
    One way of getting a direct TCP connection between two peers.

    Both peers run the same strategy of an introduction at the same time, each its own half: the
    I{caller} asked for the introduction, the I{callee} was called. A strategy never sees keys and
    never decides who wins; connections that it opens are authenticated by whoever runs it.
    """

    name = Attribute("The strategy's word, as in C{--strategies}: lower-case C{str}.")
    version = Attribute("C{int}; both halves must have the same.")

    def consider(situation: Situation) -> Consideration | None:
        """
        Say whether this strategy applies, and how long it wants.

        This is pure, and the same on both sides: it looks at the situation's I{caller} and
        I{callee}, never at which of them is here.

        @return: C{None} when the strategy can do nothing for these two.
        """

    def attempt(attempt: IAttempt) -> Deferred[Outcome]:
        """
        Try. The result is a value, also when nothing came of it; an exception is a bug of the
        strategy, reported under its name.

        When the Deferred is cancelled (another strategy won, or time is up), everything that this
        attempt opened is closed.
        """


class IAttempt(Interface):
    """
    What one run of a strategy has to work with. Made for the run, dead after it.
    """

    situation = Attribute("The L{Situation<punchd.values.parties.Situation>}: both offers.")
    isCaller = Attribute("C{bool}: which half this is.")
    clock = Attribute("An C{IReactorTime} for every wait.")
    random = Attribute("A C{random.Random} for every choice that the other side need not know.")

    def heldPort() -> HeldPort:
        """
        The port whose mapping both offers name, this side's reflexive candidate.
        """

    def freshPort() -> Deferred[HeldPort]:
        """
        Another port, which the server has just observed through the assist service. It is closed
        when the attempt is over.

        @raise punchd.errors.Unreachable: when the assist service does not answer.
        """

    def ordinaryPort() -> HeldPort:
        """
        Another port, which nobody has observed. It is closed when the attempt is over.

        @raise punchd.errors.Unreachable: when none is to be had.
        """

    def leasedPort() -> HeldPort | None:
        """
        The port to which this side's router lets anybody in who dials the address that this side's
        offer names as mapped; C{None} if there is no lease.
        """

    def ipv6Port() -> HeldPort | None:
        """
        The port that this side's offer names as its IPv6 candidate; C{None} if it names none.
        """

    def race(
        port: HeldPort, remotes: Sequence[Address], listening: bool, retries: int = ...
    ) -> Deferred[Outcome]:
        """
        Dial C{remotes} from C{port}, again and again, and accept on it too if C{listening}.

        Each connection made is authenticated. The Deferred fires when C{retries} are used up on
        every remote and nothing is open any more; after a success it is cancelled from outside.
        """

    def spray(
        remotes: Sequence[Address], port: HeldPort | None = None, patience: float = ...
    ) -> Deferred[Outcome]:
        """
        Dial each of C{remotes} once, all at the same moment: from C{port}, or each from a new port
        of its own. For guessing ports: what one socket costs counts.

        Only hosts are dialled that the server has observed the other side at in this introduction,
        there no well-known port, and no more sockets than the budget allows; the rest is left out,
        and the timeline says so. The Deferred fires when one connection is authenticated, or
        nothing is open any more; when it is cancelled, everything that has not connected is closed.

        @param patience: seconds after which a socket that heard nothing is given up.
        """

    def tell(body: bytes, port: HeldPort | None = None) -> Deferred[Any]:
        """
        Send a message to the other half through the master.

        @param body: at most 1,024 bytes.
        @param port: a fresh port; the server adds the address that it observed for it.
        """

    def hear() -> Deferred[tuple[bytes, Address | None]]:
        """
        The next message of the other half, with the observed address if it sent one along.
        """

    def note(step: str) -> None:
        """
        Put a line into the introduction's timeline.
        """


class IRegistry(Interface):
    """
    What the server must remember across restarts: which key owns which name.
    """

    def claim(name: str, peerID: PeerID) -> Deferred[None]:
        """
        Take C{name} for this key; a name belongs to the key that first took it.

        @raise punchd.errors.Refused: when another key has it.
        @raise punchd.errors.Unreachable: when the store does not work now.
        """

    def owner(name: str) -> Deferred[PeerID | None]:
        """
        The key that has C{name}, or C{None}.
        """

    def close() -> Deferred[None]:
        """
        Write what is not written yet, and let go of everything.
        """


class IAccessPolicy(Interface):
    """
    Who may reach what at this peer.
    """

    def admits(peerID: PeerID) -> bool:
        """
        May this peer be introduced to us at all?
        """

    def permits(peerID: PeerID, service: str) -> bool:
        """
        May this peer open a stream to that service?
        """


class IPortMapper(Interface):
    """
    One way of asking the router for TCP ports of its outside address, so that whoever dials them is
    let in to this host.

    An implementation speaks to one router, and believes nobody else. Each method gives up by
    itself within seconds.
    """

    name = Attribute("The protocol's word: C{str}.")

    def ask() -> Deferred[RouterFacts]:
        """
        Ask the router what it says of itself; nothing is changed by it.

        @raise punchd.errors.Unreachable: when it does not answer, so mostly knows nothing of this
            protocol.
        @raise punchd.errors.Refused: when it answers that it does not lend ports.
        """

    def lease(internal: int, external: int, lifetime: float) -> Deferred[Lease]:
        """
        Make a lease, or renew it.

        @param internal: the port of this host.
        @param external: the port that is wanted on the router, 0 for any; it may give another.
        @param lifetime: seconds that are wished for; it may give fewer.
        @raise punchd.errors.PortTaken: when that port is somebody else's, and the router gives no
            other by itself.
        @raise punchd.errors.PunchdError: as L{ask}.
        """

    def holds(lease: Lease) -> Deferred[bool]:
        """
        Does the router still know of this lease, as far as can be told without changing anything?

        @raise punchd.errors.PunchdError: as L{ask}.
        """

    def release(lease: Lease) -> Deferred[None]:
        """
        Give a lease back.

        @raise punchd.errors.PunchdError: as L{ask}; the lease then ends with its lifetime.
        """


class IStreamOpener(Interface):
    """
    The seam between those who want a stream and how it comes about.
    """

    def openStream(peer: str, service: str) -> Deferred[Any]:
        """
        Open a stream to a service of a peer that is pinned under the name C{peer}.

        @return: fires with a L{Stream<punchd.link.stream.Stream>}, elected and ready to write to.
        @raise punchd.errors.PunchdError: UnknownPeer, NoPath, Unreachable.
        """


class IStreamExposer(Interface):
    """
    The seam between those who offer a service and how its callers come to it.
    """

    address = Attribute(
        "The L{PeerAddress<punchd.values.peers.PeerAddress>} of the peer, once it has exposed."
    )

    def expose(service: str, taker: StreamTaker) -> Deferred[Callable[[], Deferred[None]]]:
        """
        Offer a service to other peers, as far as they are allowed to reach it.

        @param taker: called with each stream that asks for the service, once its caller is known
            (C{getPeer}): agrees to it and carries it, or refuses it.
        @return: fires with what takes the service back; streams that run then go on.
        @raise punchd.errors.Refused: when a service of that name is exposed already.
        @raise punchd.errors.PunchdError: Unreachable, ConfigurationError.
        """


class IObserver(Interface):
    """
    Somebody who wants to know what happens, as it happens.
    """

    def happened(happening: Happening) -> None:
        """
        Take note. Must return at once and not raise.
        """


__all__ = [
    "IAccessPolicy",
    "IAttempt",
    "IObserver",
    "IPlugin",
    "IPortMapper",
    "IRegistry",
    "IRegistryMaker",
    "IStrategy",
    "IStrategyMaker",
    "IStreamExposer",
    "IStreamOpener",
]
