"""
What C{twistd} can run: the server and the peer.
"""

from twisted.application.service import ServiceMaker

server = ServiceMaker(
    "punchd server",
    "punchd.tap.server",
    "Introduces peers behind NATs to each other, for direct TCP connections.",
    "punchd-server",
)
peer = ServiceMaker(
    "punchd peer",
    "punchd.tap.peer",
    "Offers services to other peers, and reaches theirs, by direct TCP connections.",
    "punchd-peer",
)
