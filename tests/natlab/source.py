"""
A service for peers to expose: whoever connects gets some bytes.
"""

from __future__ import annotations

import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class Source:
    """
    Listens on a UNIX socket, which peers on every host of a lab can reach, from C{with} to its end.

    @ivar endpoint: the client endpoint string for it.
    @ivar content: what everybody gets.
    @ivar goOn: while it is not set, everybody gets the first half alone.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.endpoint = f"unix:{path}"
        self.content = content
        self.goOn = goOn = threading.Event()
        self.goOn.set()
        half = len(content) // 2

        class Giving(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # Whoever has gone wants no more.
                with suppress(OSError):
                    self.request.sendall(content[:half])
                    goOn.wait()
                    self.request.sendall(content[half:])

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server = Server(str(path), Giving)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.goOn.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
