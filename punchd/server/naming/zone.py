"""
What is answered to whom asks for a name in the zone of the peers.

Everything follows from the question and from who is online at that moment; nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from attrs import frozen
from twisted.names import dns

from punchd.errors import ConfigurationError
from punchd.server.naming.directory import Entry
from punchd.values.naming import asciiName

#: Seconds that an answer about a peer may be kept by who asked.
TTL = 30

#: Seconds that the names of the zone itself may be kept.
STABLE_TTL = 3600

# What secondary servers would go by, if there were any (RFC 1035, 3.3.13): refresh, retry, expire.
_REFRESH, _RETRY, _EXPIRE = 3600, 600, 86400

# Types that ask for something else than records (RFC 6895, 3.1), but for ANY; and OPT.
_META = frozenset({0, dns.OPT, *range(128, 255)})

#: The longest zone: one in which every label and every service has a name of 253 characters at
#: most (RFC 1035, 2.3.4).
MOST_ZONE = 253 - len(f"_{'s' * 62}._tcp.{'p' * 63}.")

Record = (
    dns.Record_A
    | dns.Record_AAAA
    | dns.Record_HINFO
    | dns.Record_NS
    | dns.Record_SOA
    | dns.Record_SRV
    | dns.Record_TXT
)


@frozen
class Question:
    """
    @ivar name: its labels with dots between them, as they were asked; none has a dot in it.
    @ivar type: the number of the record type.
    @ivar cls: the number of the class.
    """

    name: bytes
    type: int
    cls: int = dns.IN


@frozen
class Reply:
    """
    @ivar code: the RCODE.
    @ivar isAuthoritative: whether it is about the zone.
    """

    code: int = dns.OK
    isAuthoritative: bool = False
    answers: tuple[dns.RRHeader, ...] = ()
    authority: tuple[dns.RRHeader, ...] = ()
    additional: tuple[dns.RRHeader, ...] = ()


REFUSED = Reply(dns.EREFUSED)
NOT_IMPLEMENTED = Reply(dns.ENOTIMP)


def checkedZone(text: str) -> str:
    """
    The zone that C{text} names, in its ASCII form.

    @raise ConfigurationError: when it names none, or one that is too long.
    """
    zone = asciiName(text, "zone")
    if len(zone) > MOST_ZONE:
        raise ConfigurationError(f"a zone has at most {MOST_ZONE} characters, not {len(zone)}")
    return zone


class Zone:
    """
    The peers' zone. Made by the server, whose hosts serve it.

    @ivar name: as text.
    @ivar ttl: seconds that answers about peers may be kept.
    @ivar server: the name of the server itself: what the zone's NS record says.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[str], Entry | None],
        seconds: Callable[[], float],
        hosts: Sequence[str],
        ttl: int = TTL,
    ) -> None:
        """
        @param name: as L{checkedZone} returns it.
        @param find: tells what is known of a peer's name in lower case.
        @param seconds: the time; the zone's serial number goes by it.
        @param hosts: names and literal addresses of the server.
        """
        self.name = name
        self.server = _serverIn(name, hosts)
        self._find = find
        self._seconds = seconds
        self.ttl = ttl
        self._origin = name.encode("ascii")
        before = self.server.removesuffix(f".{name}")
        self._own = before if before != self.server else ""
        self._literals = [host for host in hosts if _isLiteral(host)] if self._own else []

    def isReserved(self, name: str) -> bool:
        """
        Whether C{name} is the server's own in the zone.
        """
        return bool(self._own) and name.lower() == self._own

    def line(self) -> str:
        """
        What the operator has to see to, elsewhere in the DNS.
        """
        where = "" if not self._own else ", ".join(self._literals) or "say --host ADDRESS, too"
        return f"the zone {self.name} has the name server {self.server}" + (
            f" ({where})" if where else ""
        )

    def answer(self, question: Question) -> Reply:
        """
        The reply to C{question}.
        """
        asked = question.name.lower()
        isInside = asked == self._origin or asked.endswith(b"." + self._origin)
        if not isInside or question.cls not in (dns.IN, dns.ANY):
            return REFUSED
        if question.type in _META:
            return NOT_IMPLEMENTED
        below = asked[: -len(self._origin)].split(b".")[:-1]
        found = self._records(below)
        if found is None:
            return self._negative(question, dns.ENAME)
        records, ttl = found
        if question.type == dns.ALL_RECORDS:
            # Whoever wants everything gets next to nothing (RFC 8482, 4.2).
            records = [dns.Record_HINFO(b"RFC8482", b"")]
        else:
            records = [record for record in records if question.type == record.TYPE]
        if not records:
            return self._negative(question, dns.OK)
        return Reply(
            isAuthoritative=True,
            answers=tuple(_header(question.name, record, ttl) for record in records),
            additional=self._additional(records[0], below),
        )

    def _records(self, below: list[bytes]) -> tuple[list[Record], int] | None:
        """
        All records of a name, and how long they hold; C{None} if there is no such name. A name may
        have none and exist, for those below it (RFC 8020).

        @param below: the labels that stand before the zone's.
        """
        if not below:
            return [self._soa(), dns.Record_NS(self.server)], STABLE_TTL
        try:
            name = below[-1].decode("ascii")
        except UnicodeDecodeError:
            return None
        if self._own and name == self._own:
            return (_addresses(self._literals), STABLE_TTL) if len(below) == 1 else None
        if len(below) > 3 or (len(below) > 1 and below[-2] != b"_tcp"):
            return None
        entry = self._find(name)
        if entry is None:
            return None
        if len(below) == 1:
            return [*_addresses(entry.hosts), *self._texts(entry)], self.ttl
        if len(below) == 2:
            return ([], self.ttl) if entry.services else None
        service = below[0].decode("ascii", "replace")
        port = entry.services.get(service[1:]) if service.startswith("_") else None
        if port is None:
            return None
        return [dns.Record_SRV(0, 0, port, f"{name}.{self.name}")], self.ttl

    def _texts(self, entry: Entry) -> list[Record]:
        texts: list[Record] = [dns.Record_TXT(str(entry.peerID).encode("ascii"))]
        if entry.goneAt is not None:
            seconds = max(0, int(self._seconds() - entry.goneAt))
            texts.append(dns.Record_TXT(f"stale={seconds}".encode("ascii")))
        return texts

    def _additional(self, record: Record, below: list[bytes]) -> tuple[dns.RRHeader, ...]:
        """
        Where that is to be found to which a record leads, so that nobody has to ask.
        """
        if isinstance(record, dns.Record_SRV):
            name = below[-1].decode("ascii")
            entry = self._find(name)
            target, ttl = f"{name}.{self.name}", self.ttl
            hosts: Sequence[str] = () if entry is None else entry.hosts
        elif isinstance(record, dns.Record_NS):
            target, ttl, hosts = self.server, STABLE_TTL, self._literals
        else:
            return ()
        return tuple(_header(target.encode("ascii"), one, ttl) for one in _addresses(hosts))

    def _negative(self, question: Question, code: int) -> Reply:
        # The zone's name as it was asked, for the sake of compression.
        origin = question.name[-len(self._origin) :]
        soa = _header(origin, self._soa(), self.ttl)
        return Reply(code, isAuthoritative=True, authority=(soa,))

    def _soa(self) -> dns.Record_SOA:
        # Who asks later never sees a smaller number, modulo 2**32 (RFC 1982).
        return dns.Record_SOA(
            mname=self.server,
            rname=f"hostmaster.{self.name}",
            serial=int(self._seconds()) & 0xFFFFFFFF,
            refresh=_REFRESH,
            retry=_RETRY,
            expire=_EXPIRE,
            # How long nobody may believe in what is not there (RFC 2308, 4).
            minimum=self.ttl,
        )


def _header(name: bytes, record: Record, ttl: int) -> dns.RRHeader:
    return dns.RRHeader(name, record.TYPE, dns.IN, ttl, record, auth=True)


def _addresses(hosts: Sequence[str]) -> list[Record]:
    return [dns.Record_AAAA(host) if ":" in host else dns.Record_A(host) for host in hosts]


def _serverIn(zone: str, hosts: Sequence[str]) -> str:
    """
    The name of the name server: the first of the server's names that can serve, or one in the zone.
    """
    for host in hosts:
        name = host.removesuffix(".").lower()
        before = name.removesuffix(f".{zone}")
        # One in the zone needs addresses, and must not be in the way of names below it.
        canServe = before == name or ("." not in before and any(map(_isLiteral, hosts)))
        if not _isLiteral(host) and "." in name and name != zone and canServe:
            return name
    return f"ns.{zone}"


def _isLiteral(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
