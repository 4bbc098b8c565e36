"""A client of several servers on one queue, played by proxies before one server: which is asked, when the next one is, what is repeated."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme

import jobqueue
from jobqueue import AsyncClient, Client, Retrying
from jobqueue.testing import server, server_in_thread
from jobqueue.worker.http_source import HttpSource, source_client

from .conftest import Connect
from .rig import CLIENTS, DROP, GUARD, KEEP, PASS, STALL, SWALLOW, Face, Proxy, canned, proxied
from .test_listening import listening_to
from .test_retrying import DRAINING

STORAGE = b'{"type":"urn","title":"t","status":503,"code":"storage_unavailable","detail":"nobody owns the queue"}'
UNCONFIRMED = STORAGE[:-1] + b',"unconfirmed":true}'
TOO_MANY = b'{"type":"urn","title":"t","status":503,"code":"too_many_connections","detail":"1000 are open"}'
NEWER = b'{"type":"urn","title":"t","status":503,"code":"of_a_newer_server","detail":"not now"}'

REFUSALS = {
    "draining": canned(503, DRAINING, "Retry-After: 5"),
    "storage": canned(503, STORAGE, "Retry-After: 1"),
    "crowded": canned(503, TOO_MANY, "Retry-After: 1"),
    "newer": canned(503, NEWER),
    "proxy": canned(503, b"no upstream"),
}
"""Answers of a server that cannot do it now and has done nothing."""

ENDED = canned(204, b"", "Retry-After: 5").replace(b"Content-Length: 0\r\n", b"")
"""What a held dequeue is answered by a server that shuts down."""

STILL = Retrying(random=lambda: 1.0, clock=lambda: 0.0)
"""The servers are asked in the order given, and no time passes: one that failed is left alone."""


def seen_by(*proxies: Proxy) -> list[int]:
    return [len(proxy.seen) for proxy in proxies]


@pytest.fixture
def gone() -> Iterator[str]:
    """Where connections are refused for as long as the test lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


async def test_the_next_is_asked_at_once_where_no_connection_is_made(connect: Connect, url: str, gone: str) -> None:
    """Without a pause, and for what must never be sent twice too; from then on the one that answered is asked."""
    for operation in ("put_queue", "purge", "queue", "delete_queue"):
        api = connect(f"{gone},{url}", retrying=STILL)
        assert repr(api.client) == f"<{api.kind.__name__} of {gone}, one of 2>"
        await getattr(api, operation)("q")
        assert (api.pauses, api.client.url) == ([], url)
    api = connect([gone, url], retrying=Retrying(tries=1, random=lambda: 1.0))
    assert await api.queues() == []


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_the_next_is_asked_at_once_after_a_refusal(connect: Connect, url: str, refusal: str) -> None:
    """One that shuts down, or cannot store, has done nothing; it is left alone afterwards."""
    async with proxied(url, REFUSALS[refusal]) as first, proxied(url) as second:
        api = connect([first.url, second.url], retrying=STILL)
        await api.put_queue("q")
        await api.purge("q")
        assert api.pauses == []
    assert seen_by(first, second) == [1, 2]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_must_not_be_repeated_goes_on_where_a_refusal_is_known_as_one(connect: Connect, url: str, refusal: str) -> None:
    """What a proxy or a newer server says may mean that it was done."""
    async with proxied(url, REFUSALS[refusal]) as first, proxied(url, PASS) as second:
        api = connect([first.url, second.url], retrying=STILL)
        await connect(url).put_queue("q")
        if refusal in ("newer", "proxy"):
            with pytest.raises(jobqueue.UnexpectedAnswer):
                await api.purge("q")
            assert seen_by(first, second) == [1, 0]
        await api.purge("q")
    assert seen_by(first, second) == [1, 1]


