"""
Tests for C{twistd punchd-server}: real processes, real sockets.
"""

from __future__ import annotations

import re
import socket
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
import pytest_twisted
from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto
from pytest_twisted import ensureDeferred

from punchd.errors import Refused, UnknownPeer
from punchd.identity.certificates import selfSigned
from punchd.identity.keys import Identity
from punchd.identity.tls import makeContext
from punchd.values.addresses import Address
from punchd.values.joining import JoinAddress
from punchd.wire.boxes import MAX_BOX
from punchd.wire.commands import Introduce, Ping, Report, Tell, Tokens
from punchd.wire.observing import Question, unpackAnswer
from punchd.wire.versions import MASTER_ALPN
from tests.functional.clients import MasterClient, Wire, dial, dialTLS, makeIdentity
from tests.functional.processes import LOOPBACK, Running, Server, runTwistd, sleep

MASK = bytes(range(18))


@define
class Visitors:
    """
    Clients that are closed at a test's end.
    """

    join: JoinAddress
    assistPort: int
    server: Server
    clients: list[MasterClient] = field(factory=list)
    wires: list[Wire] = field(factory=list)

    def client(self, identity: Identity | None = None) -> MasterClient:
        client = MasterClient(identity or makeIdentity())
        self.clients.append(client)
        return client

    async def logIn(
        self,
        name: str,
        identity: Identity | None = None,
        accepts: tuple[Identity, ...] = (),
    ) -> MasterClient:
        client = self.client(identity)
        await client.logIn(self.join, name, frozenset(one.peerID for one in accepts))
        return client

    async def dial(self, port: int, data: bytes = b"") -> Wire:
        wire = await dial(port, data)
        self.wires.append(wire)
        return wire

    async def leave(self) -> None:
        """
        Close them all.
        """
        for client in self.clients:
            await client.close()
        for wire in self.wires:
            await wire.close()
        self.clients.clear()
        self.wires.clear()

    async def works(self) -> bool:
        """
        Whether the server does its work still.
        """
        client = await self.logIn("probe", PROBE)
        await client.ask(Ping)
        await client.close()
        return "Traceback" not in self.server.log


PROBE = makeIdentity()
RESIDENT = makeIdentity()


async def begin(state: Path, *options: str) -> Visitors:
    server = Server(state, options)
    join = await server.start()
    (port,) = re.findall(r"AssistGate starting on (\d+)", server.log)
    # It listens before its reactor runs; who answers, runs, and takes signals.
    await (await dial(join.port, bytes(16))).ended()
    return Visitors(join, int(port), server)


async def end(server: Server) -> None:
    # twistd ends by the signal that it was sent, once all is closed.
    assert await server.stop() == -SIGTERM
    assert "Server Shut Down" in server.log
    assert "Traceback" not in server.log


@pytest_twisted.async_yield_fixture
async def visitors(tmp_path: Path) -> AsyncIterator[Visitors]:
    """
    Clients, with a server for this test alone.
    """
    here = await begin(tmp_path / "state")
    yield here
    await here.leave()
    await end(here.server)


@pytest_twisted.async_yield_fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Visitors]:
    here = await begin(tmp_path_factory.mktemp("shared") / "state")
    yield here
    await end(here.server)


@pytest_twisted.async_yield_fixture
async def strangers(shared: Visitors) -> AsyncIterator[Visitors]:
    """
    Clients, with a server that all these tests may try to harm.
    """
    yield shared
    await shared.leave()


class TestTheStart:
    @ensureDeferred
    async def test_theJoinAddressIsPrintedAndKept(self, visitors: Visitors) -> None:
        kept = (visitors.server.state / "join").read_text()
        await visitors.server.process.said(f"join address: {kept}")

    @ensureDeferred
    async def test_theStateIsTheOwnersAlone(self, visitors: Visitors) -> None:
        for path in visitors.server.state.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path

    @ensureDeferred
    async def test_theKeyOutlivesARestart(self, visitors: Visitors) -> None:
        await visitors.server.stop()
        again = await visitors.server.start()
        assert again.pin == visitors.join.pin


