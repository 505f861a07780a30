"""
A web site that nobody but your peers can see: python webserver.py [ENDPOINT]
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import Site


class Hello(Resource):
    isLeaf = True

    def render_GET(self, request):
        caller = request.getClientAddress()
        return f"Hello, {caller.name}!\n".encode()


async def main(reactor, endpoint="punchd:web"):
    port = await serverFromString(reactor, endpoint).listen(Site(Hello()))
    print(f"{endpoint.partition(':state')[0]} is served by {port.getHost().name}", flush=True)
    await Deferred()


react(main, sys.argv[1:])