@pytest.mark.parametrize("operation", ["purge", "cancel", "retry", "retry_failed"])
async def test_what_must_not_be_repeated_goes_on_after_a_refusal_alone(connect: Connect, url: str, operation: str) -> None:
    """Once it was sent, and no answer says that it was not done, it is sent to nobody else."""
    await connect(url).enqueue(1, id="x", queue="x")
    for lost in (SWALLOW, DROP, canned(502), canned(504), canned(503, UNCONFIRMED)):
        async with proxied(url, REFUSALS["draining"]) as first, proxied(url, lost) as second, proxied(url) as third:
            api = connect([first.url, second.url, third.url], retrying=STILL)
            with pytest.raises(jobqueue.Unconfirmed):
                await getattr(api, operation)("x")
            assert (api.pauses, seen_by(first, second, third)) == ([], [1, 1, 0])


async def test_an_enqueue_whose_answer_was_lost_goes_to_the_next_under_its_id(connect: Connect, url: str) -> None:
    """After the pause that any lost answer has; the job is in once."""
    async with proxied(url, SWALLOW) as first, proxied(url) as second:
        api = connect([first.url, second.url], retrying=STILL)
        made = await api.enqueue(1)
        assert api.pauses == [0.2]
    assert first.seen[0].body == second.seen[0].body
    assert [job.id for job in await connect(url).all_jobs()] == [made.id]


async def test_a_lease_taken_at_one_is_good_at_the_next(connect: Connect, url: str, gone: str) -> None:
    """Extended and concluded there, also when the first has lost the answer."""
    await connect(url).enqueue(1)
    async with proxied(url, PASS, DROP) as first, proxied(url, PASS, SWALLOW) as second, proxied(url) as third:
        api = connect([first.url, second.url, third.url], retrying=STILL)
        job = await api.dequeue()
        await api.extend(job.id, job.lease.token)
        done = await api.conclude(job.id, job.lease.token, "succeeded", result=1)
        assert done.outcome == "succeeded"
        assert seen_by(first, second, third) == [2, 2, 1]


async def test_one_that_never_answers_is_gone_past(connect: Connect, url: str) -> None:
    """After its time-out, which is one try."""
    async with proxied(url, *[STALL] * 9) as first:
        assert await connect([first.url, url], retrying=STILL, timeout=1).queues() == []
        assert first.seen


async def test_a_held_dequeue_goes_on_at_the_next(connect: Connect, url: str) -> None:
    """When it is cut, and when the server ends it since it shuts down, under the same attempt_id; the job is taken once."""
    async with proxied(url, ENDED) as first, proxied(url, STALL) as second, proxied(url, KEEP) as third, proxied(url) as fourth:
        api, direct = connect([each.url for each in (first, second, third, fourth)], retrying=STILL), connect(url)
        waiting = asyncio.ensure_future(api.dequeue("q", wait=20))
        while not second.seen:
            assert not waiting.done()
            await direct.queues()
        assert api.pauses == []
        second.stalled.set()
        await direct.enqueue_batch([jobqueue.NewJob(n, queue="q") for n in range(2)])
        async with asyncio.timeout(GUARD):
            await third.kept.wait()
        third.stalled.set()
        assert (await waiting).payload == 0
    asked = [json.loads(each.seen[0].body) for each in (first, second, third, fourth)]
    assert len({each["attempt_id"] for each in asked}) == 1
    assert (await direct.queue("q")).queued == 1