class TestLoggingIn:
    @ensureDeferred
    async def test_aNameOutlivesARestart(self, visitors: Visitors) -> None:
        bob = makeIdentity()
        await (await visitors.logIn("bob", bob)).close()
        await visitors.server.stop()
        visitors.join = await visitors.server.start()
        await visitors.logIn("bob", bob)
        with pytest.raises(Refused, match="the name 'bob' belongs to another key on this server"):
            await visitors.logIn("bob")

    @ensureDeferred
    async def test_aNameOutlivesAKill(self, visitors: Visitors) -> None:
        bob = makeIdentity()
        await visitors.logIn("bob", bob)
        assert await visitors.server.stop("KILL") == -SIGKILL
        visitors.join = await visitors.server.start()
        await visitors.logIn("bob", bob)
        with pytest.raises(Refused):
            await visitors.logIn("Bob")

    @ensureDeferred
    async def test_theSecondLoginOfAKeyReplacesTheFirst(self, visitors: Visitors) -> None:
        bob = makeIdentity()
        first = await visitors.logIn("bob", bob)
        second = await visitors.logIn("bob", bob)
        await first.ended()
        assert first.heard.farewells == ["another connection of the same key has taken over"]
        await second.ask(Ping)

    @ensureDeferred
    async def test_peersAreToldWhenTheServerEnds(self, visitors: Visitors) -> None:
        client = await visitors.logIn("bob")
        await visitors.server.stop()
        await client.ended()
        assert client.heard.farewells == ["the server ends"]


class TestIntroducing:
    @ensureDeferred
    async def test_fromTheQuestionToTheReport(self, visitors: Visitors) -> None:
        alice, bob = makeIdentity(), makeIdentity()
        caller = await visitors.logIn("alice", alice)
        callee = await visitors.logIn("bob", bob, accepts=(alice,))
        answer = await caller.ask(
            Introduce, peer=bob.peerID, hosts=[], strategies=[("sequential", 1)]
        )
        token, observed = await self.observe(visitors, caller)
        await caller.ask(
            Tell, session=answer["session"], strategy="sequential", body=b"here", token=token
        )
        await caller.ask(Report, session=answer["session"], strategy="sequential", seconds=0.1)
        await callee.ask(Ping)
        (introduced,) = callee.heard.introductions
        assert introduced["caller"] == alice.peerID
        assert introduced["reflexive"] == answer["own"]
        assert answer["reflexive"] == introduced["own"]
        (told,) = callee.heard.told
        assert (told["body"], told["observed"]) == (b"here", observed)
        await visitors.server.process.said("alice reports: sequential connected after 0.100 s")

    async def observe(self, visitors: Visitors, client: MasterClient) -> tuple[bytes, Address]:
        """
        Show a token to the assist service.
        """
        (token,) = (await client.ask(Tokens, count=1))["tokens"]
        wire = await visitors.dial(visitors.assistPort, Question(token, MASK).pack())
        observed = unpackAnswer(await wire.has(14), MASK)
        assert observed == wire.transport.getHost()
        return token, observed

    @ensureDeferred
    async def test_whoIsNotAcceptedIsAsUnknownAsWhoIsAway(self, visitors: Visitors) -> None:
        bob = makeIdentity()
        await visitors.logIn("bob", bob)
        caller = await visitors.logIn("mallory")
        with pytest.raises(UnknownPeer, match="punchd trust NAME"):
            await caller.ask(Introduce, peer=bob.peerID, hosts=[], strategies=[])


GARBAGE = [
    b"\x00",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\xff" * 100_000,
    b"SSH-2.0-OpenSSH_9.6\r\n",
    bytes(range(256)) * 256,
    # A TLS record that announces more than TLS allows.
    b"\x16\x03\x01\xff\xff" + bytes(65535),
]


