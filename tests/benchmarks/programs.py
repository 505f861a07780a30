"""
Small programs that the benchmarks run on hosts of the lab: the standard library alone, as text.
"""

#: Says back what it hears, on the port in its argument.
ECHO = """
import socket, sys, threading
def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
listener = socket.create_server(("", int(sys.argv[1])), backlog=64)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""

#: Connects to HOST PORT, RUNS times with a pause, sends a byte, waits for it, and prints for each
#: run the seconds until connect() returned and until the byte came back, as JSON.
TIME_ECHO = """
import json, socket, sys, time
host, port, runs, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
for _ in range(runs):
    began = time.monotonic()
    connection = socket.create_connection((host, port), 15)
    connected = time.monotonic() - began
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    print(json.dumps([connected, time.monotonic() - began]), flush=True)
    connection.close()
    time.sleep(pause)
"""

#: Sends BYTES zero bytes to everybody who connects to PORT, as fast as it can.
SOURCE = """
import socket, sys, threading
piece = bytes(1 << 20)
def serve(connection):
    left = int(sys.argv[2])
    with connection:
        try:
            while left > 0:
                left -= connection.send(piece[:left])
        except ConnectionError:
            pass
listener = socket.create_server(("", int(sys.argv[1])), backlog=256)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""

#: The same, with one thread for all connections: a hundred would wait for the interpreter more than
#: for their connections.
SOURCES = """
import selectors, socket, sys
piece, left, watched = memoryview(bytes(1 << 20)), {}, selectors.DefaultSelector()
listener = socket.create_server(("", int(sys.argv[1])), backlog=256)
watched.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in watched.select():
        connection = key.fileobj
        if connection is listener:
            connection, _ = listener.accept()
            connection.setblocking(False)
            left[connection] = int(sys.argv[2])
            watched.register(connection, selectors.EVENT_WRITE)
            continue
        try:
            left[connection] -= connection.send(piece[:left[connection]])
        except BlockingIOError:
            continue
        except OSError:
            left[connection] = 0
        if not left[connection]:
            del left[connection]
            watched.unregister(connection)
            connection.close()
"""

#: Receives everything from HOST PORT; prints bytes and seconds as JSON.
SINK = """
import json, socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
buffer, count = bytearray(1 << 20), 0
began = None
while read := connection.recv_into(buffer):
    began = began or time.monotonic()
    count += read
print(json.dumps([count, time.monotonic() - began]))
"""

#: Receives BYTES in all from HOST PORT, over COUNT connections at once; prints bytes, seconds, and
#: how many connections broke, as JSON. The time begins before they are opened, as the first ones
#: have sent much when the last one is there.
SINKS = """
import json, selectors, socket, sys, time
host, port, count, total = sys.argv[1], *map(int, sys.argv[2:5])
watched = selectors.DefaultSelector()
buffer, received, broken, began = bytearray(1 << 20), 0, 0, time.monotonic()
for _ in range(count):
    try:
        watched.register(socket.create_connection((host, port), 30), selectors.EVENT_READ)
    except OSError:
        broken += 1
while received < total and watched.get_map():
    for key, _ in watched.select():
        try:
            read = key.fileobj.recv_into(buffer)
        except OSError:
            read, broken = 0, broken + 1
        if read:
            received += read
        else:
            watched.unregister(key.fileobj)
print(json.dumps([received, time.monotonic() - began, broken]))
"""

#: Reads HOST PORT, BYTES in a second, until it is killed.
PACED_SINK = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
buffer, received, began = bytearray(1 << 18), 0, time.monotonic()
while True:
    received += connection.recv_into(buffer) or sys.exit("the source has ended")
    time.sleep(max(0, began + received / int(sys.argv[3]) - time.monotonic()))
"""

#: Asks HOST PORT, an echo, 64 bytes at a time for SECONDS, and prints the seconds that each answer
#: took as JSON.
REQUESTS = """
import json, socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 15)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def ask():
    began = time.perf_counter()
    connection.sendall(bytes(64))
    left = 64
    while left:
        left -= len(connection.recv(left)) or sys.exit("the echo has ended")
    return time.perf_counter() - began
for _ in range(20):
    ask()
until, times = time.monotonic() + float(sys.argv[3]), []
while time.monotonic() < until:
    times.append(ask())
print(json.dumps(times))
"""
