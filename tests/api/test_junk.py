"""Requests of the largest allowed size, filled with junk: none holds the loop for long, and none leaves anything behind.

The time is the CPU's of this thread, against that of `json.loads` on a list as long as such a body can hold, which is about 20 ms on the
machines this was measured on; the bound is 2.5 times that, the best of three tries counts. What is left behind is counted with the garbage
collector off: memory that only it could free is what grows under load.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
import pytest
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy

from jobqueue.api.app import App, build_app
from jobqueue.api.dialects.classic import ClassicEnqueue
from jobqueue.api.mounts import Mounts
from jobqueue.api.routes import Route
from jobqueue.backend.local import LocalBackend
from jobqueue.clock import ManualClock
from jobqueue.http.heads import Fields, Head
from jobqueue.http.request import Request
from jobqueue.limits import Limits

pytestmark = pytest.mark.long

SIZE = Limits().body_bytes_max
TARGET_CHARS = 8_000
RATIO = 2.5
SHORT_SECONDS = 0.004
"""Allowed on any machine: none parses such a list so fast that what is allowed were less. The time of the list need not be taken then."""

CYCLES_MAX = 500
"""Objects that only the collector can free, after one request: some frames, not a list of items."""

ROUTES = [route for route in Mounts().routes([]) if not route.public]


def fill(unit: bytes, head: bytes = b"", tail: bytes = b"") -> bytes:
    """A body of the largest size: `unit` again and again, the last without its comma."""
    count = (SIZE - len(head) - len(tail) + 1) // len(unit)
    return head + (unit * count).removesuffix(b",") + tail


VALUES: dict[str, tuple[bytes, bytes, bytes]] = {
    "numbers": (b"1,", b"[", b"]"),
    "texts": (b'"",', b"[", b"]"),
    "lists": (b"[],", b"[", b"]"),
    "columns": (b"[" * 98 + b"]" * 98 + b",", b"[", b"]"),
    "deep": (b"[", b"", b""),
    "brackets in texts": (b'["["],', b"[", b"]"),
    "keys": (b'"":1,', b"{", b"}"),
    "a text": (b"a", b'"', b'"'),
    "escapes": (b'\\"', b'"', b'"'),
    "halves": (b"\\ud800", b'"', b'"'),
    "digits": (b"1", b"", b""),
    "a fraction": (b"1", b"0.", b""),
    "spaces": (b" ", b"", b"1"),
}
ITEMS = (
    b"1",
    b"{}",
    b'""',
    b"[]",
    b"null",
    b'{"payload":1}',
    b'{"payload":1,"z":1}',
    b'{"id":"","lease":"","outcome":"failed"}',
    b'{"id":1}',
)


@cache
def distinct() -> bytes:
    """An object of as many different keys as there is room for."""
    keys = ",".join(f'"{number:x}":1' for number in range(SIZE // 10))
    return f"{{{keys}}}".encode()


def bodies(route: Route) -> Iterator[tuple[str, bytes]]:
    """Junk for a route: without regard to what it takes, and in every field that it knows."""
    for name, (unit, head, tail) in VALUES.items():
        yield name, fill(unit, head, tail)
    yield "no JSON", b"\xff" * SIZE
    yield "different keys", distinct()
    kind, fields = route.body, []
    if get_origin(kind) is list:
        for item in ITEMS:
            yield f"jobs: {item!r}", fill(item + b",", b'{"jobs":[', b"]}")
        yield "jobs, the last is bad", fill(b'{"payload":1},', b'{"jobs":[', b",1]}")
        yield "jobs again and again", fill(b'"jobs":[' + b"1," * 999 + b"1],", b"{", b"}")
        yield "jobs again and again, none in them", fill(b'"jobs":[],', b"{", b"}")
        yield "jobs twice", fill(b'{"payload":1},', b'{"jobs":[', b'],"jobs":[]}')
        fields = [field.encode_name for field in msgspec.structs.fields(get_args(kind)[0])]
        for field in fields:
            yield f"jobs: {field} of one", fill(b"1,", b'{"jobs":[{"%b":[' % field.encode(), b"]}]}")
        return
    if kind is not None:
        fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    for field in fields:
        required = b"".join(
            b'"%b":1,' % other.encode_name.encode()
            for other in msgspec.structs.fields(kind)
            if other.encode_name != field and other.required
        )
        for name, (unit, head, tail) in VALUES.items():
            yield f"{field}: {name}", fill(unit, b'{%b"%b":%b' % (required, field.encode(), head), tail + b"}")
        for value in (b"[]", b"{}", b"1"):
            yield f"{field} again and again: {value!r}", fill(b'"%b":%b,' % (field.encode(), value), b"{", b"}")
    if kind is ClassicEnqueue:
        yield "keys in any case", fill(b'"type":1,"TYPE":2,', b"{", b"}")


def queries(route: Route) -> Iterator[tuple[str, str]]:
    """Junk in the query, as long as a request line may be."""
    names = [field.encode_name for field in msgspec.structs.fields(route.query)] if route.query is not None else []
    for name in [*names, "x"]:
        for value in ("a", "1" * 4_000, "%5B" * 1_000, "9" * 300, "%00", "\u00e9"):
            pair = f"{name}={value}&"
            yield name, (pair * (TARGET_CHARS // len(pair) + 1))[:TARGET_CHARS]
        yield name, f"{name}=" + "1" * TARGET_CHARS
    yield "separators", "&" * TARGET_CHARS


class Gone:
    """A connection whose answers nobody reads."""

    over = ""
    address = "127.0.0.1"
    transport = None
    handed = None
    server = types.SimpleNamespace(
        open=(), connections_max=1, unread_bytes=0, unread_bytes_max=1, unsent_bytes=0, unsent_bytes_max=1, requests_count=0
    )
    writing_paused = False

    def has_hung_up(self) -> bool:
        """It has."""
        return True

    def force_close(self) -> None:
        """Nothing is open."""


FIELDS = Fields(CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json", "Host": "test"})), host="test", json=True)


def asking(route: Route, body: bytes = b"", query: str = "") -> Request:
    """A request to a route that came whole."""
    path = route.path.replace("{id}", "job").replace("{name}", "default").replace("{key}", "k").replace("{number}", "1")
    made = Request(Head(route.method, path + ("?" + query if query else ""), FIELDS, HttpVersion11), Gone())  # type: ignore[arg-type]
    made.whole = body
    return made


@types.coroutine
def turns(work: Coroutine[Any, Any, Any], spent: list[float]) -> Generator[Any, Any, Any]:
    """Run `work`, noting how long it holds the loop each time; given up where it waits for something."""
    while True:
        begun = time.thread_time()
        try:
            waits_for = work.send(None)
        except StopIteration as stop:
            return stop.value
        finally:
            spent.append(time.thread_time() - begun)
        if waits_for is not None:
            work.close()
            return None
        yield None


async def longest(app: App, make: Callable[[], Request]) -> tuple[float, int | None]:
    """For how many seconds a request holds the loop, and its status, None where it is held open."""
    spent: list[float] = []
    answer = await turns(app.handle(make()), spent)
    return max(spent), None if answer is None else answer.status


def reference() -> float:
    """Seconds that the largest list takes to be parsed by the standard library."""
    text = fill(b"1,", b"[", b"]")
    best = 1.0
    for _ in range(3):
        begun = time.thread_time()
        json.loads(text)
        best = min(best, time.thread_time() - begun)
    return best


async def attacked(route: Route) -> tuple[list[str], int]:
    """What goes wrong when a route is sent junk of every kind, and of how many requests."""
    app = build_app(LocalBackend(clock=ManualClock()))
    wrong: list[str] = []
    bound = SHORT_SECONDS
    # What making the application leaves is no request's.
    gc.collect()
    asked = [(name, body, "") for name, body in bodies(route)] + [(name, b"", query) for name, query in queries(route)]
    for name, body, query in asked:

        def make(body: bytes = body, query: str = query) -> Request:
            return asking(route, body, query)

        seconds, status = await longest(app, make)
        left = gc.collect()
        if seconds > bound == SHORT_SECONDS:
            bound = max(bound, RATIO * reference())
        for _ in range(2):
            if seconds > bound:
                seconds = min(seconds, (await longest(app, make))[0])
        if seconds > bound:
            wrong.append(f"{name}: holds the loop for {seconds * 1_000:.0f} ms, {bound * 1_000:.0f} are allowed")
        if left > CYCLES_MAX:
            wrong.append(f"{name}: leaves {left} objects to the collector")
        if status is not None and status >= 500:
            wrong.append(f"{name}: answers {status}")
    return wrong, len(asked)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What exists already is no request's, and walking it in each collection would take longer than the requests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_junk_of_the_largest_size_costs_little_and_leaves_nothing(route: Route) -> None:
    """Whatever a body or a query of the largest size is filled with: no long turn, nothing for the collector, no 5xx."""
    gc.collect()
    gc.disable()
    try:
        wrong, asked = asyncio.run(attacked(route))
    finally:
        gc.enable()
    assert not wrong, "\n".join(wrong)
    assert asked > 20