class TestStrangers:
    @pytest.mark.parametrize("data", GARBAGE[1:], ids=range(len(GARBAGE) - 1))
    @ensureDeferred
    async def test_garbageBeforeTLSEndsTheConnection(
        self, strangers: Visitors, data: bytes
    ) -> None:
        wire = await strangers.dial(strangers.join.port, data)
        await wire.ended()
        assert await strangers.works()

    @pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
    @ensureDeferred
    async def test_garbageToTheAssistServiceIsTheEnd(
        self, strangers: Visitors, data: bytes
    ) -> None:
        wire = await strangers.dial(strangers.assistPort, data)
        await wire.ended()
        assert await strangers.works()

    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.0\r\n\r\n",
            b"\x00\x00",
            b"\xff" * 200_000,
            b"\x00\x01a" + (MAX_BOX + 1).to_bytes(2, "big") + bytes(MAX_BOX + 1),
            b"".join(b"\x00\x03%03d\x00\x01x" % number for number in range(500)),
            b"\x00\x08_command\x00\x05hello\x00\x04_ask\x00\x011\x00\x00",
        ],
        ids=range(6),
    )
    @ensureDeferred
    async def test_garbageInsideTLSEndsTheConnection(
        self, strangers: Visitors, data: bytes
    ) -> None:
        wire = Wire()
        strangers.wires.append(wire)
        await dialTLS(strangers.join, wire, makeIdentity())
        wire.transport.write(data)
        await wire.ended()
        assert await strangers.works()

    @ensureDeferred
    async def test_anotherProtocolInsideTLSIsRefused(self, strangers: Visitors) -> None:
        identity = makeIdentity()
        wire = Wire()
        context = makeContext(selfSigned(identity), b"http/1.1")
        await dialTLS(strangers.join, wire, identity, context)
        await wire.ended()
        assert await strangers.works()

    @ensureDeferred
    async def test_withoutACertificateNobodyComesIn(self, strangers: Visitors) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_alpn_protos([MASTER_ALPN])
        wire = Wire()
        await dialTLS(strangers.join, wire, makeIdentity(), context)
        await wire.ended()
        assert await strangers.works()

    @ensureDeferred
    async def test_aCertificateThatNobodyCanReadIsRefused(
        self, strangers: Visitors, tmp_path: Path
    ) -> None:
        identity = makeIdentity()
        der = selfSigned(identity).certificate.public_bytes(Encoding.DER)
        # A time without digits: OpenSSL takes it, cryptography does not.
        assert b"200101000000Z" in der
        mangled = tmp_path / "mangled.der"
        mangled.write_bytes(der.replace(b"200101000000Z", b"20010100000xZ"))
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_alpn_protos([MASTER_ALPN])
        context.use_privatekey(identity.key)
        context.use_certificate_file(str(mangled), crypto.FILETYPE_ASN1)
        wire = Wire()
        strangers.wires.append(wire)
        # What strangers did until now may have used up this second's lines in the log.
        await sleep(1.1)
        await dialTLS(strangers.join, wire, identity, context)
        await wire.ended()
        await strangers.server.process.said("certificate is not readable")
        assert await strangers.works()

    @pytest.mark.slow
    @ensureDeferred
    async def test_whoIsSlowIsNotWaitedForForLong(self, strangers: Visitors) -> None:
        client = strangers.client()
        await client.connect(strangers.join)
        token = Question(bytes(16), MASK).pack()
        half = [
            await strangers.dial(strangers.join.port),
            await strangers.dial(strangers.join.port, b"\x16\x03\x01\x02\x00\x01"),
            await strangers.dial(strangers.assistPort),
            await strangers.dial(strangers.assistPort, token[:-1]),
        ]
        for wire in half:
            await wire.ended()
        await client.ended()
        await strangers.server.process.said("not logged in within 10 s")
        await strangers.server.process.said("no whole question within 5 s")
        assert await strangers.works()

    @ensureDeferred
    async def test_aFloodDoesNotKeepOutThoseWhoAreIn(self, strangers: Visitors) -> None:
        bob = await strangers.logIn("resident", RESIDENT)
        for port in (strangers.join.port, strangers.assistPort):
            flood = [await strangers.dial(port) for _ in range(100)]
            await sleep(0.2)
            assert [wire.isLost for wire in flood].count(True) == 100 - 64
            for wire in flood:
                await wire.close()
        await bob.ask(Ping)
        await strangers.server.process.said("more such lines are left out")
        assert await strangers.works()

    @ensureDeferred
    async def test_tooManyBoxesEndTheConnection(self, strangers: Visitors) -> None:
        client = await strangers.logIn("resident", RESIDENT)
        wanted = [client._connection.callRemote(Ping) for _ in range(1000)]
        await client.ended()
        for answer in wanted:
            answer.addErrback(lambda failure: None)
        assert await strangers.works()


async def outcome(process: Running) -> tuple[int, str]:
    """
    The exit status, and what stands on standard error.
    """
    status = await process.ended()
    assert "Traceback" not in process.out + process.err
    return status, process.err


def serve(state: Path, *options: str, background: bool = False) -> Running:
    mode = [] if background else ["-n"]
    return runTwistd(
        *mode,
        "--pidfile=",
        f"--logfile={state.parent / 'log'}",
        "punchd-server",
        f"--state={state}",
        *options,
    )


