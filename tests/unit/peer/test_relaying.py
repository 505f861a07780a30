"""
Tests for L{punchd.peer.relaying}: where the relay is, if there is one for us.
"""

from typing import cast

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock

from punchd.errors import Unreachable
from punchd.link.punched import PunchedConnection
from punchd.peer.master import MasterClient
from punchd.peer.relaying import relayDialler
from punchd.values.addresses import Address, makeAddress

TOKEN = b"t" * 16
RELAY = makeAddress("203.0.113.7", 7763)


class Client:
    """
    A connection to a server that has a relay, or none.
    """

    def __init__(self, relay: Address | Exception | None) -> None:
        self.clock = MemoryReactorClock()
        self._relay = relay

    def relay(self) -> Address | None:
        if isinstance(self._relay, Exception):
            raise self._relay
        return self._relay


def diallerOf(client: Client, token: bytes | None = TOKEN) -> object:
    return relayDialler(cast(MasterClient, client), token)


def test_whoHasNoTokenHasNoWay() -> None:
    assert diallerOf(Client(RELAY), None) is None


def test_whereThereIsNoRelayThereIsNoWay() -> None:
    assert diallerOf(Client(None)) is None


def test_whenTheServerHasJustGoneThereIsNoWay() -> None:
    assert diallerOf(Client(Unreachable("not connected"))) is None


@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::7"])
def test_theServersRelayIsDialled(host: str) -> None:
    client = Client(makeAddress(host, 7763))
    dial = relayDialler(cast(MasterClient, client), TOKEN)
    assert dial is not None
    dialled: list[object] = []
    opening = dial(cast(PunchedConnection, Protocol()))
    opening.addErrback(lambda failure: dialled.append(failure.type))
    ((where, port, *_),) = client.clock.tcpClients
    assert (where, port) == (host, 7763)
    opening.cancel()
    assert len(dialled) == 1
    assert client.clock.getDelayedCalls() == []
