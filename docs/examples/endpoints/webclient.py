"""
Fetch a page from a peer's web site: python webclient.py http://web.bob/ [ARGUMENTS]
"""

import sys

from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react
from twisted.web.client import Agent, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


@implementer(IAgentEndpointFactory)
class PeersByName:
    """
    Takes the host C{SERVICE.PEER} for a service of a peer.
    """

    def __init__(self, reactor, arguments=""):
        self.reactor = reactor
        self.arguments = arguments

    def endpointForURI(self, uri):
        service, _, peer = uri.host.decode("ascii").partition(".")
        return clientFromString(self.reactor, f"punchd:{peer}/{service}{self.arguments}")


async def main(reactor, url, arguments=""):
    agent = Agent.usingEndpointFactory(reactor, PeersByName(reactor, arguments))
    response = await agent.request(b"GET", url.encode("ascii"))
    body = await readBody(response)
    print(response.code, body.decode().strip())


react(main, sys.argv[1:])
