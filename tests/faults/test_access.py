"""Faults 45 to 47, and what the access to a real server must survive: tokens and certificates replaced under load, TLS cut anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import pytest
import trustme

from jobqueue.api.access.grants import SCOPES, Scope
from jobqueue.api.app import build_app
from jobqueue.backend.local import LocalBackend
from tests.messages import Reader

from .process import Process
from .wire import PATIENCE_SECONDS, Answer, Client, call, lines_of, request, until

START = Callable[..., Process]

SETS = [scopes for size in range(1, len(SCOPES) + 1) for scopes in combinations(SCOPES, size)]


def line(name: str, scopes: str, queues: str = "*") -> str:
    """A token file's line, for a token that reads as its name."""
    return f"{name} {scopes} {queues} {sha256(name.encode()).hexdigest()}\n"


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


def reread(process: Process) -> list[str]:
    """SIGHUP, and what the log says of it."""
    process.signal(signal.SIGHUP)
    told: list[str] = []
    # One line for the tokens, one for the certificate.
    while len(told) < 2:
        told += [text for text in process.clean() if "SIGHUP" in text]
        assert process.process.poll() is None
    return told


async def test_45_auth_matrix(start: START, tmp_path: Path) -> None:
    """Every set of scopes, no token and a wrong one, at every route of a real server: 401, 403, or the route's own answer, exactly."""
    file = tmp_path / "tokens"
    file.write_text("".join(line(".".join(scopes), ",".join(scopes)) for scopes in SETS))
    process = start("--token-file", str(file))
    client = await Client.connect(process.port)
    for route in build_app(LocalBackend()).router.routes:
        path = (
            route.path.replace("{id}", "x")
            .replace("{name}", "x")
            .replace("{key}", "x")
            .replace("{number}", "1")
            .replace("{account}", "000000000000")
            .replace("{queue}", "x")
        )
        # A parameter that is unknown, so that what streams or waits does neither.
        path += "?nope=1&wait=0"
        for token in ("", "nobody", *(".".join(scopes) for scopes in SETS)):
            answer = await client.call(route.method, path, b"[]", bearer(token) if token else "")
            if route.scope is Scope.PUBLIC:
                # Of a file that is not there, 404.
                assert answer.status in (200, 308, 400) or (answer.status == 404 and "{" in route.path), (route.path, token, answer)
            elif token in ("", "nobody"):
                # Amazon SQS's clients know no 401.
                assert answer.status == (403 if route.api == "sqs" else 401), (route.path, token)
                assert route.api == "sqs" or answer.headers["www-authenticate"] == 'Bearer realm="jobqueue"'
            elif {route.scope, Scope.ADMIN} & set(token.split(".")) or route.scope not in SCOPES:
                assert answer.status in (200, 204, 400, 404), (route.path, token, answer)
            else:
                assert answer.status == 403, (route.path, token, answer)
                assert f"does not have the scope {route.scope}".encode() in answer.body
            if answer.headers.get("connection") == "close":
                client.fin()
                client = await Client.connect(process.port)
    for path in ("/none", "/classic/none", "/jobs/x/none"):
        assert (await client.call("GET", path, None, bearer("read"))).status == 404
    client.fin()


ODD = ("", " ", "é", "\xff\xfe", "x" * 8_192, "Bearer x", "a b", "%", "{}", "jq_" + "\xff" * 4_000)


async def test_46_odd_token(start: START) -> None:
    """401, whatever bytes it has, and nothing of it in the log; the right one opens afterwards, and any name of the server does."""
    process = start("--token", "right")
    for token in ODD:
        answer = await call(process.port, "GET", "/jobs", None, bearer(token))
        assert (answer.status, answer.code) == (401, "unauthorized"), token[:20]
        assert all(" refused a request from 127.0.0.1: " in line and (not token.strip() or token not in line) for line in process.clean())
        assert (await call(process.port, "GET", "/jobs", None, bearer("right"))).status == 200
    client = await Client.connect(process.port)
    await client.send(request("GET", "/jobs", None, bearer("right"), "Host: any.example\r\n"))
    assert (await client.answer()).status == 200
    client.fin()


EVIL = "evil.example"


@pytest.mark.parametrize(
    ("headers", "host", "status"),
    [
        ("Origin: https://evil.example\r\n", "localhost", 403),
        ("Origin: null\r\n", "localhost", 403),
        ("Sec-Fetch-Site: cross-site\r\n", "localhost", 403),
        ("", EVIL, 403),
        ("Origin: http://evil.example\r\n", EVIL, 403),
        ("Content-Type: text/plain\r\n", "localhost", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "localhost", 415),
        ("Content-Type: multipart/form-data; boundary=x\r\n", "localhost", 415),
        ("Content-Type:\r\n", "localhost", 415),
    ],
)
async def test_47_csrf_rebind(process: Process, headers: str, host: str, status: int) -> None:
    """What a page in a browser on this machine can make it send is refused, and no job is made."""
    client = await Client.connect(process.port)
    before = (await client.call("GET", "/queues")).body
    await client.send(request("POST", "/jobs/enqueue", b'{"payload":1}', headers, f"Host: {host}\r\n"))
    answer = await client.answer()
    assert answer.status == status
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await client.call("GET", "/queues")).body == before
    client.fin()


