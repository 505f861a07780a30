"""
Tests for L{punchd.server.registry.memory}.
"""

import pytest
from pytest_twisted import ensureDeferred

from punchd.errors import ConfigurationError
from punchd.server.registry.memory import MemoryRegistry, fromURI
from tests.unit.server.registry.contract import RegistryContract


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registry(self) -> MemoryRegistry:
        return fromURI("memory:", None)

    @ensureDeferred
    async def test_itCloses(self, registry: MemoryRegistry) -> None:
        await registry.close()


def test_nothingFollowsTheScheme() -> None:
    with pytest.raises(ConfigurationError, match="nothing follows"):
        fromURI("memory:/var/lib/x", None)
