"""How often one may ask: buckets, who shares one, what the answers tell, and what it costs in memory."""

from __future__ import annotations

import math

import pytest

from jobqueue.api.access import ratelimit
from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant
from jobqueue.api.access.ratelimit import Limiter, Rate
from jobqueue.api.routes import Route

from .conftest import Serve
from .harness import Api, Reply, answered, assert_problem, request
from .test_auth import ROUTES, bearer, name, target


class Time:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def told(lines: bytes) -> dict[str, str]:
    """Header lines by name."""
    return dict(line.split(": ", 1) for line in lines.decode().splitlines())


def counted(reply: Reply) -> tuple[int, int]:
    """What an answer says is left, and in how many seconds the bucket is full."""
    item, left, seconds = reply.headers["ratelimit"].split(";")
    assert (item, left[:2], seconds[:2]) == ('"requests"', "r=", "t=")
    return int(left[2:]), int(seconds[2:])


# One bucket.


def test_a_bucket_starts_full_and_is_refilled_evenly() -> None:
    """As many at once as the burst; from then on one for each span that one takes to flow back."""
    time = Time()
    limiter = Limiter(Rate(10, 1.0, 5), time)
    assert [limiter.take("a")[1] is None for _ in range(7)] == [True] * 5 + [False] * 2
    time.now += 0.1
    assert [limiter.take("a")[1] is None for _ in range(2)] == [True, False]
    time.now += 0.35
    assert [limiter.take("a")[1] is None for _ in range(4)] == [True] * 3 + [False]
    time.now += 1_000
    assert [limiter.take("a")[1] is None for _ in range(6)] == [True] * 5 + [False]


@pytest.mark.parametrize("rate", [Rate(1, 1.0, 1), Rate(1_000, 1.0, 1_000), Rate(7, 60.0, 3), Rate(3, 3_600.0, 3)])
def test_over_a_long_time_the_rate_is_kept(rate: Rate) -> None:
    """Whoever asks all the time gets the burst and then the rate, no more and, but for rounding, no less."""
    time = Time()
    limiter = Limiter(rate, time)
    step = rate.seconds / rate.requests / 3
    allowed = 0
    for _ in range(3_000):
        allowed += limiter.take("a")[1] is None
        time.now += step
    assert rate.burst - 1 <= allowed - 1_000 <= rate.burst + 1


def test_a_refusal_costs_nothing() -> None:
    """Asking while the bucket is empty does not put off the time when it is not."""
    time = Time()
    limiter = Limiter(Rate(1, 10.0, 1), time)
    assert limiter.take("a")[1] is None
    for _ in range(50):
        _, error = limiter.take("a")
        assert error is not None
        assert error.retry_after == math.ceil(1_010 - time.now)
        time.now += 0.125
    time.now = 1_010.0
    assert limiter.take("a")[1] is None


def test_retry_after_is_when_one_flows_back() -> None:
    """In whole seconds, at least 1, and enough: whoever waits that long is served."""
    time = Time()
    limiter = Limiter(Rate(1, 2.5, 2), time)
    for _ in range(2):
        limiter.take("a")
    _, error = limiter.take("a")
    assert error is not None
    assert error.retry_after == 3
    assert "1 requests in 2.5 s, 2 at once" in error.detail
    time.now += error.retry_after
    assert limiter.take("a")[1] is None


def test_the_headers_are_those_of_the_draft() -> None:
    """Policy: the bucket's size and the seconds it takes to fill; the rest: what is left and when it is full again."""
    time = Time()
    limiter = Limiter(Rate(10, 1.0, 50), time)
    lines, _ = limiter.take("a")
    assert told(lines) == {"RateLimit-Policy": '"requests";q=50;w=5', "RateLimit": '"requests";r=49;t=1'}
    for _ in range(30):
        lines, _ = limiter.take("a")
    assert told(lines)["RateLimit"] == '"requests";r=19;t=4'
    for _ in range(20):
        lines, error = limiter.take("a")
    assert error is not None
    assert told(lines)["RateLimit"] == '"requests";r=0;t=5'
    time.now += 5
    assert told(limiter.take("a")[0])["RateLimit"] == '"requests";r=49;t=1'


def test_buckets_are_apart() -> None:
    """One that is empty takes nothing from another."""
    limiter = Limiter(Rate(1, 60.0, 1), Time())
    assert limiter.take("a")[1] is None
    assert limiter.take("a")[1] is not None
    assert limiter.take("b")[1] is None


def test_buckets_are_bounded_and_full_ones_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of addresses costs no more memory than the bound; who is not served stays so while others' buckets fill."""
    monkeypatch.setattr(ratelimit, "BUCKETS_MAX", 100)
    time = Time()
    limiter = Limiter(Rate(1, 10.0, 1), time)
    for number in range(99):
        limiter.take(str(number))
    time.now += 10
    limiter.take("busy")
    for number in range(99):
        limiter.take(f"late {number}")
        assert limiter.take("busy")[1] is not None
        assert len(limiter) <= 100
    for number in range(10_000):
        limiter.take(f"crowd {number}")
        assert len(limiter) <= 100


