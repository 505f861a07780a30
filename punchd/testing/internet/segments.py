"""
What goes over the wires of the in-memory internet.
"""

from __future__ import annotations

from attrs import frozen

from punchd.values.addresses import Address, makeAddress, showAddress

#: Routers that a segment passes before it is taken for lost, unless its sender says otherwise.
HOPS = 64


@frozen
class Segment:
    """
    A TCP segment (RFC 9293, 3.1).

    @ivar number: the sequence number of its first octet, or of its SYN or FIN.
    @ivar acknowledges: the next octet that its sender expects; C{None} without ACK.
    @ivar hops: how many routers it may pass still (the TTL).
    """

    source: Address
    destination: Address
    number: int
    acknowledges: int | None = None
    syn: bool = False
    fin: bool = False
    rst: bool = False
    data: bytes = b""
    hops: int = HOPS

    @property
    def opens(self) -> bool:
        """
        Whether somebody dials with it.
        """
        return self.syn and self.acknowledges is None

    def refusal(self) -> Segment | None:
        """
        The reset with which a closed port, or a router in its place, answers (RFC 9293, 3.10.7.1);
        C{None} to a reset.
        """
        if self.rst:
            return None
        if self.acknowledges is not None:
            return Segment(self.destination, self.source, self.acknowledges, rst=True)
        length = len(self.data) + self.syn + self.fin
        return Segment(self.destination, self.source, 0, self.number + length, rst=True)

    def line(self) -> str:
        """
        The segment in a few words, for people who look at what went over the wire.
        """
        flags = [name for name in ("syn", "fin", "rst") if getattr(self, name)]
        flags += ["ack"] * (self.acknowledges is not None)
        return (
            f"{showAddress(self.source)} > {showAddress(self.destination)}: "
            f"{' '.join(flags)}" + (f", {len(self.data)} bytes" if self.data else "")
        )


@frozen
class Complaint:
    """
    An ICMP error (RFC 792).

    @ivar source: whose it is.
    @ivar about: the segment that could not be delivered, as it was there.
    @ivar number: what C{connect} fails with because of it, from C{errno}.
    """

    source: Address
    about: Segment
    number: int

    @property
    def destination(self) -> Address:
        """
        To whom it goes: the sender of what it is about.
        """
        return self.about.source

    def line(self) -> str:
        """
        See L{Segment.line}.
        """
        return f"{self.source.host} complains about {self.about.line()}"


#: Whatever goes over a wire.
Packet = Segment | Complaint


def withPort(address: Address, port: int) -> Address:
    """
    Another port of the same host.
    """
    return makeAddress(address.host, port)
