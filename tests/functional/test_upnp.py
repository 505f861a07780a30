"""
Tests for UPnP by real HTTP on loopback, with a router that is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface.verify import verifyObject

from punchd.errors import PortTaken, PunchdError, Refused, Unreachable
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.nat.mapping import http
from punchd.nat.mapping.igd import LONGEST_DOCUMENT
from punchd.nat.mapping.upnp import UPnP
from punchd.values.addresses import makeAddress
from punchd.values.leases import Lease
from tests.unit.nat.mapping.test_igd import FAULT, FOUND, IP1, description, soap
from tests.unit.nat.routers import OUTSIDE, Datagrams

HERE = "127.0.0.1"
Action = dict[str, str]


@define(eq=False)
class Router(Resource):
    """
    Answers as a UPnP router, from a table.

    @ivar table: for whom each port is.
    @ivar faults: codes by action, in the order in which they are to be given.
    @ivar stalls: whether descriptions end in their midst.
    @ivar forgetsToAnswer: what it does, but says nothing of.
    @ivar asking: fires when something is asked for whose answer does not come.
    @ivar overwrites: whether it lends anything to anybody.
    """

    isLeaf = True
    table: dict[str, Action] = field(factory=dict)
    faults: dict[str, list[int]] = field(factory=dict)
    asked: list[tuple[str, Action]] = field(factory=list)
    document: bytes = description((IP1, "/ctl"))
    silent: bool = False
    stalls: bool = False
    forgetsToAnswer: str = ""
    asking: Deferred[None] = field(factory=Deferred)
    garbage: bytes | None = None
    overwrites: bool = False

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)

    def render_GET(self, request: Any) -> Any:
        if self.stalls:
            request.setHeader("Content-Length", "100")
            request.write(b"<ro")
        if self.stalls or self.silent:
            self.asking.callback(None)
            return NOT_DONE_YET
        return self.document

    def render_POST(self, request: Any) -> Any:
        if self.garbage is not None:
            return self.garbage
        [[action]] = ElementTree.fromstring(request.content.read())
        name = action.tag.rpartition("}")[2]
        assert request.getHeader("SOAPAction") == f'"{IP1}#{name}"'
        arguments = {child.tag: child.text or "" for child in action}
        self.asked.append((name, arguments))
        code = self.faults[name].pop(0) if self.faults.get(name) else 0
        results = "" if code else getattr(self, f"do{name}")(arguments)
        if name == self.forgetsToAnswer:
            self.asking.callback(None)
            return NOT_DONE_YET
        if code or results is None:
            request.setResponseCode(500)
            return soap(FAULT.format(code=code or 714, text="no"))
        return soap(f'<u:{name}Response xmlns:u="{IP1}">{results}</u:{name}Response>')

    def doGetExternalIPAddress(self, arguments: Action) -> str:
        return f"<NewExternalIPAddress>{OUTSIDE}</NewExternalIPAddress>"

    def doGetSpecificPortMappingEntry(self, arguments: Action) -> str | None:
        entry = self.table.get(arguments["NewExternalPort"])
        if entry is None:
            return None
        return "".join(
            f"<{key}>{entry[key]}</{key}>" for key in ("NewInternalClient", "NewInternalPort")
        )

    def doAddPortMapping(self, arguments: Action) -> str:
        port = arguments["NewExternalPort"]
        if port not in self.table or not self.overwrites:
            self.table[port] = arguments
        return ""

    def doDeletePortMapping(self, arguments: Action) -> str:
        del self.table[arguments["NewExternalPort"]]
        return ""

    def lendTo(self, host: str, port: int) -> None:
        self.table[str(port)] = {"NewInternalClient": host, "NewInternalPort": "22"}

    def count(self, name: str) -> int:
        return sum(action == name for action, _ in self.asked)


@define(eq=False)
class House:
    router: Router
    datagrams: Datagrams
    mapper: UPnP
    port: int

    def find(self) -> None:
        """
        Let the search be answered.
        """
        answer = FOUND.replace("192.168.1.1:5000", f"{HERE}:{self.port}")
        self.datagrams.last.answer(answer.encode())

    def asked(self, asking: Deferred[Any]) -> Deferred[Any]:
        """
        What asks the router for the first time, with the search answered.
        """
        self.find()
        return asking


@pytest.fixture
def house() -> Iterator[House]:
    reactor: Any = globalReactor
    router, datagrams = Router(), Datagrams()
    site = Site(router)
    site.noisy = False
    listening = reactor.listenTCP(0, site, interface=HERE)
    mapper = UPnP(reactor, datagrams, Random(1), Gateway(HERE, HERE))
    yield House(router, datagrams, mapper, listening.getHost().port)
    pytest_twisted.blockon(listening.stopListening())


def test_itIsAPortMapper(house: House) -> None:
    assert verifyObject(IPortMapper, house.mapper)


@pytest_twisted.ensureDeferred
async def test_aLeaseIsMadeRenewedAndGivenBack(house: House) -> None:
    lease = await house.asked(house.mapper.lease(5000, 8080, 7200))
    assert (lease.by, lease.internal, lease.external) == (
        "upnp",
        5000,
        makeAddress(OUTSIDE, 8080),
    )
    assert house.router.table["8080"]["NewInternalClient"] == HERE
    assert house.router.table["8080"]["NewLeaseDuration"] == "7200"
    again = await house.mapper.lease(5000, 8080, 7200)
    assert again == lease
    # The search is not made again.
    assert len(house.datagrams.ports) == 1
    assert (await house.mapper.holds(lease)) is True
    (await house.mapper.release(lease))
    assert house.router.table == {}
    assert (await house.mapper.holds(lease)) is False


@pytest_twisted.ensureDeferred
async def test_withoutAWishThePortIsChosen(house: House) -> None:
    lease = await house.asked(house.mapper.lease(5000, 0, 7200))
    assert lease.external.port >= 20000


@pytest_twisted.ensureDeferred
async def test_anotherHostsPortIsLeftAlone(house: House) -> None:
    house.router.lendTo("127.0.0.66", 8080)
    with pytest.raises(PortTaken):
        await house.asked(house.mapper.lease(5000, 8080, 7200))
    assert house.router.count("AddPortMapping") == 0


@pytest_twisted.ensureDeferred
async def test_aConflictThatTheRouterTellsIsATakenPort(house: House) -> None:
    house.router.faults["AddPortMapping"] = [718]
    with pytest.raises(PortTaken):
        await house.asked(house.mapper.lease(5000, 8080, 7200))


@pytest_twisted.ensureDeferred
async def test_aRouterThatSaysYesAndLendsItToAnotherIsNotBelieved(house: House) -> None:
    house.router.overwrites = True
    house.router.faults["GetSpecificPortMappingEntry"] = [714]
    house.router.lendTo("127.0.0.66", 8080)
    with pytest.raises(PortTaken):
        await house.asked(house.mapper.lease(5000, 8080, 7200))


@pytest_twisted.ensureDeferred
async def test_anotherHostsLeaseIsNotEndedByUs(house: House) -> None:
    lease = await house.asked(house.mapper.lease(5000, 8080, 7200))
    house.router.lendTo("127.0.0.66", 8080)
    assert (await house.mapper.holds(lease)) is False
    (await house.mapper.release(lease))
    assert house.router.count("DeletePortMapping") == 0


@pytest_twisted.ensureDeferred
async def test_aRouterWithPermanentLeasesOnlyIsAskedForOne(house: House) -> None:
    house.router.faults["AddPortMapping"] = [725]
    lease = await house.asked(house.mapper.lease(5000, 8080, 7200))
    assert lease.external.port == 8080
    assert house.router.table["8080"]["NewLeaseDuration"] == "0"


@pytest_twisted.ensureDeferred
async def test_aRouterThatWantsTheSamePortGetsIt(house: House) -> None:
    house.router.faults["AddPortMapping"] = [724]
    lease = await house.asked(house.mapper.lease(5000, 8080, 7200))
    assert lease.external.port == 5000


@pytest_twisted.ensureDeferred
async def test_otherFaultsAreTold(house: House) -> None:
    house.router.faults["AddPortMapping"] = [606]
    with pytest.raises(Refused, match="606"):
        await house.asked(house.mapper.lease(5000, 8080, 7200))


@pytest.mark.parametrize(
    "garbage", [b"", b"<html>Login</html>", b"x" * (LONGEST_DOCUMENT + 20000)], ids=len
)
@pytest_twisted.ensureDeferred
async def test_garbageIsNoAnswer(house: House, garbage: bytes) -> None:
    house.router.garbage = garbage
    with pytest.raises(PunchdError):
        await house.asked(house.mapper.ask())
    # What was found may have gone: it is searched again.
    house.router.garbage = None
    assert (await house.asked(house.mapper.ask())).external == OUTSIDE
    assert len(house.datagrams.ports) == 2


@pytest_twisted.ensureDeferred
async def test_aRouterThatLendsNothingIsNone(house: House) -> None:
    house.router.document = description()
    with pytest.raises(PunchdError, match="no service that lends ports"):
        await house.asked(house.mapper.ask())


@pytest_twisted.ensureDeferred
async def test_aSilentRouterIsGivenUpByWhoCancels(house: House) -> None:
    house.router.silent = True
    asking = house.mapper.ask()
    house.find()
    asking.cancel()
    with pytest.raises(CancelledError):
        (await asking)


@pytest.mark.parametrize("stalls", [True, False])
@pytest_twisted.ensureDeferred
async def test_whoCancelsWhileTheRouterAnswersHasCancelled(house: House, stalls: bool) -> None:
    house.router.silent, house.router.stalls = True, stalls
    asking = house.mapper.ask()
    house.find()
    await house.router.asking
    asking.cancel()
    with pytest.raises(CancelledError):
        (await asking)


@pytest_twisted.ensureDeferred
async def test_whatWasLentToWhoCancelledIsGivenBack(house: House) -> None:
    house.router.forgetsToAnswer = "AddPortMapping"
    asking = house.mapper.lease(5000, 0, 7200)
    house.find()
    await house.router.asking
    assert len(house.router.table) == 1
    asking.cancel()
    with pytest.raises(CancelledError):
        (await asking)
    await house.mapper.release(Lease("upnp", 5000, makeAddress("0.0.0.0", 0), 0.0))
    assert house.router.table == {}


@pytest_twisted.ensureDeferred
async def test_nothingIsGivenBackThatWasNeverAskedFor(house: House) -> None:
    await house.mapper.release(Lease("upnp", 5000, makeAddress("0.0.0.0", 0), 0.0))
    assert house.router.asked == []


@pytest_twisted.ensureDeferred
async def test_aRouterThatStopsInTheMidstOfAnAnswerIsGivenUp(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_PATIENCE", 0.3)
    house.router.stalls = True
    with pytest.raises(Unreachable, match="does not answer"):
        await house.asked(house.mapper.ask()).addTimeout(5, globalReactor)


@pytest_twisted.ensureDeferred
async def test_nobodyAnswersTheSearch(house: House) -> None:
    asking = house.mapper.ask()
    house.datagrams.advance(2)
    house.datagrams.advance(2)
    with pytest.raises(Unreachable):
        (await asking)
