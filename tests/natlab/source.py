"""
A service for peers to expose: whoever connects gets a number of bytes.
"""

from __future__ import annotations

import socketserver
import threading
from pathlib import Path
from types import TracebackType


class Source:
    """
    Listens on a UNIX socket, which peers on every host of a lab can reach, from C{with} to its end.

    @ivar endpoint: the client endpoint string for it.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.endpoint = f"unix:{path}"

        class Giving(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.sendall(bytes(size))

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
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
