"""A server in the test's own process on a port of its own, and two ways to talk to it: a client, and bare bytes.

The queue's time is a ManualClock. Whatever waits here waits for an event; `GUARD` only bounds how long a broken test hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from aiohttp import ClientSession, TCPConnector, hdrs
from yarl import URL

from jobqueue.api.access.access import Access
from jobqueue.api.app import App, build_app, refused
from jobqueue.api.mounts import Mounts
from jobqueue.api.problems import PROBLEMS
from jobqueue.backend.local import LocalBackend
from jobqueue.clock import ManualClock
from jobqueue.http.answers import Answer
from jobqueue.http.fast import parser_for
from jobqueue.http.request import Request
from jobqueue.http.server import Server
from jobqueue.limits import Limits
from tests import servers, ways
from tests.messages import Reader, Reply

GUARD = 10.0
"""Seconds after which a test that waits in vain gives up."""

NOW = "2027-01-15T08:00:00.000Z"
"""What ManualClock shows before anybody advances it."""

T = TypeVar("T")


def at(seconds: float) -> str:
    """The stamp of a time that many seconds after NOW, within the hour."""
    minutes, rest = divmod(round(seconds * 1_000), 60_000)
    return f"2027-01-15T08:{minutes:02d}:{rest // 1_000:02d}.{rest % 1_000:03d}Z"


class Wire:
    """A connection on which a test writes and reads bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = reader
        self._writer = writer
        self._reader = Reader()

    @property
    def socket(self) -> socket.socket:
        """The client's end."""
        return self._writer.get_extra_info("socket")  # type: ignore[no-any-return]

    def send(self, data: bytes) -> None:
        """Write at once."""
        self._writer.write(data)

    async def line(self) -> bytes:
        """One line without its end; at the end of the connection, what is left."""
        while (line := self._reader.line()) is None:
            if not await self._more():
                return self._reader.rest()
        return line

    async def _more(self) -> bool:
        async with asyncio.timeout(GUARD):
            data = await self._stream.read(1 << 20)
        self._reader.feed(data)
        return bool(data)

    async def reply(self, head: bool = False) -> Reply:
        """The next answer; head: to a HEAD, which has a length and no body."""
        while (reply := self._reader.reply(head)) is None:
            if not await self._more():
                raise ConnectionError(f"closed after {self._reader.rest()[:200]!r}")
        await servers.settled()
        return reply

    async def head(self) -> tuple[str, dict[str, str]]:
        """The first line and the headers of an answer whose body has no length."""
        while (head := self._reader.head()) is None:
            assert await self._more(), "closed in a head"
        return head

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, however that comes about."""
        with contextlib.suppress(ConnectionError):
            while await self._more():
                pass
        await servers.settled()
        return self._reader.rest()

    async def ask(self, data: bytes) -> Reply:
        """Write a request, read its answer."""
        self.send(data)
        return await self.reply()

    def finish(self) -> None:
        """Send FIN, keep reading."""
        self._writer.write_eof()

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Site:
    """A listening server."""

    def __init__(self, server: Server, listener: asyncio.Server) -> None:
        self.server = server
        self._listener = listener
        self._wires: list[Wire] = []
        self.host, self.port = listener.sockets[0].getsockname()[:2]

    @classmethod
    async def start(cls, server: Server) -> Site:
        """Listen on a free port of the loopback."""
        return cls(server, await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, backlog=100))

    async def wire(self) -> Wire:
        """A new connection."""
        wire = Wire(*await asyncio.open_connection(self.host, self.port))
        self._wires.append(wire)
        return wire

    def close_after_the_look(self, client: socket.socket) -> None:
        """Have a client close between the server's last look at a connection and the write of its answer, once."""
        look = self.server.hung_up

        def hung_up(fd: int) -> bool:
            gone = look(fd)
            client.close()
            self.server.hung_up = look  # type: ignore[method-assign]
            return gone

        self.server.hung_up = hung_up  # type: ignore[method-assign]

    async def close(self) -> None:
        """Close every connection, then the server."""
        for wire in self._wires:
            await wire.close()
        self._listener.close()
        await self.server.shutdown()


