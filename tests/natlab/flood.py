"""
A stranger, in a host's namespace: connects to an address again and again, and sends what is no
punchd. The standard library alone.

Arguments: address, port, and what to send. Standard output: a line when the first connection is
there, or refused; at the end of standard input, how many connections there were.
"""

from __future__ import annotations

import select
import socket
import sys

#: At the same time.
_WIDTH = 16


def main() -> None:
    """
    Flood until standard input ends.
    """
    address, port, garbage = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
    poll = select.epoll()
    poll.register(0, select.EPOLLIN)
    dialling: dict[int, socket.socket] = {}
    connected = tried = 0
    while True:
        while len(dialling) < _WIDTH:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, port))
            dialling[one.fileno()] = one
            poll.register(one.fileno(), select.EPOLLOUT)
        for descriptor, _ in poll.poll(1.0):
            if descriptor == 0:
                sys.stdout.write(f"{connected}\n")
                return
            with dialling.pop(descriptor) as done:
                tried += 1
                if done.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    connected += 1
                    done.send(garbage)
            if tried == 1:
                sys.stdout.write("\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