async def test_a_held_dequeue_survives_the_end_of_its_server(connect: Connect, url: str) -> None:
    """A server that shuts down answers whom it holds; they wait on at the next, where a job then comes."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(server())
        api, direct = connect(f"{first},{url}", retrying=STILL), connect(url)
        await direct.put_queue("q")
        waiting = asyncio.ensure_future(api.dequeue("q", wait=50))
        await connect(first).put_queue("q")
        while not (await connect(first).queue("q")).waiters:
            assert not waiting.done()
    while not (await direct.queue("q")).waiters:
        assert not waiting.done()
    await direct.enqueue(1, queue="q")
    assert (await waiting).payload == 1
    assert api.pauses == []


async def test_where_all_shut_down_a_wait_is_not_asked_for_in_a_whirl(connect: Connect, url: str) -> None:
    """Each is asked once; then a wait that one request can hold ends, and a longer one heeds the Retry-After."""
    for wait, pauses, asked in ((20, [], 1), (0, [], 1), (100, [5.0], 2)):
        async with proxied(url, *[ENDED] * 4) as first, proxied(url, ENDED, canned(401)) as second:
            api = connect([first.url, second.url], retrying=STILL)
            if asked == 1:
                assert await api.dequeue(wait=wait) is None
            else:
                with pytest.raises(jobqueue.UnexpectedAnswer):
                    await api.dequeue(wait=wait)
            assert api.pauses == pauses
            assert seen_by(first, second) == [asked, asked]


async def test_when_all_are_down_the_error_names_all(connect: Connect, gone: str, url: str) -> None:
    """With what each said; the tries are counted, and paused between, as for one server."""
    other = gone.replace("127.0.0.1", "localhost")
    api = connect([gone, other], retrying=Retrying(tries=3, random=lambda: 1.0, clock=lambda: 0.0))
    with pytest.raises(jobqueue.ConnectionFailed) as raised:
        await api.enqueue(1)
    assert api.pauses == [0.2, 0.4]
    assert gone in str(raised.value)
    assert other in str(raised.value)
    assert not isinstance(raised.value, jobqueue.Unconfirmed)
    assert (await api.healthy(), await api.ready()) == (False, False)
    async with proxied(url, *[REFUSALS["storage"]] * 2) as proxy:
        api = connect([gone, proxy.url], retrying=Retrying(tries=2, random=lambda: 1.0, clock=lambda: 0.0))
        with pytest.raises(jobqueue.StorageUnavailable, match=f"{gone}.*{proxy.url}: nobody owns the queue"):
            await api.enqueue(1)
        assert (api.pauses, len(proxy.seen)) == ([1.2], 2)


async def test_one_of_them_is_enough_to_be_healthy_and_ready(connect: Connect, url: str, gone: str) -> None:
    """Though the first that is asked is neither."""
    assert await connect([gone, url], retrying=STILL).healthy()
    async with proxied(url, REFUSALS["draining"]) as first:
        assert await connect([first.url, url], retrying=STILL).ready()


async def test_an_error_of_the_caller_is_told_by_the_first(connect: Connect, url: str) -> None:
    """Another server would say the same. So is a full queue, which is waited for. Those that were asked in vain before do not matter."""
    full = canned(429, b'{"type":"urn","title":"t","status":429,"code":"queue_full","detail":"full"}', "Retry-After: 1")
    async with proxied(url, PASS, full) as first, proxied(url) as second:
        api = connect([first.url, second.url], retrying=STILL)
        with pytest.raises(jobqueue.UnknownJob):
            await api.job("nothing")
        await api.enqueue(1)
        assert (seen_by(first, second), api.pauses) == ([3, 0], [1.2])
    async with proxied(url, REFUSALS["draining"]) as first, proxied(url, REFUSALS["storage"]) as second:
        with pytest.raises(jobqueue.UnknownJob, match="no job has the id 'nothing'"):
            await connect([first.url, second.url, url], retrying=STILL).job("nothing")


async def test_events_go_on_at_the_next(connect: Connect, url: str, gone: str) -> None:
    """Each event once: a stream that is cut goes on, after its place, at a server that answers."""
    async with proxied(url) as first, proxied(url, REFUSALS["draining"]) as second, proxied(url) as third:
        api = connect([gone, first.url, second.url, third.url], retrying=STILL)
        told = await listening_to(api, event="enqueued")
        await connect(url).enqueue(1, id="a")
        assert (await told.next()).id == "a"
        del first.seen[:], second.seen[:]
        first.cut()
        await connect(url).enqueue(1, id="b")
        assert (await told.next()).id == "b"
        assert [pause for pause in api.pauses if pause] == [0.2]
        assert seen_by(first, second, third) == [0, 1, 1]
        assert "last-event-id" in third.seen[0].headers
        await api.close()


async def test_listening_where_nobody_is_names_all(connect: Connect, gone: str) -> None:
    """The first connection has the tries of any request."""
    api = connect([gone, f"{gone}/b"], retrying=Retrying(tries=2, random=lambda: 1.0, clock=lambda: 0.0))
    with pytest.raises(jobqueue.ConnectionFailed, match=rf"{gone}/events.*{gone}/b/events"):
        await api.listen().next()
    assert [pause for pause in api.pauses if pause] == [0.2]


async def test_each_has_a_path_of_its_own(connect: Connect, url: str) -> None:
    """And its own Host; the token is for all of them."""
    async with proxied(url, DROP, prefix="/a") as first, proxied(url, prefix="/b/c") as second:
        api = connect(f"{first.url}/, {second.url}", "a-token", retrying=STILL)
        assert await api.queues() == []
    for proxy, target in ((first, "/a/queues"), (second, "/b/c/queues")):
        (seen,) = proxy.seen
        assert (seen.target, seen.headers["authorization"]) == (target, "Bearer a-token")
        assert seen.headers["host"] == proxy.url.split("/")[2]


async def test_all_are_asked_by_tls_with_the_same_authorities(connect: Connect, gone: str, tmp_path: Path) -> None:
    """A server whose certificate does not fit is one to which no connection is made."""
    authority, stranger, trusting = trustme.CA(), trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    async with AsyncExitStack() as stack:
        urls = [gone]
        for name, issuer in (("one", stranger), ("two", authority)):
            issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / name))
            urls.append(await stack.enter_async_context(server(tls_cert=str(tmp_path / name), tls_key=str(tmp_path / name))))
        api = connect([each.replace("http:", "https:") for each in urls], ssl_context=trusting, retrying=STILL)
        assert await api.queues() == []
        assert api.client.url == urls[2].replace("http:", "https:")
        await api.close()


async def test_a_server_that_is_back_is_asked_again(connect: Connect, url: str) -> None:
    """By one call that may be repeated, once its seconds have passed; never by one that may not."""
    now = [0.0]
    async with proxied(url, DROP) as first, proxied(url) as second:
        api = connect([first.url, second.url], retrying=Retrying(random=lambda: 1.0, clock=lambda: now[0]))
        await api.put_queue("q")
        now[0] = 1.9
        await api.queues()
        assert seen_by(first, second) == [1, 2]
        now[0] = 2.0
        await api.purge("q")
        assert seen_by(first, second) == [1, 3]
        await api.queues()
        await api.purge("q")
        assert seen_by(first, second) == [3, 3]


async def test_a_worker_rides_over_its_server(url: str, gone: str) -> None:
    """It takes at one server, and extends and concludes at the next in the same call where nothing was sent."""
    async with proxied(url, PASS, REFUSALS["draining"]) as first, AsyncClient(url) as client:
        await client.enqueue(1)
        urls = f"{first.url},{url}"
        made = source_client(urls, None)
        # Whichever it chose first, it takes at the proxy.
        made._servers._order = [0, 1]
        made._servers._current_is(0)
        source = HttpSource(made)
        (leased,) = await source.take(jobqueue.model.Want(limit=1, lease_seconds=30, worker="w"), 20)
        assert await source.extend([jobqueue.backend.base.Extend(leased.id, leased.token, None, None, None)]) == [False]
        assert made.url == url
        await source.close()
    assert len(first.seen) == 2


def test_a_forked_process_chooses_anew() -> None:
    """Else every process of a server that forks would ask the same one; its calls work as those of its parent."""
    numbers = iter([1.0, 0.0] + [1.0] * 20)
    with server_in_thread() as url:
        client = Client([url, f"{url}/"], retrying=Retrying(random=lambda: next(numbers)))
        assert client.url == url
    client = Client(["http://a", "http://b"], retrying=Retrying(random=lambda: next(numbers)))
    first = client.url
    client._process = -1
    client._opened()
    assert {first, client.url} == {"http://a", "http://b"}
    client.close()


@pytest.mark.parametrize("kind", CLIENTS)
def test_many_clients_spread(kind: type[Client] | type[AsyncClient]) -> None:
    """Of a thousand, each of three servers has about a third; and of those whose first is away, each of the others about a half."""
    random = Retrying(random=Random(15).random, clock=lambda: 0.0)
    chosen: dict[str, int] = {}
    moved: dict[tuple[str, str], int] = {}
    for _ in range(1_000):
        client: Any = kind("http://a,http://b,http://c", retrying=random)
        first = client.url
        chosen[first] = chosen.get(first, 0) + 1
        client._servers.failed(client._servers.current.at)
        moved[first, client.url] = moved.get((first, client.url), 0) + 1
    assert len(chosen) == 3
    assert all(280 < count < 390 for count in chosen.values()), chosen
    assert len(moved) == 6
    assert all(120 < count < 220 for count in moved.values()), moved


# What is a list of URLs.


@pytest.mark.parametrize("kind", CLIENTS)
def test_urls_are_a_list_or_have_commas_between_them(kind: type[Client] | type[AsyncClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the argument or the environment; the same one twice counts once."""

    def urls(*given: Any) -> list[str]:
        return sorted(turn.url for turn in kind(*given)._servers.turns)

    assert urls("http://a:1,http://b/x/") == urls(["http://a:1", "http://b/x"]) == urls(("http://b/x", "http://a:1/"))
    assert urls("http://a, http://b ,http://a/") == ["http://a", "http://b"]
    assert urls(["http://a/x,y"]) == ["http://a/x,y"]
    assert len(urls([f"https://a{n}" for n in range(32)])) == 32
    monkeypatch.setenv("JOBQUEUE_URL", "http://c,http://d")
    assert urls() == ["http://c", "http://d"]
    assert repr(kind("http://a,http://a")) == f"<{kind.__name__} of http://a>"


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "url: 0 URLs; 1 to 32 are allowed"),
        ([f"http://a{n}" for n in range(33)], "url: 33 URLs; 1 to 32"),
        ("http://a,,http://b", "url, entry 2: is empty"),
        ("http://a,", "url, entry 2: is empty"),
        ("http://a,b:80", "url, entry 2: 'b:80' must be http://HOST:PORT"),
        ("ftp://a,http://b", "url, entry 1: 'ftp://a' must be"),
        (["http://a", 7], "url, entry 2: 7 is no text"),
        (b"http://a", "url, entry 1: 104 is no text"),
        ("http://a,https://b", "url, entry 2: 'https://b' must have the same scheme as the first one, 'http://a': all http, or all https"),
        ("http://a,http://u:secret@b", "url, entry 2: must have no user"),
        ("http://a,http://b:99999", "url, entry 2: 'http://b:99999' is not a URL"),
    ],
)
def test_a_list_that_is_none_is_refused_by_its_entry(kind: type[Client] | type[AsyncClient], given: Any, said: str) -> None:
    """The error names which, and shows no password."""
    with pytest.raises(ValueError, match=r"^url") as raised:
        kind(given)
    assert str(raised.value).startswith(said)
    assert "secret" not in str(raised.value)


def test_the_environment_is_named_where_its_list_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its variable."""
    monkeypatch.setenv("JOBQUEUE_URL", "http://a,b")
    with pytest.raises(ValueError, match="JOBQUEUE_URL, entry 2: 'b' must be"):
        Client()


def test_a_proxy_of_the_environment_is_looked_up_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """`no_proxy` may exempt one of them."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "b")
    client = Client("http://a,http://b")
    assert [(route.host, route.port) for route in client._routes] == [("proxy", 3128), ("b", 80)]


async def test_calls_at_once_find_out_once(url: str) -> None:
    """Many calls whose server is gone count as one failure of it, and all are answered by the next."""
    async with proxied(url, *[DROP] * 20) as first, proxied(url) as second:
        face = Face(AsyncClient, f"{first.url},{second.url}", retrying=STILL)
        await asyncio.gather(*(face.queues() for _ in range(20)))
        assert face.client._servers._failures == [1, 0]
        assert seen_by(first, second) == [20, 20]
        await face.close()
