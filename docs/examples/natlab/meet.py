"""
A host behind a NAT, a public one, and how the one looks to the other. To be run as root.
"""

import sys

from punchd.testing.natlab import NatLab

SERVER = """
import socket
listening = socket.create_server(("", 7000))
print("ready", flush=True)
connection, (host, port) = listening.accept()
connection.sendall(f"{host}:{port}".encode())
"""

CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 7000), source_address=("", 40000))
print(connection.recv(100).decode())
"""

with NatLab(delay=0.025) as lab:
    server = lab.addPublic("server")
    alice = lab.addHost("alice", "shifted")
    listening = server.popen([sys.executable, "-c", SERVER], stdout=-1)
    listening.stdout.readline()
    seen = alice.run([sys.executable, "-c", CLIENT, server.address]).stdout.strip()
    print(f"{alice.address}:40000 is seen as {seen}")