@contextlib.asynccontextmanager
async def serving(handler: Callable[[Request], Coroutine[Any, Any, Answer]], **options: Any) -> AsyncIterator[Site]:
    """A server whose every request is answered by `handler`."""
    asked = {"connections_max": 100, "idle_seconds": 60.0, "write_seconds": GUARD, "parser": parser_for(ways.http()), **options}
    site = await Site.start(ways.prepared(Server(handler, refused, **asked)))
    try:
        yield site
    finally:
        await site.close()


class Api:
    """The whole application, served, with a client.

    backend: the one that does the work, also where another server is asked (tests/servers.py).
    """

    def __init__(
        self,
        app: App,
        backend: LocalBackend,
        clock: ManualClock,
        site: Site,
        session: ClientSession,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.app = app
        self.backend = backend
        self._close = close
        self.clock = clock
        self.site = site
        self._session = session
        self._held: list[asyncio.Task[Reply]] = []

    async def send(self, method: str, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request; `path` goes out as it is, data as JSON unless `headers` say otherwise."""
        heads = {} if data is None else {hdrs.CONTENT_TYPE: "application/json"}
        heads.update(headers or {})
        url = URL(f"http://{self.site.host}:{self.site.port}{path}", encoded=True)
        # aiohttp warns of more than a mebibyte as bytes.
        body = io.BytesIO(data) if data is not None and len(data) > 1 << 20 else data
        skipped = [hdrs.CONTENT_TYPE] if hdrs.CONTENT_TYPE not in heads else []
        async with (
            asyncio.timeout(GUARD),
            self._session.request(method, url, data=body, headers=heads, skip_auto_headers=skipped) as answer,
        ):
            reply = Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read())
        await servers.settled()
        return reply

    async def get(self, path: str) -> Reply:
        """GET."""
        return await self.send("GET", path)

    async def post(self, path: str, body: Any = None, **fields: Any) -> Reply:
        """POST, the body made of `body` and `fields`; bytes go out as they are, no body when there is neither."""
        if not isinstance(body, bytes) and (body is not None or fields):
            body = json.dumps({**(body or {}), **fields}).encode()
        return await self.send("POST", path, body)

    async def put(self, path: str, **fields: Any) -> Reply:
        """PUT."""
        return await self.send("PUT", path, json.dumps(fields).encode())

    # What tests do often. Each asserts that it worked.

    async def enqueue(self, payload: Any = 1, **fields: Any) -> Any:
        """Enqueue a job; its summary."""
        reply = await self.post("/jobs/enqueue", payload=payload, **fields)
        assert reply.status in (200, 201), reply
        return reply.json

    async def take(self, **fields: Any) -> Any:
        """The job that a dequeue finds at once."""
        reply = await self.post("/jobs/dequeue", wait=0, **fields)
        assert reply.status == 200, reply
        return reply.json

    async def working(self, job_id: str = "job", **fields: Any) -> str:
        """Enqueue a job and take it, in a queue that holds no other; its lease's token."""
        await self.enqueue(id=job_id, **fields)
        job = await self.take(queue=fields.get("queue", "default"))
        assert job["id"] == job_id
        return str(job["lease"]["token"])

    async def concluded(self, job_id: str = "job", outcome: str = "succeeded", **fields: Any) -> str:
        """A job that was worked on and concluded; the token that did it."""
        token = await self.working(job_id, **fields)
        more = {"retry": False} if outcome == "failed" else {}
        reply = await self.post(f"/jobs/{job_id}/conclude", lease=token, outcome=outcome, **more)
        assert (reply.status, reply.json["outcome"]) == (200, outcome)
        return token

    async def job(self, job_id: str = "job") -> Any:
        """A job as GET shows it."""
        reply = await self.get(f"/jobs/{job_id}")
        assert reply.status == 200, reply
        return reply.json

    async def hold(self, path: str, body: Any = None, method: str = "POST", **fields: Any) -> asyncio.Task[Reply]:
        """Start a request that the server holds; returns once it stands in line."""
        standing = self.backend.totals().waiters
        asking = self.get(path) if method == "GET" else self.post(path, body, **fields)
        held = asyncio.create_task(asking)
        self._held.append(held)
        await until(lambda: held.done() or self.backend.totals().waiters == standing + 1)
        assert not held.done(), held.result()
        return held

    def state(self) -> Any:
        """Everything the queue knows, to be compared before and after: jobs with their leases and ends, queues, history."""
        engine = self.backend.engine
        jobs = [repr(job) for job in engine.jobs.newest_first(None)]
        queues = [(name, queue.policy, queue.stats()) for name, queue in engine.queues.items()]
        return jobs, queues, engine.history.counts(), engine.live, engine.live_bytes

    async def close(self) -> None:
        """Drain and close."""
        self.app.drain()
        if self._held:
            await asyncio.wait(self._held, timeout=GUARD)
        await self._session.close()
        await self.site.close()
        await self._close()


async def start(
    *,
    token: str | None = None,
    body_seconds: float = GUARD,
    connections_max: int = 100,
    send_token: bool = True,
    mounts: Mounts | None = None,
    access: Access | None = None,
    **bounds: Any,
) -> Api:
    """Serve the application; `bounds` are the fields of Limits that matter to the test."""
    limits, clock = Limits(**bounds), ManualClock()
    asked, backend, close = await servers.behind(limits, clock)
    app = build_app(asked, limits, token=token, access=access, body_seconds=body_seconds, mounts=mounts)
    site = await Site.start(ways.server(app, connections_max=connections_max, idle_seconds=60.0, write_seconds=GUARD))
    headers = {hdrs.AUTHORIZATION: f"Bearer {token}"} if token is not None and send_token else {}
    session = ClientSession(connector=TCPConnector(limit=0), headers=headers, auto_decompress=False)
    return Api(app, backend, clock, site, session, close)


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(GUARD):
        while not true():  # noqa: ASYNC110 # what is waited for lives in the server and signals nobody
            await asyncio.sleep(0)
    await servers.settled()


async def answered(held: asyncio.Task[T]) -> T:
    """What a held request is answered."""
    async with asyncio.timeout(GUARD):
        return await held


def request(method: str, path: str, body: bytes | None = None, *lines: str, version: str = "1.1") -> bytes:
    """A request's bytes, with a length and a type if it has a body; `lines` are further header lines."""
    head = [f"{method} {path} HTTP/{version}", "Host: test", *lines]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


PROBLEM_FIELDS = ["type", "title", "status", "code", "detail"]


def check_problem(problem: Any, status: int, code: str, field: str | None = None) -> None:
    """A problem's body: the one shape every error has."""
    assert (problem["status"], problem["code"], problem.get("field")) == (status, code, field), problem
    more = [name for name in ("unconfirmed", "max", "job_id") if name in problem]
    assert list(problem) == PROBLEM_FIELDS + ["field"] * (field is not None) + more
    assert problem["type"] == f"urn:jobqueue:problem:{code}"
    assert (problem["status"], problem["title"]) == PROBLEMS[code]
    assert isinstance(problem["detail"], str)
    assert len(problem["detail"]) > 3


def assert_problem(reply: Reply, status: int, code: str, field: str | None = None) -> str:
    """An error answer as every error answer is: its type, its shape, its Retry-After; returns its detail."""
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json"), reply
    check_problem(reply.json, status, code, field)
    assert ("retry-after" in reply.headers) is (status in (429, 503)), reply
    if status in (429, 503):
        assert int(reply.headers["retry-after"]) > 0
    assert ("www-authenticate" in reply.headers) is (status == 401)
    assert ("allow" in reply.headers) is (status == 405)
    return str(reply.json["detail"])
