"""
A peer within a program: python inside.py JOIN STATE, where STATE is a folder in which bob is
pinned.
"""

import sys

from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react

from punchd.endpoints import PunchdClientEndpoint, PunchdServerEndpoint, makePeer
from punchd.values.joining import JoinAddress


class Doorman(Protocol):
    """
    Tells those who call who they are.
    """

    def connectionMade(self):
        self.transport.write(f"you are {self.transport.getPeer()}\n".encode())
        self.transport.loseConnection()


async def main(reactor, join, state):
    peer = makePeer(reactor, state, "alice", [JoinAddress.parse(join)])
    peer.startService()
    while not peer.isReady:
        await deferLater(reactor, 0.05)
    print(f"this is {peer.address}")

    door = await PunchdServerEndpoint(peer, "door").listen(Factory.forProtocol(Doorman))
    knocking = await connectProtocol(PunchdClientEndpoint(peer, "bob", "echo"), Protocol())
    print(f"connected to {knocking.transport.getPeer()}")
    knocking.transport.abortConnection()
    await door.stopListening()
    await peer.stopService()


react(main, sys.argv[1:])
