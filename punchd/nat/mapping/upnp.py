"""
UPnP-IGD: ports from a router that speaks HTTP and XML.

Unlike the other two protocols it has no clock that shows a restart; instead each lease can be
looked up. And routers differ in what they do when a port is another host's: so it is looked up
before it is asked for, and afterwards, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from punchd.errors import PortTaken, PunchdError, Refused
from punchd.interfaces import IPortMapper
from punchd.nat.gateway import Gateway
from punchd.nat.mapping import igd
from punchd.nat.mapping.exchange import exchange
from punchd.nat.mapping.http import fetch
from punchd.values.addresses import makeAddress
from punchd.values.leases import Lease, RouterFacts

#: Seconds after each search until the next: a device waits up to one before it answers.
_SEARCHES = (1.5, 2.0)

#: The lowest port that is chosen where the router does not choose.
_LOWEST = 20000


@implementer(IPortMapper)
@define(eq=False)
class UPnP:
    """
    Made for one gateway.

    @ivar _service: what lends ports there, once it is found.
    @ivar _chosen: the router's ports that were asked for last, by the ports of this host.
    """

    name = "upnp"

    _reactor: Any
    _datagrams: Any
    _random: Random
    _gateway: Gateway
    _service: igd.Service | None = field(default=None, init=False)
    _chosen: dict[int, int] = field(factory=dict, init=False)

    def ask(self) -> Deferred[RouterFacts]:
        return Deferred.fromCoroutine(self._asked())

    async def _asked(self) -> RouterFacts:
        try:
            service = self._service or await self._find()
            results = await self._do(service, "GetExternalIPAddress", {})
        except Refused:
            raise
        except PunchdError:
            # It may have moved to another port with a restart.
            self._service = None
            raise
        return RouterFacts(igd.readAddress(results))

    async def _find(self) -> igd.Service:
        router = self._gateway.host
        place = await exchange(
            self._datagrams,
            (router, igd.SEARCH_PORT),
            igd.searchQuestion(router),
            lambda datagram: igd.readSearchAnswer(datagram, router),
            _SEARCHES,
            isConnected=False,
        )
        document = await fetch(self._reactor, router, place)
        self._service = igd.readDescription(document, place, router)
        return self._service

    async def _found(self) -> igd.Service:
        if self._service is None:
            await self._asked()
        assert self._service is not None
        return self._service

    def lease(self, internal: int, external: int, lifetime: float) -> Deferred[Lease]:
        return Deferred.fromCoroutine(self._lease(internal, external, round(lifetime)))

    async def _lease(self, internal: int, wanted: int, lifetime: int) -> Lease:
        external = wanted or self._random.randint(_LOWEST, 65535)
        facts = await self._asked()
        service = await self._found()
        if not await self._isFree(service, external, internal):
            raise _taken(external)
        try:
            await self._add(service, internal, external, lifetime)
        except igd.Fault as fault:
            if fault.code == igd.ONLY_PERMANENT:
                # It ends when we give it back, or with the router's memory.
                await self._add(service, internal, external, 0)
            elif fault.code == igd.SAME_PORT_NEEDED and external != internal:
                external = internal
                if not await self._isFree(service, external, internal):
                    raise _taken(external) from None
                await self._add(service, internal, external, lifetime)
            elif fault.code in igd.CONFLICTS:
                raise _taken(external) from None
            else:
                raise
        if await self._entry(service, external) != self._own(internal):
            raise _taken(external)
        assert facts.external is not None
        return Lease(self.name, internal, makeAddress(facts.external, external), lifetime)

    def _own(self, internal: int) -> igd.Entry:
        return igd.Entry(self._gateway.own, internal)

    async def _isFree(self, service: igd.Service, external: int, internal: int) -> bool:
        return await self._entry(service, external) in (None, self._own(internal))

    async def _add(self, service: igd.Service, internal: int, external: int, lifetime: int) -> None:
        self._chosen[internal] = external
        await self._do(
            service,
            "AddPortMapping",
            {
                **_key(external),
                "NewInternalPort": internal,
                "NewInternalClient": self._gateway.own,
                "NewEnabled": 1,
                "NewPortMappingDescription": "punchd",
                "NewLeaseDuration": lifetime,
            },
        )

    async def _entry(self, service: igd.Service, external: int) -> igd.Entry | None:
        try:
            results = await self._do(service, "GetSpecificPortMappingEntry", _key(external))
        except igd.Fault as fault:
            if fault.code == igd.NO_SUCH_ENTRY:
                return None
            raise
        return igd.readEntry(results)

    def holds(self, lease: Lease) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._holds(lease))

    async def _holds(self, lease: Lease) -> bool:
        facts = await self._asked()
        entry = await self._entry(await self._found(), lease.external.port)
        return facts.external == lease.external.host and entry == self._own(lease.internal)

    def release(self, lease: Lease) -> Deferred[None]:
        return Deferred.fromCoroutine(self._release(lease))

    async def _release(self, lease: Lease) -> None:
        # Whoever has cancelled a question for any port does not know which one it was.
        port = lease.external.port or self._chosen.get(lease.internal, 0)
        if not port:
            return
        service = await self._found()
        # Some routers let anybody delete anything: what is not ours must not be ended by us.
        if await self._entry(service, port) == self._own(lease.internal):
            await self._do(service, "DeletePortMapping", _key(port))

    async def _do(
        self, service: igd.Service, action: str, arguments: Mapping[str, str | int]
    ) -> dict[str, str]:
        headers = {
            "Content-Type": 'text/xml; charset="utf-8"',
            "SOAPAction": f'"{service.kind}#{action}"',
        }
        question = igd.soapQuestion(service, action, arguments)
        router = self._gateway.host
        document = await fetch(self._reactor, router, service.control, headers, question)
        return igd.readSoapAnswer(document, action)


def _taken(external: int) -> PortTaken:
    return PortTaken(f"the router has lent port {external} to another host")


def _key(external: int) -> dict[str, str | int]:
    """
    What names a mapping (WANIPConnection:1, 2.4.16).
    """
    return {"NewRemoteHost": "", "NewExternalPort": external, "NewProtocol": "TCP"}
