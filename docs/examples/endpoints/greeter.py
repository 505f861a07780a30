"""
Two peers that call each other's functions, by AMP: python greeter.py serve [ENDPOINT] on one of
them, python greeter.py call [ENDPOINT] on the other one.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.amp import AMP, Command, Unicode


class Greet(Command):
    arguments = [(b"greeting", Unicode())]
    response = [(b"answer", Unicode())]


class Greeter(AMP):
    @Greet.responder
    def greet(self, greeting):
        caller = self.transport.getPeer()
        # The name is that of our pin, and the caller has proven to have its key.
        return {"answer": f"{greeting} to you, {caller.name} with the key {caller.peerID}"}


async def serve(reactor, endpoint="punchd:greeter"):
    await serverFromString(reactor, endpoint).listen(Factory.forProtocol(Greeter))
    print("the greeter is there", flush=True)
    await Deferred()


async def call(reactor, endpoint="punchd:bob/greeter"):
    greeter = await connectProtocol(clientFromString(reactor, endpoint), AMP())
    print(f"connected to {greeter.transport.getPeer().name}")
    answer = await greeter.callRemote(Greet, greeting="Good morning")
    print(answer["answer"])
    greeter.transport.loseConnection()


react({"serve": serve, "call": call}[sys.argv[1]], sys.argv[2:])
