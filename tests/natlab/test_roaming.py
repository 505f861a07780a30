"""
A laptop that changes its network while it punches, and after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from punchd.link.keeping import LATELY
from punchd.testing.deployment import Deployment
from punchd.testing.natlab import NatLab
from tests.natlab.laptop import Laptop

pytestmark = pytest.mark.waiting

DELAY: Final = 0.1
"""Seconds between two sites, one way: long enough for something to happen in the middle."""

ENDED: Final = 10.0
"""Seconds in which a person has an answer, whatever it is."""

BACK: Final = 5.0
"""Seconds in which a peer that has another address is at its server again, and its links."""

ASLEEP: Final = LATELY + 1.5
"""Seconds without a byte after which a link is asked more seldom whether it lives."""


def awaitBack(laptop: Laptop, mark: int) -> None:
    """
    Wait until it has noticed that it has moved, and its server knows it again.

    @param mark: how much it had logged before the move.
    """
    peer = laptop.peer
    peer.waitFor(lambda: "connecting anew" in peer.said(mark), "aware", BACK)
    peer.awaitConnected(timeout=BACK)


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    with (
        NatLab(delay=DELAY) as lab,
        Deployment(lab.addPublic("server", addresses=2)) as deployment,
    ):
        peer = deployment.addPeer(lab.addHost("laptop", "port-restricted"))
        friend = deployment.addPeer(lab.addHost("friend", "reset"))
        deployment.acquaint()
        deployment.start()
        yield Laptop(peer, friend)


def test_afterAChangeOfNetworksPeersMeetAgain(laptop: Laptop) -> None:
    assert laptop.peer.ping(laptop.friend)["path"] == "direct"
    mark = laptop.peer.logged
    laptop.move()
    awaitBack(laptop, mark)
    assert laptop.peer.ping(laptop.friend)["path"] == "direct"
    assert laptop.friend.ping(laptop.peer)["path"] == "direct"


@pytest.mark.parametrize("calls", [True, False], ids=["calls", "isCalled"])
def test_aLinkThatNobodyUsesHasAnotherPathSoonAfterAChangeOfNetworks(
    laptop: Laptop, calls: bool
) -> None:
    """
    Long before either end would ask whether the other one is there still.
    """
    pair = (laptop.peer, laptop.friend) if calls else (laptop.friend, laptop.peer)
    assert pair[0].ping(pair[1])["path"] == "direct"
    time.sleep(ASLEEP)
    moves = laptop.link["moves"]
    laptop.move()
    laptop.awaitMoved(moves, BACK)


@pytest.mark.parametrize("after", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("calls", [True, False], ids=["calls", "isCalled"])
def test_aChangeInTheMiddleOfAPunchEndsIt(laptop: Laptop, calls: bool, after: float) -> None:
    """
    Whoever asked has an answer, and the next introduction is as good as ever.
    """
    pair = (laptop.peer, laptop.friend) if calls else (laptop.friend, laptop.peer)
    mark = laptop.peer.logged
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(pair[0].ping, pair[1])
        time.sleep(after)
        laptop.move()
        facts = asking.result()
    assert time.monotonic() - began < ENDED
    assert (facts["path"] == "direct") is (facts["reason"] is None)
    awaitBack(laptop, mark)
    assert pair[0].ping(pair[1])["path"] == "direct"
