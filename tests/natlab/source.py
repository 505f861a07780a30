"""
Services for peers to expose: whoever connects is told something.
"""

from __future__ import annotations

import itertools
import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from socket import socket
from types import TracebackType
from typing import Self


class _Telling:
    """
    Listens on a UNIX socket, which peers on every host of a lab can reach, from C{with} to its end.

    @ivar endpoint: the client endpoint string for it.
    """

    def __init__(self, path: Path) -> None:
        self.endpoint = f"unix:{path}"
        self.isOver = threading.Event()
        telling = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # Whoever has gone wants no more.
                with suppress(OSError):
                    telling.tell(self.request)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server = Server(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def tell(self, connection: socket) -> None:
        """
        Say what there is to be said.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.isOver.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Source(_Telling):
    """
    Gives some bytes.

    @ivar content: what everybody gets.
    @ivar goOn: while it is not set, everybody gets the first half alone.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path)
        self.content = content
        self.goOn = threading.Event()
        self.goOn.set()

    def tell(self, connection: socket) -> None:
        half = len(self.content) // 2
        connection.sendall(self.content[:half])
        while not self.goOn.wait(0.1):
            if self.isOver.is_set():
                return
        connection.sendall(self.content[half:])


class Ticks(_Telling):
    """
    Counts, a line each C{interval} seconds.
    """

    def __init__(self, path: Path, interval: float) -> None:
        super().__init__(path)
        self._interval = interval

    def tell(self, connection: socket) -> None:
        for number in itertools.count():
            connection.sendall(f"{number}\n".encode())
            if self.isOver.wait(self._interval):
                return


class Page(_Telling):
    """
    A page of the web, the same for every question.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path)
        self._content = content

    def tell(self, connection: socket) -> None:
        question = b""
        while b"\r\n\r\n" not in question:
            data = connection.recv(4096)
            if not data:
                return
            question += data
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(self._content)}\r\n\r\n"
        connection.sendall(head.encode() + self._content)
