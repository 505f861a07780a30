"""
Tests for leases that are kept: with routers that forget, lie, vanish and say no.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from punchd.errors import Refused, Unreachable
from punchd.interfaces import IPortMapper
from punchd.nat import wish
from punchd.nat.gateway import Gateway
from punchd.nat.leases import Leases
from punchd.nat.wish import NOT_ASKED
from tests.unit.nat.routers import GATEWAY, OUTSIDE, Mapper

OTHER = Gateway("192.168.2.1", "192.168.2.10")


@define(eq=False)
class House:
    """
    A host, its gateway, and what that can be asked by.
    """

    clock: Clock = field(factory=Clock)
    gateway: Gateway | None = GATEWAY
    mappers: list[Mapper] = field(factory=lambda: [Mapper("pcp"), Mapper("upnp")])
    said: list[str] = field(factory=list)
    changes: int = 0
    problem: OSError | None = None
    leases: Leases = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.leases = Leases(
            self.clock, Random(1), self.find, lambda gateway: self.mappers, self.said.append
        )
        self.leases.startService()

    def find(self) -> Gateway:
        if self.problem is not None:
            raise self.problem
        if self.gateway is None:
            raise Unreachable("there is no default gateway")
        return self.gateway

    def changed(self) -> None:
        self.changes += 1

    def want(self, internal: int = 5000, external: int = 0) -> wish.Wish:
        wanted = self.leases.want(internal, self.changed, external)
        self.clock.advance(0)
        return wanted

    def pass_(self, seconds: float) -> None:
        """
        Let time go by in small steps, as it does.
        """
        for _ in range(int(seconds)):
            self.clock.advance(1)


def isLent(wanted: wish.Wish) -> bool:
    """
    Whether there is a lease now.
    """
    return wanted.lease is not None


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    if house.leases.running:
        house.leases.stopService()
    house.clock.advance(10)
    assert not house.clock.getDelayedCalls()


def test_theRouterOfTheTestsIsAPortMapper() -> None:
    assert verifyObject(IPortMapper, Mapper("pcp"))


def test_nobodyIsAskedBeforeSomebodyWantsAPort(house: House) -> None:
    house.pass_(20)
    assert house.mappers[0].asked == []


def test_theBestThatAnswersIsUsed(house: House) -> None:
    wanted = house.want()
    assert wanted.lease is not None
    assert wanted.lease.by == "pcp"
    assert wanted.problem == ""
    assert house.changes == 1


def test_whatDoesNotAnswerIsLeftOut(house: House) -> None:
    house.mappers[0].problem = Unreachable("nobody there")
    wanted = house.want()
    assert wanted.lease is not None
    assert wanted.lease.by == "upnp"


def test_whatAnswersAndRefusesIsPassedOver(house: House) -> None:
    house.mappers[0].refusal = Refused("not authorized")
    wanted = house.want()
    assert wanted.lease is not None
    assert wanted.lease.by == "upnp"


def test_oneLineTellsOfALease(house: House) -> None:
    house.want()
    [line] = [one for one in house.said if "lends us" in one]
    assert OUTSIDE in line
    house.pass_(5000)
    assert len([one for one in house.said if "lends us" in one]) == 1


def test_aLeaseIsRenewedAtHalfItsLife(house: House) -> None:
    wanted = house.want()
    assert wanted.lease is not None
    house.pass_(3590)
    assert house.mappers[0].count("lease") == 1
    house.pass_(1000)
    asked = [one for one in house.mappers[0].asked if one[0] == "lease"]
    assert asked == [("lease", 5000, 0), ("lease", 5000, wanted.lease.external.port)]
    assert house.changes == 1


def test_aShortLifetimeOfTheRoutersCounts(house: House) -> None:
    house.mappers[0].lifetime = 120
    house.want()
    house.pass_(80)
    assert house.mappers[0].count("lease") == 2


def test_aLifetimeOfNothingDoesNotMakeAFlood(house: House) -> None:
    house.mappers[0].lifetime = 0.001
    house.want()
    house.pass_(20)
    assert house.mappers[0].count("lease") <= 11


def test_aForgottenLeaseIsMadeAgainWithTheSamePort(house: House) -> None:
    wanted = house.want()
    assert wanted.lease is not None
    before = wanted.lease.external
    house.mappers[0].lent.clear()
    house.pass_(90)
    assert wanted.lease is not None
    assert wanted.lease.external == before
    assert house.mappers[0].lent
    assert any("has forgotten" in line for line in house.said)


def test_anotherOutsideAddressIsTold(house: House) -> None:
    wanted = house.want()
    house.mappers[0].external = "203.0.113.99"
    house.mappers[0].lent.clear()
    house.pass_(90)
    assert wanted.lease is not None
    assert wanted.lease.external.host == "203.0.113.99"
    assert house.changes == 2


def test_aRenewalThatIsRefusedIsALeaseMadeAnew(house: House) -> None:
    house.mappers[0].lifetime = 120
    wanted = house.want()
    house.mappers[0].refusal = Refused("not authorized")
    house.pass_(90)
    assert wanted.lease is not None
    assert wanted.lease.by == "upnp"
    assert house.changes == 2


def test_aLeaseThatNobodyGivesAnyMoreIsGone(house: House) -> None:
    house.mappers[0].lifetime = 120
    wanted = house.want()
    for mapper in house.mappers:
        mapper.refusal = Refused("not authorized")
    house.pass_(90)
    assert not isLent(wanted)
    assert "pcp: not authorized" in wanted.problem
    house.mappers[1].refusal = None
    house.pass_(600)
    assert isLent(wanted)


def test_aRenewalThatIsLostIsTriedAgainWhileTheLeaseLives(house: House) -> None:
    house.mappers[0].lifetime = 240
    wanted = house.want()
    house.mappers[0].problem = Unreachable("the router does not answer")
    house.pass_(100)
    assert isLent(wanted)
    house.mappers[0].problem = None
    house.pass_(400)
    assert wanted.lease is not None
    assert wanted.lease.by == "pcp"
    assert house.changes == 1


def test_aLeaseWhoseLifeIsOverIsGone(house: House) -> None:
    house.mappers[0].lifetime = 60
    wanted = house.want()
    house.mappers[1].refusal = Refused("no")
    house.mappers[0].refusal = Unreachable("the router does not answer")
    house.pass_(59)
    assert isLent(wanted)
    house.pass_(40)
    assert not isLent(wanted)


def test_whatMayHaveBeenLentIsGivenBack(house: House) -> None:
    house.want()
    house.mappers[0].silent = True
    second = house.want(6000)
    assert not isLent(second)
    second.drop()
    assert house.mappers[0].asked[-1] == ("release", 6000)


def test_aWishThatIsDroppedStaysSo(house: House) -> None:
    """
    Also where a way of asking takes the end of a question for silence.
    """
    house.want()
    house.mappers[0].silent = True
    second = house.want(6000)
    house.mappers[0].waiting[-1].addErrback(lambda _: Failure(Unreachable("cancelled")))
    second.drop()
    house.mappers[0].silent = False
    second.make()
    house.pass_(700)
    assert [one for one in house.mappers[1].asked if one[0] == "lease"] == []
    assert [one for one in house.mappers[0].asked if one[:2] == ("lease", 6000)] == [
        ("lease", 6000, 0)
    ]
    assert not isLent(second)


def test_aRefusedRenewalAsksForTheWantedPortAndThenForAny(house: House) -> None:
    house.mappers[0].lifetime = 120
    house.mappers[0].taken = {8080}
    wanted = house.want(external=8080)
    assert wanted.lease is not None
    lent = wanted.lease.external.port
    assert lent != 8080
    house.mappers[0].taken, house.mappers[0].refused = set(), {lent}
    house.pass_(80)
    assert wanted.lease.external.port == 8080
    house.mappers[0].refused = {8080}
    house.pass_(80)
    asked = [one[2] for one in house.mappers[0].asked if one[0] == "lease"]
    assert asked == [8080, lent, 8080, 8080, 0]
    assert isLent(wanted)


def test_anErrorThatNobodyExpectsIsNotTheEnd(
    house: House, flushLoggedErrors: Callable[..., list[Any]]
) -> None:
    house.want()
    house.mappers[0].problem = ValueError("a bug")
    second = house.want(6000)
    assert flushLoggedErrors(ValueError)
    assert not isLent(second)
    house.mappers[0].problem = None
    house.pass_(40)
    assert isLent(second)


def test_whileTheGatewayCannotBeLookedForNothingHasChanged(house: House) -> None:
    wanted = house.want()
    house.problem = OSError(errno.EMFILE, "Too many open files")
    house.pass_(20)
    assert isLent(wanted)
    house.problem, house.gateway = None, OTHER
    house.pass_(6)
    assert house.leases.gateway == OTHER


def test_refusalsAreNotAnsweredByAFlood(house: House) -> None:
    for mapper in house.mappers:
        mapper.refusal = Refused("not authorized")
    house.want()
    house.pass_(3600)
    assert house.mappers[0].count("lease") < 15


def test_aRouterThatHasRefusedForDaysIsAskedStill(house: House) -> None:
    for mapper in house.mappers:
        mapper.refusal = Refused("not authorized")
    wanted = house.want()
    for _ in range(1100):
        house.clock.advance(wish._LONGEST_WAIT * 1.2)
    house.mappers[0].refusal = None
    house.clock.advance(wish._LONGEST_WAIT * 1.2)
    assert isLent(wanted)


def test_aTakenPortIsReplacedByAnother(house: House) -> None:
    house.mappers[0].taken = {8080}
    wanted = house.want(external=8080)
    assert wanted.lease is not None
    assert wanted.lease.external.port != 8080
    assert any("8080 is not to be had" in line for line in house.said)


def test_whereTheRouterDoesNotChooseWeDo(house: House) -> None:
    house.mappers[0].taken = {8080}
    house.mappers[0].chooses = False
    wanted = house.want(external=8080)
    assert wanted.lease is not None
    assert wanted.lease.by == "pcp"
    assert wanted.lease.external.port >= 20000


def test_aRouterWhereAllIsTakenIsAskedAFewTimes(house: House) -> None:
    house.mappers[0].taken = set(range(65536))
    house.mappers[0].chooses = False
    wanted = house.want(external=8080)
    assert house.mappers[0].count("lease") == 5
    assert wanted.lease is not None
    assert wanted.lease.by == "upnp"


@pytest.mark.parametrize("host", ["192.168.7.1", "10.0.0.1", "100.64.3.2", "127.0.0.1", "0.0.0.0"])
def test_aPrivateOutsideAddressIsReportedAndNotUsed(house: House, host: str) -> None:
    for mapper in house.mappers:
        mapper.external = host
    wanted = house.want()
    assert not isLent(wanted)
    assert "double NAT" in wanted.problem
    # It is given back.
    assert not house.mappers[0].lent
    assert house.changes == 0


def test_aLeaseForAnotherPortIsNotOurs(house: House) -> None:
    house.mappers[0].lie = 22
    wanted = house.want()
    assert wanted.lease is not None
    assert wanted.lease.by == "upnp"


def test_aRouterThatNobodyKnowsHowToAskIsAskedRarely(house: House) -> None:
    for mapper in house.mappers:
        mapper.problem = Unreachable("nobody there")
    wanted = house.want()
    assert not isLent(wanted)
    assert "lends no ports" in wanted.problem
    house.pass_(400)
    assert house.mappers[0].count("ask") == 1
    house.mappers[1].problem = None
    house.pass_(400)
    assert isLent(wanted)


def test_withoutAGatewayNobodyIsAsked(house: House) -> None:
    house.gateway = None
    wanted = house.want()
    assert wanted.problem == "there is no default gateway"
    house.gateway = GATEWAY
    house.pass_(6)
    assert isLent(wanted)


def test_anotherGatewayIsAskedAtOnce(house: House) -> None:
    wanted = house.want()
    old, house.mappers = house.mappers, [Mapper("nat-pmp", external="198.51.100.3")]
    house.gateway = OTHER
    house.pass_(6)
    assert wanted.lease is not None
    assert wanted.lease.external.host == "198.51.100.3"
    # Gone, and there again.
    assert house.changes == 3
    asked = len(old[0].asked)
    house.pass_(600)
    assert len(old[0].asked) == asked


def test_aGatewayThatChangesWhileItIsAskedIsNotWaitedFor(house: House) -> None:
    for mapper in house.mappers:
        mapper.silent = True
    wanted = house.want()
    assert wanted.problem == NOT_ASKED
    house.mappers = [Mapper("upnp")]
    house.gateway = OTHER
    house.pass_(6)
    assert isLent(wanted)


def test_aGatewayThatChangesWhileALeaseIsMadeIsNotWaitedFor(house: House) -> None:
    house.want()
    house.mappers[0].silent = True
    second = house.want(6000)
    assert not isLent(second)
    house.mappers = [Mapper("upnp")]
    house.gateway = OTHER
    house.pass_(6)
    assert second.lease is not None
    assert second.lease.by == "upnp"


def test_aRouterThatFallsSilentIsGivenUp(house: House) -> None:
    wanted = house.want()
    for mapper in house.mappers:
        mapper.problem = Unreachable("the router does not answer")
    house.pass_(150)
    assert isLent(wanted)
    house.pass_(150)
    assert not isLent(wanted)
    assert house.changes == 2


def test_twoWishesDoNotDisturbEachOther(house: House) -> None:
    first, second = house.want(5000), house.want(6000, 8080)
    assert first.lease is not None
    assert second.lease is not None
    assert first.lease.external != second.lease.external
    second.drop()
    assert set(house.mappers[0].lent) == {5000}
    house.pass_(100)
    assert house.mappers[0].count("lease") == 2


def test_allIsGivenBackInTheEnd(house: House) -> None:
    house.want(5000)
    house.want(6000)
    stopped = house.leases.stopService()
    assert stopped.called
    assert house.mappers[0].lent == {}
    assert house.mappers[0].count("release") == 2


def test_theEndDoesNotWaitForASilentRouter(house: House) -> None:
    house.want()
    house.mappers[0].silent = True
    ended: list[None] = []
    house.leases.stopService().addCallback(ended.append)
    assert not ended
    house.clock.advance(2.1)
    assert ended
    assert any("could not give" in line for line in house.said)


def test_theEndMayComeWhileTheRouterIsAsked(house: House) -> None:
    for mapper in house.mappers:
        mapper.silent = True
    house.want()
    assert house.leases.stopService().called


def test_wishesThatComeBeforeTheStartCountFromThen() -> None:
    house = House()
    house.leases.stopService()
    wanted = house.leases.want(5000, house.changed)
    assert not isLent(wanted)
    house.leases.startService()
    house.clock.advance(0)
    assert isLent(wanted)
    house.leases.stopService()


def test_aCheckIsNoRenewal(house: House) -> None:
    house.want()
    house.pass_(400)
    assert house.mappers[0].count("lease") == 1
    assert 4 <= house.mappers[0].count("holds") <= 9
