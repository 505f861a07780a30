"""
A program that opens and observes TCP connections inside a lab's namespace.

It imports only the standard library, reads one JSON object a line and answers
each with one.  Whatever it opens stays open until it is told to release it,
since a NAT may forget a mapping whose connection is closed.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Program:
    """
    The commands, one method each.
    """

    def __init__(self) -> None:
        self.open: list[socket.socket] = []
        self.dialling: dict[int, tuple[socket.socket, float]] = {}
        self.watching: tuple[socket.socket, int] | None = None

    def _bound(self, port: int, ipv6: bool = False) -> socket.socket:
        """
        A socket on a port that others may use as well.
        """
        made = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
        if ipv6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("", port))
        self.open.append(made)
        return made

    def serve(self, port: int, ipv6: bool = False) -> None:
        """
        Tell everybody who connects the address that they come from.
        """
        listening = self._bound(port, ipv6)
        listening.listen(1024)

        threading.Thread(target=self._answer, args=(listening,), daemon=True).start()

    def _answer(self, listening: socket.socket) -> None:
        """
        Serve until the listening socket is closed.
        """
        waiting = select.poll()
        waiting.register(listening, select.POLLIN)
        connections: dict[int, socket.socket] = {}
        while True:
            for descriptor, _ in waiting.poll():
                if descriptor in connections:
                    # The other end has nothing to say but that it leaves.
                    waiting.unregister(descriptor)
                    connections.pop(descriptor).close()
                    continue
                try:
                    connection, address = listening.accept()
                except OSError:
                    return
                connections[connection.fileno()] = connection
                waiting.register(connection, select.POLLIN)
                connection.sendall(json.dumps(address[:2]).encode() + b"\n")

    def start(self, port: int, to: list[Any]) -> int:
        """
        Begin to connect from a port; the number of the attempt.
        """
        dialled = self._bound(port, ":" in to[0])
        dialled.setblocking(False)
        began = time.monotonic()
        dialled.connect_ex((to[0], to[1]))
        self.dialling[dialled.fileno()] = (dialled, began)
        return dialled.fileno()

    def finish(self, attempt: int, timeout: float) -> dict[str, Any]:
        """
        Wait for the end of an attempt.
        """
        dialled, began = self.dialling.pop(attempt)
        waiting = select.poll()
        waiting.register(dialled, select.POLLOUT)
        if not waiting.poll(timeout * 1000):
            outcome = "timeout"
        else:
            error = dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            outcome = errno.errorcode[error] if error else "connected"
        took = time.monotonic() - began
        if outcome != "connected":
            dialled.close()
        return {"outcome": outcome, "took": took}

    def dial(self, port: int, to: list[Any], timeout: float) -> dict[str, Any]:
        """
        Connect, and wait for the end of the attempt.
        """
        return self.finish(self.start(port, to), timeout)

    def observe(self, ports: list[int], to: list[list[Any]]) -> list[list[Any]]:
        """
        Connect from each port to each of several addresses that L{serve}, all
        at once; for each port, what each of them saw.
        """
        attempts = [[self.start(port, each) for each in to] for port in ports]
        return [[self._seen(attempt) for attempt in each] for each in attempts]

    def _seen(self, attempt: int) -> Any:
        """
        What the server of an attempt saw.
        """
        dialled = self.dialling[attempt][0]
        result = self.finish(attempt, 5.0)
        if result["outcome"] != "connected":
            raise OSError(result["outcome"])
        dialled.settimeout(5.0)
        with dialled.makefile() as lines:
            return json.loads(lines.readline())

    def watch(self, port: int) -> None:
        """
        Look for a SYN to a port, on the wire: before any firewall.
        """
        sniffing = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        sniffing.settimeout(5.0)
        self.watching = (sniffing, port)

    def watched(self) -> list[Any]:
        """
        The address that the SYN came from.
        """
        assert self.watching is not None
        sniffing, port = self.watching
        with sniffing:
            while True:
                packet = sniffing.recv(65535)
                tcp = packet[(packet[0] & 15) * 4 :]
                isSyn = packet[9] == socket.IPPROTO_TCP and tcp[13] & 0x12 == 0x02
                if isSyn and int.from_bytes(tcp[2:4], "big") == port:
                    return [socket.inet_ntoa(packet[12:16]), int.from_bytes(tcp[:2], "big")]

    def refusal(self, to: list[Any], timeout: float) -> str:
        """
        What answers a SYN: "drop", "reset" or "icmp", or "connected".
        """
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
            outcome = self.dial(0, to, timeout)["outcome"]
            icmp.settimeout(0.01)
            try:
                packet = icmp.recv(65535)
            except TimeoutError:
                packet = b""
        # Destination unreachable (RFC 792).
        if packet and packet[(packet[0] & 15) * 4] == 3:
            return "icmp"
        return {"timeout": "drop", "ECONNREFUSED": "reset"}.get(outcome, str(outcome))

    def release(self) -> None:
        """
        Close everything.
        """
        while self.open:
            # Shutting down wakes the thread that serves.
            closing = self.open.pop()
            with suppress(OSError):
                closing.shutdown(socket.SHUT_RDWR)
            closing.close()


def main() -> None:
    """
    Obey standard input.
    """
    # Hundreds of connections at once are more than what a shell allows.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    program = Program()
    for line in sys.stdin:
        request = json.loads(line)
        command: Callable[..., Any] = getattr(program, request.pop("command"))
        try:
            answer = {"answer": command(**request)}
        except OSError as error:
            answer = {"error": repr(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
