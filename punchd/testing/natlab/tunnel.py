"""
The program that holds packets back: distance, for a network without any.

It runs by itself, as a script in the namespace of the lab's core, and therefore
imports only the standard library.  The core sends every packet between two
sites into the TUN device which this program reads; each is written back when it
is due, and the core then routes it on.  (The kernel's own way, the netem queue,
is missing from many kernels.)

Arguments: the name of the TUN device, and the largest random extra delay in
seconds.  Standard input: lines C{address seconds}, the access delay of a site's
address; each is answered by an empty line.  A packet's delay is the sum of those
of its source and destination.  The program ends when standard input does.
"""

from __future__ import annotations

import fcntl
import gc
import heapq
import os
import random
import select
import socket
import struct
import sys
import time

# From linux/if_tun.h, which the standard library does not carry.
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_TUN_F_CSUM = 0x01
_TUN_F_TSO4 = 0x02
_TUN_F_TSO6 = 0x04

_VNET = 10  # bytes of struct virtio_net_hdr before each packet
_SOURCE = slice(_VNET + 12, _VNET + 16)  # RFC 791, section 3.1
_DESTINATION = slice(_VNET + 16, _VNET + 20)
_SOURCE6 = slice(_VNET + 8, _VNET + 24)  # RFC 8200, section 3
_DESTINATION6 = slice(_VNET + 24, _VNET + 40)
_LARGEST = _VNET + 65536
_BATCH = 32  # packets read in a row before those that are due get their turn


def openTun(name: str) -> int:
    """
    Create the TUN device C{name} in this namespace; the descriptor of its
    other side.

    Packets come with a C{virtio_net_hdr}, and the device claims to do checksums
    and segmentation.  The kernel hence hands over what a local TCP sent as it
    is, with a checksum yet to be filled in and up to 64 kB at once, and takes it
    back in the same state: nothing here has to touch a packet, and a stream
    costs one system call in forty segments.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
    return descriptor


def hold(tun: int, jitter: float) -> None:
    """
    Pass packets on, each at its time, until standard input ends.

    @param jitter: The most that is added to a packet's delay, at random;
        packets from one address to another keep their order all the same.
    """
    delays: dict[bytes, float] = {}
    last: dict[bytes, float] = {}
    held: list[tuple[float, int, bytes]] = []
    order = 0
    control = b""
    inputs = [tun, 0]
    clock = time.monotonic
    while True:
        now = clock()
        while held and held[0][0] <= now:
            try:
                os.write(tun, heapq.heappop(held)[2])
            except OSError:
                # A malformed packet, or the device going down: a wire loses it.
                continue
        timeout = max(0.0, held[0][0] - clock()) if held else None
        readable = select.select(inputs, (), (), timeout)[0]
        if tun in readable:
            for _ in range(_BATCH):
                try:
                    packet = os.read(tun, _LARGEST)
                except BlockingIOError:
                    break
                now = clock()
                if packet[_VNET] >> 4 == 6:
                    source, destination = packet[_SOURCE6], packet[_DESTINATION6]
                else:
                    source, destination = packet[_SOURCE], packet[_DESTINATION]
                due = now + delays.get(source, 0.0) + delays.get(destination, 0.0)
                if jitter:
                    path = source + destination
                    due += random.uniform(0.0, jitter)
                    last[path] = due = max(due, last.get(path, 0.0))
                # The order keeps packets that are due together in sequence.
                order += 1
                heapq.heappush(held, (due, order, packet))
        if 0 in readable:
            data = os.read(0, 4096)
            if not data:
                return
            *lines, control = (control + data).split(b"\n")
            for line in lines:
                address, seconds = line.decode().split()
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                delays[socket.inet_pton(family, address)] = float(seconds)
                os.write(1, b"\n")


def main() -> None:
    """
    Open the device, say so with an empty line, and hold packets.
    """
    tun = openTun(sys.argv[1])
    try:
        # Before everything that is merely being tested: a late wake-up would
        # show as distance.  It sleeps in between, so nobody starves.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        os.nice(-20)
    gc.disable()  # no cycles are made here, and a collection takes milliseconds
    os.write(1, b"\n")
    hold(tun, float(sys.argv[2]))


if __name__ == "__main__":
    main()