# On the server.


def held_to(rate: Rate, *names: str) -> tuple[Access, Time]:
    """A server with a rate, and its clock; with tokens of these names, or none."""
    time = Time()
    keys = Keys([grant(name, digest_of(name), [Scope.READ, Scope.DEQUEUE]) for name in names]) if names else None
    return Access(keys, rate=rate, clock=time), time


async def test_a_token_that_asks_too_often_is_429(serve: Serve) -> None:
    """With Retry-After, and headers on every answer, good or bad; another token is served; after a while this one is again."""
    access, time = held_to(Rate(1, 1.0, 3), "one", "two")
    api = await serve(access=access)
    for left, (path, status) in zip((2, 1, 0), (("/jobs", 200), ("/jobs/none", 404), ("/jobs?x=1", 400)), strict=True):
        reply = await api.send("GET", path, headers=bearer("one"))
        assert (reply.status, reply.headers["ratelimit-policy"], counted(reply)[0]) == (status, '"requests";q=3;w=3', left)
    for _ in range(3):
        reply = await api.send("GET", "/jobs", headers=bearer("one"))
        assert_problem(reply, 429, "rate_limited")
        assert (reply.headers["retry-after"], *counted(reply)) == ("1", 0, 3)
    assert counted(await api.send("GET", "/jobs", headers=bearer("two"))) == (2, 1)
    time.now += 1
    assert counted(await api.send("GET", "/jobs", headers=bearer("one"))) == (0, 3)


async def test_what_a_scope_refuses_counts_too(serve: Serve) -> None:
    """The bucket is looked at before the scope."""
    access, _ = held_to(Rate(1, 1.0, 1), "one")
    api = await serve(access=access)
    assert (await api.send("POST", "/jobs/enqueue", b"{}", bearer("one"))).status == 403
    assert_problem(await api.send("POST", "/jobs/enqueue", b"{}", bearer("one")), 429, "rate_limited")


async def test_wrong_tokens_count_for_their_address(serve: Serve) -> None:
    """Whoever tries tokens is soon told to wait instead of 401; those with a right one notice nothing."""
    access, _ = held_to(Rate(1, 1.0, 2), "one")
    api = await serve(access=access)
    statuses = [(await api.send("GET", "/jobs", headers=bearer(f"guess {number}"))).status for number in range(4)]
    assert statuses == [401, 401, 429, 429]
    assert (await api.send("GET", "/jobs", headers=bearer("one"))).status == 200


async def test_without_tokens_an_address_has_a_bucket(serve: Serve) -> None:
    """Over all its connections."""
    access, _ = held_to(Rate(1, 1.0, 3))
    api = await serve(access=access)
    statuses = []
    for _ in range(5):
        wire = await api.site.wire()
        statuses.append((await wire.ask(request("GET", "/jobs"))).status)
    assert statuses == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.public], ids=name)
async def test_public_routes_are_not_counted(serve: Serve, route: Route) -> None:
    """A health check is never refused, and takes nothing from others."""
    access, _ = held_to(Rate(1, 1.0, 1))
    api = await serve(access=access)
    for _ in range(3):
        reply = await api.send("GET", target(route))
        assert reply.status in (200, 308, 404)
        assert "ratelimit" not in reply.headers
    assert (await api.get("/jobs")).status == 200


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.public], ids=name)
async def test_every_other_route_is(serve: Serve, route: Route) -> None:
    """In the shape of its API."""
    access, _ = held_to(Rate(1, 1.0, 1))
    api = await serve(access=access)
    await api.get("/jobs")
    reply = await api.send(route.method, target(route), b"{}")
    assert (reply.status, reply.headers["content-type"]) == (429, route.shape.content_type.decode())
    assert reply.headers["retry-after"] == "1"


async def test_a_held_answer_tells_too(serve: Serve) -> None:
    """As it was when the request came: held ones, those answered in a batch, and 204."""
    access, _ = held_to(Rate(1, 1.0, 9))
    api = await serve(access=access)
    held = await api.hold("/jobs/dequeue")
    await api.enqueue()
    assert counted(await answered(held))[0] == 8
    batch = await api.hold("/batch/dequeue")
    await api.enqueue()
    assert counted(await answered(batch))[0] == 6
    assert counted(await api.post("/jobs/dequeue", wait=0))[0] == 4


async def test_without_a_rate_nothing_is_said(api: Api) -> None:
    """No header, no bucket."""
    for _ in range(3):
        reply = await api.get("/jobs")
        assert not [header for header in reply.headers if header.startswith("ratelimit")]
