"""
What every registry must do.
"""

from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from zope.interface.verify import verifyObject

from punchd.errors import Refused
from punchd.interfaces import IRegistry
from tests.unit.server.pretending import peerID


class RegistryContract:
    """
    Tests for an L{IRegistry}; a subclass has a fixture C{registry}, which closes it.
    """

    def test_itIsARegistry(self, registry: Any) -> None:
        verifyObject(IRegistry, registry)

    @ensureDeferred
    async def test_aFreeNameBelongsToNobody(self, registry: IRegistry) -> None:
        assert await registry.owner("alice") is None

    @ensureDeferred
    async def test_aNameBelongsToTheKeyThatClaimedIt(self, registry: IRegistry) -> None:
        await registry.claim("alice", peerID(1))
        assert await registry.owner("alice") == peerID(1)

    @ensureDeferred
    async def test_aKeyMayClaimItsNameAgain(self, registry: IRegistry) -> None:
        await registry.claim("alice", peerID(1))
        await registry.claim("alice", peerID(1))

    @ensureDeferred
    async def test_anotherKeyIsRefused(self, registry: IRegistry) -> None:
        await registry.claim("bob", peerID(1))
        with pytest.raises(Refused, match="the name 'bob' belongs to another key on this server"):
            await registry.claim("bob", peerID(2))
        assert await registry.owner("bob") == peerID(1)

    @ensureDeferred
    async def test_aKeyMayHaveSeveralNames(self, registry: IRegistry) -> None:
        await registry.claim("alice", peerID(1))
        await registry.claim("al", peerID(1))
        assert await registry.owner("al") == await registry.owner("alice") == peerID(1)

    @ensureDeferred
    async def test_namesDoNotDifferByCaseAlone(self, registry: IRegistry) -> None:
        await registry.claim("Alice", peerID(1))
        assert await registry.owner("aLICE") == peerID(1)
        with pytest.raises(Refused):
            await registry.claim("ALICE", peerID(2))

    @ensureDeferred
    async def test_ofManyClaimsAtOnceOneWins(self, registry: IRegistry) -> None:
        claims = [registry.claim("alice", peerID(number)) for number in range(20)]
        won = []
        for number, claim in enumerate(claims):
            try:
                await claim
            except Refused:
                continue
            won.append(peerID(number))
        assert won == [await registry.owner("alice")]

    @ensureDeferred
    async def test_aNameIsOnlyText(self, registry: IRegistry) -> None:
        for number, name in enumerate(["a_c", "abc", "a%c", "a'; DROP TABLE names --"]):
            await registry.claim(name, peerID(number))
            assert await registry.owner(name) == peerID(number)