async def test_47_csrf_rebind_of_a_get_that_takes(process: Process) -> None:
    """The dialects' GET that takes a job is refused to an image on a page of the outside, and to a name that was rebound."""
    client = await Client.connect(process.port)
    for path in ("/classic/jobs/dequeue", "/simplequeue/jobs/next"):
        assert (await client.call("GET", path, None, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image\r\n")).status == 403
        await client.send(request("GET", path, None, "", f"Host: {EVIL}:{process.port}\r\n"))
        assert (await client.answer()).status == 403
    client.fin()


async def test_47_csrf_rebind_may_be_set_otherwise(start: START) -> None:
    """Names and origins that the operator lists, and no others."""
    process = start("--allowed-hosts", "queue.example.org,[::1]", "--allowed-origins", "https://queue.example.org")
    for host, origin, status in (
        ("queue.example.org", "", 201),
        ("QUEUE.example.org:443", "", 201),
        ("[::1]:1", "", 201),
        ("localhost", "", 403),
        ("internal:1", "", 403),
        ("queue.example.org", "Origin: https://queue.example.org\r\n", 201),
        ("queue.example.org:1", "Origin: https://queue.example.org\r\n", 201),
        ("queue.example.org:1", "Origin: https://evil.example\r\n", 403),
    ):
        client = await Client.connect(process.port)
        await client.send(request("POST", "/jobs/enqueue", {"payload": 1}, origin, f"Host: {host}\r\n"))
        assert (await client.answer()).status == status, (host, origin)
        client.fin()


async def test_tokens_are_read_again_without_dropping_a_waiter(start: START, tmp_path: Path) -> None:
    """SIGHUP: new tokens are known, a revoked one ends what it waits for and hears, others wait on; a bad file changes nothing."""
    file = tmp_path / "tokens"
    file.write_text(line("old", "dequeue") + line("ops", "admin") + line("gone", "read,dequeue"))
    process = start("--token-file", str(file))
    held = [await Client.connect(process.port) for _ in range(20)]
    for client in held:
        await client.send(request("POST", "/jobs/dequeue", {"wait": 50}, bearer("old")))

    waiting, listening = [await Client.connect(process.port) for _ in range(2)]
    await waiting.send(request("POST", "/jobs/dequeue", {"wait": 50, "queue": "other"}, bearer("gone")))
    await listening.send(request("GET", "/events", None, bearer("gone")))

    async def waiters() -> bool:
        queues = (await call(process.port, "GET", "/queues", None, bearer("ops"))).json["queues"]
        return sum(queue["waiters"] for queue in queues) == len(held)

    assert (await call(process.port, "PUT", "/queues/default", {}, bearer("ops"))).status == 200
    await until(waiters, "twenty in line")
    file.write_text(line("new", "enqueue", "def*") + line("ops", "admin") + line("old", "dequeue"))
    assert any("3 tokens known" in text for text in reread(process))
    assert await waiters()
    assert (await call(process.port, "POST", "/jobs/dequeue", {"wait": 0}, bearer("gone"))).status == 401
    assert (await waiting.answer()).status == 401
    await listening.closed()
    waiting.fin()
    listening.fin()
    for bad in ("new enqueue * nonsense\n", "\xff"):
        file.write_text(bad, encoding="latin-1")
        assert any("could not reload the tokens" in text for text in reread(process))
    file.unlink()
    assert any("could not reload the tokens" in text for text in reread(process))
    for number in range(len(held)):
        assert (await call(process.port, "POST", "/jobs/enqueue", {"payload": number}, bearer("new"))).status == 201
    assert (await call(process.port, "POST", "/jobs/enqueue", {"payload": 1, "queue": "other"}, bearer("new"))).status == 403
    assert [(await client.answer()).json["payload"] for client in held] == list(range(len(held)))
    for client in held:
        client.fin()
    assert not any("old" in text or sha256(b"old").hexdigest() in text for text in lines_of(process.log()))


async def test_without_anything_to_read_again_sighup_does_nothing(start: START) -> None:
    """It does not end the server, as it would by default."""
    process = start()
    assert all("no " in text for text in reread(process))
    assert (await call(process.port, "GET", "/healthz")).status == 200


async def test_a_rate_holds_against_a_flood(start: START) -> None:
    """Of a thousand requests at once the burst is served, and then what flows back; health checks all are."""
    process = start("--rate-limit", "1/h:100")
    client = await Client.connect(process.port)
    await client.send(request("GET", "/queues") * 1_000)
    answers = [await client.answer() for _ in range(1_000)]
    assert [answer.status for answer in answers] == [200] * 100 + [429] * 900
    last = answers[-1]
    assert (last.code, last.headers["retry-after"]) == ("rate_limited", "3600")
    assert last.headers["ratelimit-policy"] == '"requests";q=100;w=360000'
    assert {(await client.call("GET", "/healthz")).status for _ in range(50)} == {200}
    client.fin()


# TLS.


class Authority:
    """Makes certificates, and clients that trust them."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.context = ssl.create_default_context()
        self._ca.configure_trust(self.context)
        self.issue()

    def issue(self) -> None:
        """A new certificate in place of the old one."""
        issued = self._ca.issue_cert("localhost")
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))


class Secure:
    """A connection with TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream, self.writer = reader, writer
        self._reader = Reader()

    @classmethod
    async def connect(cls, port: int, authority: Authority) -> Secure:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=authority.context, server_hostname="localhost"))

    @property
    def serial(self) -> str:
        """The certificate's number, as the server showed it."""
        return str(self.writer.get_extra_info("peercert")["serialNumber"])

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        self.writer.write(request(method, path, body))
        return await self.answer()

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := self._reader.reply()) is None:
                data = await self._stream.read(1 << 16)
                assert data, "closed before the end of an answer"
                self._reader.feed(data)
            return answer

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.writer.wait_closed()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_certificate_is_renewed_without_dropping_a_waiter(start: START, authority: Authority, loop: str) -> None:
    """Jobs go over TLS; after SIGHUP new connections get the new certificate, whoever waits goes on; a bad pair changes nothing."""
    process = start(*authority.flags, loop=loop)
    first = await Secure.connect(process.port, authority)
    first.writer.write(request("POST", "/jobs/dequeue", {"wait": 50}))
    old = first.serial
    authority.issue()
    assert any("new connections are served with" in text for text in reread(process))
    second = await Secure.connect(process.port, authority)
    assert second.serial != old
    key = authority.key.read_bytes()
    authority.issue()
    authority.key.write_bytes(key)
    assert any("could not reload the certificate" in text and "are not a certificate and its key" in text for text in reread(process))
    third = await Secure.connect(process.port, authority)
    assert third.serial == second.serial
    assert (await third.call("POST", "/jobs/enqueue", {"payload": "x" * 100_000})).status == 201
    assert (await first.answer()).json["payload"] == "x" * 100_000
    for client in (first, second, third):
        await client.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_job_does_not_go_to_a_tls_client_that_has_gone(start: START, authority: Authority, loop: str, end: str) -> None:
    """Whether it said goodbye or vanished, the next in line is handed the job."""
    process = start(*authority.flags, loop=loop)
    gone, next_one, producer = [await Secure.connect(process.port, authority) for _ in range(3)]
    for number, client in enumerate((gone, next_one), 1):
        client.writer.write(request("POST", "/jobs/dequeue", {"wait": 50}))

        async def standing(wanted: int = number) -> bool:
            return (await producer.call("GET", "/metrics")).body.decode().count(f"\njobqueue_waiters {float(wanted)}\n") == 1

        await until(standing, "in line")
    if end == "close":
        await gone.close()
    else:
        gone.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await gone.writer.wait_closed()
    assert (await producer.call("POST", "/jobs/enqueue", {"payload": 1, "id": "j"})).status == 201
    answer = await next_one.answer()
    assert (answer.json["id"], answer.json["attempts"]) == ("j", 1)
    for client in (next_one, producer):
        await client.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_drain_does_not_wait_for_a_goodbye(start: START, authority: Authority, loop: str) -> None:
    """TLS clients that read nothing any more are let go of: a drain ends long before its time is up."""
    process = start(*authority.flags, "--drain-timeout", "3600", loop=loop)
    idle = await Secure.connect(process.port, authority)
    # Twice: the second answer is only given once the first is over and done with.
    for _ in range(2):
        assert (await idle.call("GET", "/healthz")).status == 200
    transport = idle.writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    process.signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait) == 0
    transport.abort()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_what_is_no_tls_is_cut_without_a_word_in_the_log(start: START, authority: Authority, loop: str) -> None:
    """Plain HTTP, noise, and a handshake that never comes; the server serves on."""
    before = "import jobqueue.process.server; jobqueue.process.server.HANDSHAKE_SECONDS = 0.2; "
    process = start(*authority.flags, loop=loop, before=before)
    for noise in (request("GET", "/healthz"), b"\x16\x03\x01\xff\xff" + os.urandom(500), b"\x00" * 100, b""):
        client = await Client.connect(process.port)
        await client.send(noise)
        await client.closed()
        client.fin()
    secure = await Secure.connect(process.port, authority)
    assert (await secure.call("GET", "/healthz")).status == 200
    await secure.close()
    assert process.clean() == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--token-file", "none"), "none: cannot be read: No such file"),
        (("--tls-cert", "none", "--tls-key", "none"), "are not a certificate and its key: No such file"),
    ],
)
def test_what_cannot_be_read_at_start_stops_it(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """One line, exit code 1, and nothing listens."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "jobqueue", "serve", "--port", "0", *flags],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
