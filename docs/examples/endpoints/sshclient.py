"""
Run a command on a peer by ssh, with Twisted's own client, Conch: python sshclient.py ENDPOINT USER
KEY HOSTKEY COMMAND. KEY is the file with your private key, HOSTKEY the one with the server's public
key.
"""

import sys

from twisted.conch.error import ConchError
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.conch.ssh.userauth import SSHUserAuthClient
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.task import react


class Client(SSHClientTransport):
    """
    Checks the server's key, logs in, and runs the command.
    """

    def __init__(self, hostKey, user, key, command):
        self.hostKey = hostKey
        self.user = user
        self.key = key
        self.command = command
        self.finished = Deferred()

    def verifyHostKey(self, hostKey, fingerprint):
        if hostKey == self.hostKey.blob():
            return succeed(True)
        return fail(ConchError(f"that is another server: {fingerprint.decode()}"))

    def connectionSecure(self):
        self.requestService(Login(self.user, self.key, Commands(self.command, self.finished)))

    def connectionLost(self, reason):
        super().connectionLost(reason)
        if not self.finished.called:
            self.finished.errback(reason)


class Login(SSHUserAuthClient):
    """
    Offers one key.
    """

    def __init__(self, user, key, connection):
        super().__init__(user, connection)
        self.keys = [key]

    def getPublicKey(self):
        return self.keys[0] if self.keys else None

    def getPrivateKey(self):
        return succeed(self.keys.pop())


class Commands(SSHConnection):
    """
    Opens one channel.
    """

    def __init__(self, command, finished):
        super().__init__()
        self.command = command
        self.finished = finished

    def serviceStarted(self):
        self.openChannel(Session(self.command, self.finished, conn=self))


class Session(SSHChannel):
    """
    Runs the command, and prints what it says.
    """

    name = b"session"

    def __init__(self, command, finished, conn):
        super().__init__(conn=conn)
        self.command = command
        self.finished = finished

    def channelOpen(self, data):
        self.conn.sendRequest(self, b"exec", NS(self.command))

    def dataReceived(self, data):
        sys.stdout.write(data.decode())

    def request_exit_status(self, data):
        self.finished.callback(int.from_bytes(data, "big"))


async def main(reactor, endpoint, user, keyFile, hostKeyFile, command):
    client = Client(
        Key.fromFile(hostKeyFile), user.encode(), Key.fromFile(keyFile), command.encode()
    )
    await connectProtocol(clientFromString(reactor, endpoint), client)
    status = await client.finished
    client.loseConnection()
    raise SystemExit(status)


react(main, sys.argv[1:])
