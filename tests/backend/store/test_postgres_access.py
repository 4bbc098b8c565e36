"""Passwords and TLS on the way to PostgreSQL. The wheel's server is built without TLS, so here a proxy in front of it ends TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.postgres import PostgresStore
from tests.postgres import GUARDED, PostgresServer, postgres_server

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
PASSWORD = "s3cret/%?#@:ü"
ENCODED = "s3cret%2F%25%3F%23%40%3A%C3%BC"


@pytest.fixture
def server() -> PostgresServer:
    server = postgres_server()
    made = server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{GUARDED}'")
    if not made:
        server.sql(f"CREATE ROLE {GUARDED} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    return server


class Terminator:
    """Ends TLS in front of a PostgreSQL server."""

    def __init__(self, port: int, folder: Path) -> None:
        self._target = port
        authority = trustme.CA()
        self.root = folder / "root.pem"
        authority.cert_pem.write_to_path(str(self.root))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self.port = 0
        self.handshakes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            self.handshakes += 1
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def tls(server: PostgresServer, tmp_path: Path) -> AsyncIterator[Terminator]:
    terminator = Terminator(server.port, tmp_path)
    listening = await asyncio.start_server(terminator.serve, "127.0.0.1", 0)
    terminator.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield terminator


@contextlib.asynccontextmanager
async def store_at(url: str) -> AsyncIterator[PostgresStore]:
    """A store of a schema of its own."""
    store = PostgresStore(url, schema=postgres_server().new_schema(), lossy=True)
    try:
        yield store
    finally:
        await store.close()


async def test_a_password_with_every_sign_opens_the_store(server: PostgresServer) -> None:
    """A password is percent-encoded in the URL, and found in no name of the store."""
    async with store_at(f"postgres://{GUARDED}:{ENCODED}@127.0.0.1:{server.port}/postgres") as store:
        await store.open()
        assert "s3cret" not in store.path


async def test_a_password_may_come_from_a_file(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq's PGPASSFILE keeps the password out of the command line."""
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:*:*:{GUARDED}:{PASSWORD.replace(':', chr(92) + ':')}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    async with store_at(server.url(GUARDED)) as store:
        await store.open()


@pytest.mark.parametrize("password", ["wr0ng", ""])
async def test_a_wrong_password_is_refused_and_not_shown(password: str, server: PostgresServer) -> None:
    """A password that is wrong or missing is a refusal to start, in words that do not have it."""
    async with store_at(f"postgres://{GUARDED}:{password}@127.0.0.1:{server.port}/postgres") as store:
        with pytest.raises(CannotOpen, match=r"authentication failed|no password supplied") as caught:
            await store.open()
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(NotNow):
            await store.owner()


async def test_tls_is_verified_to_the_name(tls: Terminator) -> None:
    """`sslmode=verify-full` with the right root opens; a name that the certificate does not have, or no root for it, does not."""
    options, named = f"sslmode=verify-full&sslrootcert={tls.root}", f"postgres://jobs@localhost:{tls.port}/postgres?hostaddr=127.0.0.1"
    async with store_at(f"{named}&{options}") as store:
        await store.open()
        assert (await store.claim("a", "a:1", 60)).name == "a"
    assert tls.handshakes >= 1
    async with store_at(f"postgres://jobs@127.0.0.1:{tls.port}/postgres?{options}") as store:
        with pytest.raises(CannotOpen, match="certificate"):
            await store.open()
    async with store_at(
        f"postgres://jobs@localhost:{tls.port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=system"
    ) as store:
        with pytest.raises(CannotOpen, match="certificate"):
            await store.open()


async def test_a_server_that_stands_still_behind_tls_is_found_out(tls: Terminator, server: PostgresServer) -> None:
    """The deadline holds on an encrypted connection too."""
    async with store_at(f"postgres://jobs@127.0.0.1:{tls.port}/postgres?sslmode=require") as opened:
        await opened.open()
        with server.stopped(), pytest.raises(NotNow, match="no answer"):
            await opened.owner()
        assert await opened.owner() is None