class TestWhatCannotBeDone:
    @pytest.mark.parametrize("background", [False, True])
    @ensureDeferred
    async def test_aPortInUse(self, tmp_path: Path, background: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, said = await outcome(
                serve(
                    tmp_path / "state",
                    f"--master={LOOPBACK}",
                    f"--assist=tcp:{port}:interface=127.0.0.1",
                    background=background,
                )
            )
        assert (status, said) == (
            1,
            f"punchd-server: cannot listen on 127.0.0.1 port {port}: Address already in use; "
            "choose another one with --assist\n",
        )

    @ensureDeferred
    async def test_aStateFolderBelowAFile(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        status, said = await outcome(serve(tmp_path / "file" / "state"))
        assert status == 1
        assert re.fullmatch(r"punchd-server: cannot make the state folder .*--state\n", said)

    @ensureDeferred
    async def test_aRegistryBelowAFile(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        status, said = await outcome(
            serve(tmp_path / "state", f"--registry=sqlite:{tmp_path}/file/registry")
        )
        assert status == 1
        assert re.fullmatch(r"punchd-server: cannot open the registry .*\n", said)

    @ensureDeferred
    async def test_anUnknownRegistry(self, tmp_path: Path) -> None:
        status, said = await outcome(serve(tmp_path / "state", "--registry=pigeons:coop"))
        assert status == 1
        assert "memory:, sqlite:" in said
        assert said.count("\n") == 1

    @ensureDeferred
    async def test_aBrokenKey(self, tmp_path: Path) -> None:
        state = tmp_path / "state"
        state.mkdir()
        (state / "key.pem").write_text("-----BEGIN NOTHING-----")
        status, said = await outcome(serve(state))
        assert status == 1
        assert re.fullmatch(r"punchd-server: there is no usable private key .*\n", said)

    @ensureDeferred
    async def test_anExpiredCertificate(self, tmp_path: Path) -> None:
        certificate, key = writePair(tmp_path, until=datetime(2021, 1, 1, tzinfo=UTC))
        status, said = await outcome(
            serve(tmp_path / "state", f"--certificate={certificate}", f"--private-key={key}")
        )
        assert status == 1
        assert re.fullmatch(r"punchd-server: the certificate in .* is expired .*\n", said)

    @ensureDeferred
    async def test_aCertificateOfAnotherKey(self, tmp_path: Path) -> None:
        certificate, _ = writePair(tmp_path)
        (tmp_path / "other").mkdir()
        _, key = writePair(tmp_path / "other")
        status, said = await outcome(
            serve(tmp_path / "state", f"--certificate={certificate}", f"--private-key={key}")
        )
        assert status == 1
        assert said.count("\n") == 1

    @pytest.mark.parametrize(
        "option",
        [
            "--master=tcp:nonsense",
            "--master=pigeon:coop",
            "--master=",
            "--assist=tcp",
            "--host=two words",
            "--nonsense",
            "--certificate=alone.pem",
        ],
    )
    @ensureDeferred
    async def test_wrongUsageIsStatus2(self, tmp_path: Path, option: str) -> None:
        status, said = await outcome(serve(tmp_path / "state", option))
        assert status == 2
        assert said.startswith("punchd-server: ")
        assert said.count("\n") == 1
        assert not (tmp_path / "state").exists()


@ensureDeferred
async def test_anOperatorsCertificateTakesThePlaceOfOurs(tmp_path: Path) -> None:
    certificate, key = writePair(tmp_path)
    server = Server(tmp_path / "state", (f"--certificate={certificate}", f"--private-key={key}"))
    join = await server.start()
    client = MasterClient()
    await client.logIn(join, "bob")
    await client.close()
    await server.stop()
    assert not (tmp_path / "state" / "key.pem").exists()


@ensureDeferred
async def test_aServerInTheBackgroundServes(tmp_path: Path) -> None:
    state, pidFile = tmp_path / "state", tmp_path / "pid"
    process = runTwistd(
        f"--pidfile={pidFile}",
        f"--logfile={tmp_path / 'log'}",
        "punchd-server",
        f"--state={state}",
        "--host=127.0.0.1",
        f"--master={LOOPBACK}",
        f"--assist={LOOPBACK}",
        f"--relay={LOOPBACK}",
    )
    assert await process.ended() == 0
    join = JoinAddress.parse((state / "join").read_text())
    assert process.out == f"join address: {join}\n"
    client = MasterClient()
    await client.logIn(join, "bob")
    await stopInBackground(pidFile)
    await client.ended()
    assert client.heard.farewells == ["the server ends"]


async def stopInBackground(pidFile: Path) -> None:
    process = Running("/bin/kill", pidFile.read_text())
    assert await process.ended() == 0
    for _ in range(100):
        if not pidFile.exists():
            return
        await sleep(0.1)
    raise AssertionError("it does not end")


def writePair(folder: Path, until: datetime | None = None) -> tuple[Path, Path]:
    """
    Files with a certificate and its private key.
    """
    identity = makeIdentity()
    made = selfSigned(identity, ("127.0.0.1",)).certificate
    if until is not None:
        builder = x509.CertificateBuilder(
            made.issuer, made.subject, made.public_key(), made.serial_number
        )
        made = (
            builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(until)
            .sign(identity.key, None)
        )
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key
