"""
Routers that bring connections from inside to a mapped address back inside, and those that do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
import pytest

from punchd.testing.natlab import KINDS, NatLab
from tests.natlab.agents import Address, Agent

pytestmark = pytest.mark.natlab

PATIENCE: Final = 0.5
CONES: Final = [
    name for name, kind in KINDS.items() if kind.natted and not kind.symmetric and not kind.layers
]


@attrs.frozen
class Site:
    """
    Two neighbours, and a public server.
    """

    server: Agent
    one: Agent
    two: Agent

    def mapped(self, agent: Agent, port: int) -> Address:
        """
        How the server sees a port.
        """
        (seen,) = agent.observe(port, [(self.server.host.address, 7000)])
        return seen


@pytest.fixture(scope="module")
def lab() -> Iterator[NatLab]:
    with NatLab(delay=0.01) as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: NatLab) -> Agent:
    server = Agent(lab.addPublic("server"))
    server.serve(7000)
    return server


def site(lab: NatLab, server: Agent, kind: str, hairpins: bool) -> Site:
    name = f"{kind}-{'turns' if hairpins else 'does-not'}"
    one = lab.addHost(name, kind, hairpins=hairpins)
    return Site(server, Agent(one), Agent(lab.addNeighbour(f"{name}-2", one)))


@pytest.fixture(scope="module", params=CONES)
def hairpinning(lab: NatLab, server: Agent, request: pytest.FixtureRequest) -> Site:
    return site(lab, server, request.param, True)


def test_aMappedAddressLeadsBackInside(hairpinning: Site) -> None:
    mapped = hairpinning.mapped(hairpinning.two, 40001)
    hairpinning.two.serve(40001)
    assert hairpinning.one.dial(0, mapped, PATIENCE) == "connected"


def test_aRouterThatIsRenumberedStillTurnsBack(lab: NatLab, server: Agent) -> None:
    name = "port-restricted-renumbered"
    one = lab.addHost(name, "port-restricted", hairpins=True)
    found = Site(server, Agent(one), Agent(lab.addNeighbour(f"{name}-2", one)))
    new = lab.renumber(one)
    mapped = found.mapped(found.two, 40010)
    assert mapped[0] == new
    found.two.serve(40010)
    assert found.one.dial(0, mapped, PATIENCE) == "connected"


def test_whoDialsIsSeenUnderItsOwnMapping(hairpinning: Site) -> None:
    """
    As from outside (RFC 5382, REQ-8): not under its private address.
    """
    mapped = hairpinning.mapped(hairpinning.two, 40002)
    hairpinning.two.serve(40002)
    own = hairpinning.mapped(hairpinning.one, 40003)
    assert hairpinning.one.observe(40003, [mapped]) == [own]


@pytest.mark.parametrize("kind", ["full-cone", "port-restricted"])
def test_byItselfNoRouterHairpins(lab: NatLab, server: Agent, kind: str) -> None:
    plain = site(lab, server, kind, False)
    mapped = plain.mapped(plain.two, 40001)
    plain.two.serve(40001)
    assert plain.one.dial(0, mapped, PATIENCE) != "connected"


@pytest.mark.parametrize("kind", ["random", "firewall"])
def test_withoutOneMappedAddressThereIsNoHairpin(lab: NatLab, kind: str) -> None:
    with pytest.raises(ValueError, match="no mapped address"):
        lab.addHost(f"{kind}-cannot", kind, hairpins=True)
