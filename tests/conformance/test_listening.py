"""Listening to events: who is told what, in which order, from where on, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from jobqueue.backend.base import Extend, Listen, Listening, Notice
from jobqueue.engine.events import Kind
from jobqueue.errors import TooManyListeners
from jobqueue.model import JobSpec, Outcome, Status
from jobqueue.policy import QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, spec, token

LIMIT = 1_000

Listener = Callable[..., Awaitable[Listening]]


@pytest.fixture
async def listen(rig: Rig) -> AsyncIterator[Listener]:
    """Begins to listen to the rig's backend; all end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(after: str | None = None, **wanted: list[str]) -> Listening:
            return await stack.enter_async_context(
                rig.backend.listen(Listen(**{name: frozenset(given) for name, given in wanted.items()}), after)  # type: ignore[arg-type]
            )

        yield begin


async def told(rig: Rig, listening: Listening, limit: int = LIMIT) -> list[Notice]:
    """Everything a listener is told of by now."""
    await rig.idle()
    notices = await listening.notices(limit, 0)
    assert notices is not None
    return notices


def kinds(notices: list[Notice]) -> list[tuple[str, str]]:
    return [(notice.kind.value, notice.id or notice.queue) for notice in notices]


async def test_a_listener_is_told_of_everything_from_then_on_in_order(rig: Rig, listen: Listener) -> None:
    """What happened before is not told; a whole life is, each event once."""
    await rig.put("old")
    listening = await listen()
    await rig.take()
    job = (await rig.backend.enqueue(spec("j", queue="q", type="t", max_attempts=2))).job
    taken = await rig.take("q", worker="w")
    await rig.backend.extend(Extend("j", token(taken), None, 0.5, "half"))
    await rig.backend.conclude("j", token(taken), FAILED)
    await rig.advance(2)
    taken = await rig.take("q")
    await rig.backend.cancel("j")
    await rig.backend.conclude("j", token(taken), SUCCEEDED)
    await rig.backend.retry("j")
    notices = await told(rig, listening)
    assert kinds(notices) == [
        ("dequeued", "old"),
        ("queue_changed", "q"),
        ("enqueued", "j"),
        ("dequeued", "j"),
        ("extended", "j"),
        ("scheduled", "j"),
        ("queued", "j"),
        ("dequeued", "j"),
        ("cancel_requested", "j"),
        ("concluded", "j"),
        ("queued", "j"),
    ]
    half = notices[4]
    assert (half.queue, half.type, half.number, half.status, half.attempts) == ("q", "t", job.number, Status.IN_PROGRESS, 1)
    assert (half.worker, half.progress, half.message, half.cancel_requested) == ("w", 0.5, "half", False)
    assert notices[8].cancel_requested
    assert (notices[9].status, notices[9].outcome) == (Status.CONCLUDED, Outcome.CANCELLED)
    assert (notices[10].status, notices[10].outcome, notices[10].attempts) == (Status.QUEUED, None, 0)
    assert await told(rig, listening) == []
    assert len({notice.cursor for notice in notices}) == len(notices)


async def test_an_event_tells_how_the_job_stood_then(rig: Rig, listen: Listener) -> None:
    """A job that goes to a waiter at once was enqueued first, and is told so; times are UTC."""
    # Times are in UTC, wherever the wall clock is set to.
    rig.step_wall_clock(3_600.0)
    await rig.backend.put_policy("default", QueuePolicy(lease_seconds=30))
    listening = await listen()
    await rig.stand(worker="w")
    await rig.put("j")
    enqueued, dequeued = await told(rig, listening)
    assert (enqueued.status, enqueued.attempts, enqueued.lease_expires_at) == (Status.QUEUED, 0, None)
    assert (dequeued.status, dequeued.attempts, dequeued.worker) == (Status.IN_PROGRESS, 1, "w")
    assert enqueued.at == dequeued.at == pytest.approx(rig.utc())
    assert dequeued.lease_expires_at == pytest.approx(rig.utc() + 30)


async def test_events_of_queues_carry_their_policy(rig: Rig, listen: Listener) -> None:
    """Made, set, paused, resumed, deleted: each has a name, and says what holds since."""
    listening = await listen()
    await rig.backend.put_policy("q", QueuePolicy(max_attempts=7))
    await rig.backend.set_paused("q", True)
    await rig.backend.set_paused("q", False)
    await rig.backend.delete_queue("q")
    notices = await told(rig, listening)
    assert kinds(notices)[-4:] == [("queue_changed", "q"), ("queue_paused", "q"), ("queue_resumed", "q"), ("queue_deleted", "q")]
    assert [notice.policy and (notice.policy.max_attempts, notice.policy.paused) for notice in notices[-4:]] == [
        (7, False),
        (7, True),
        (7, False),
        None,
    ]


async def test_no_event_carries_what_is_not_for_everyone(rig: Rig, listen: Listener) -> None:
    """Neither payload, result, error nor the lease's token is anywhere in what is told."""
    listening = await listen()
    await rig.put("j", payload=b'"secret payload"')
    taken = await rig.take()
    await rig.backend.conclude("j", token(taken), FAILED_FOR_GOOD)
    await rig.finish("k")
    shown = repr(await told(rig, listening))
    for hidden in ("secret", token(taken), "broken", "done"):
        assert hidden not in shown


async def test_a_listener_is_told_only_what_it_asked_for(rig: Rig, listen: Listener) -> None:
    """Queues, types and kinds narrow each other; several of one widen it."""
    listeners = {
        "ab": await listen(queues=["a", "b"]),
        "mail": await listen(types=["mail"]),
        "ends": await listen(kinds=[Kind.CONCLUDED, Kind.FORGOTTEN]),
        "narrow": await listen(queues=["a"], types=["mail"], kinds=[Kind.ENQUEUED]),
    }
    await rig.put("1", queue="a", type="mail")
    await rig.put("2", queue="b")
    await rig.put("3", queue="c", type="mail")
    await rig.backend.cancel("3")
    found = {name: kinds(await told(rig, listening)) for name, listening in listeners.items()}
    assert found == {
        "ab": [("queue_changed", "a"), ("enqueued", "1"), ("queue_changed", "b"), ("enqueued", "2")],
        "mail": [("enqueued", "1"), ("enqueued", "3"), ("concluded", "3")],
        "ends": [("concluded", "3")],
        "narrow": [("enqueued", "1")],
    }


async def test_a_listener_that_may_not_see_a_queue_is_told_nothing_of_it(rig: Rig) -> None:
    """What `sees` refuses is left out, its queue's events included."""
    async with rig.backend.listen(Listen(sees=lambda queue: queue == "mine")) as listening:
        await rig.put("1", queue="theirs")
        await rig.put("2", queue="mine")
        assert kinds(await told(rig, listening)) == [("queue_changed", "mine"), ("enqueued", "2")]


async def test_a_listener_that_waits_is_told_at_once(rig: Rig, listen: Listener) -> None:
    """Events end a wait, all that one step brought together; those it does not want do not; without any it ends in time."""
    listening = await listen(queues=["q"])
    asking = asyncio.create_task(listening.notices(LIMIT, 15))  # type: ignore[arg-type]
    await rig.idle()
    await rig.put("other")
    await rig.advance(14)
    assert not asking.done()
    await rig.backend.enqueue_batch([spec("1", queue="q"), spec("2", queue="q")])
    await rig.idle()
    assert kinds(await asking or []) == [("queue_changed", "q"), ("enqueued", "1"), ("enqueued", "2")]
    asking = asyncio.create_task(listening.notices(LIMIT, 15))  # type: ignore[arg-type]
    await rig.idle()
    await rig.advance(15)
    assert asking.done()
    assert await asking == []


async def test_a_listener_is_told_no_more_at_once_than_it_asks_for(rig: Rig, listen: Listener) -> None:
    """The rest comes with the next call."""
    listening = await listen(kinds=[Kind.ENQUEUED])
    await rig.put_all("1", "2", "3")
    assert [notice.id for notice in await told(rig, listening, 2)] == ["1", "2"]
    assert [notice.id for notice in await told(rig, listening, 2)] == ["3"]


async def test_listening_goes_on_after_the_cursor(rig: Rig, listen: Listener) -> None:
    """From the place of any event on, also of one that was not wanted; from a listener's own place after events it did not want."""
    witness = await listen()
    await rig.put_all("1", "2", "3")
    notices = await told(rig, witness)
    resumed = await listen(notices[1].cursor)
    assert not resumed.missed
    assert await told(rig, resumed) == notices[2:]
    elsewhere = await listen(queues=["elsewhere"])
    await rig.put("4")
    assert await told(rig, elsewhere) == []
    assert elsewhere.cursor == (await told(rig, witness))[-1].cursor
    assert await told(rig, await listen(elsewhere.cursor)) == []


@pytest.mark.parametrize(
    "cursor", ["", "-", "x", "0-0", "00000000-1", "{name}-999999999", "{name}-١", "{name}--1", "{name}-" + "9" * 5_000]
)
async def test_a_cursor_that_is_not_known_misses_what_was(rig: Rig, listen: Listener, cursor: str) -> None:
    """It starts from now, and says that it missed something."""
    name = (await listen()).cursor.partition("-")[0]
    await rig.put("1")
    await rig.idle()
    listening = await listen(cursor.format(name=name))
    assert listening.missed
    await rig.put("2")
    assert [notice.id for notice in await told(rig, listening)] == ["2"]


async def test_what_is_remembered_is_bounded(make_backend: MakeBackend) -> None:
    """A listener that falls out of it is let go; a cursor from before it has missed something, the oldest in it has not."""
    rig = await make_backend(notices_max=4)
    async with rig.backend.listen(Listen()) as slow, rig.backend.listen(Listen()) as witness:
        start = slow.cursor
        await rig.put_all("1", "2", "3")
        notices = await told(rig, witness)
        assert len(notices) == 4, "the queue was made, too"
        async with rig.backend.listen(Listen(), start) as listening:
            assert not listening.missed
        await rig.put("4")
        await rig.idle()
        assert await slow.notices(LIMIT, 0) is None
        async with rig.backend.listen(Listen(), start) as listening:
            assert listening.missed
        async with rig.backend.listen(Listen(), notices[0].cursor) as listening:
            assert not listening.missed
            assert [notice.id for notice in await told(rig, listening)] == ["1", "2", "3", "4"]


async def test_as_many_listen_as_may(make_backend: MakeBackend) -> None:
    """One more is refused and changes nothing; one that leaves makes room."""
    rig = await make_backend(listeners_max=2)
    async with rig.backend.listen(Listen()):
        async with rig.backend.listen(Listen()):
            assert (await rig.backend.stats()).listeners == 2
            with pytest.raises(TooManyListeners):
                await rig.backend.listen(Listen()).__aenter__()
            assert (await rig.backend.stats()).listeners == 2
        async with rig.backend.listen(Listen()):
            pass
    assert (await rig.backend.stats()).listeners == 0


async def test_a_listener_that_is_cancelled_leaves(rig: Rig) -> None:
    """Cancelling a wait ends it at once; nobody listens then."""

    async def listen() -> None:
        async with rig.backend.listen(Listen()) as listening:
            await listening.notices(LIMIT, 60)

    task = asyncio.create_task(listen())
    await rig.idle()
    assert (await rig.backend.stats()).listeners == 1
    task.cancel()
    await rig.idle()
    assert task.cancelled()
    assert (await rig.backend.stats()).listeners == 0


async def test_draining_ends_listening_after_what_is_there(rig: Rig, listen: Listener) -> None:
    """A waiting listener is answered None at once; one with events left is told these first."""
    waiting, behind = await listen(), await listen()
    asking: asyncio.Task[list[Notice] | None] = asyncio.create_task(waiting.notices(LIMIT, 60))  # type: ignore[arg-type]
    await rig.put("1")
    await rig.idle()
    assert asking.done()
    asking = asyncio.create_task(waiting.notices(LIMIT, 60))  # type: ignore[arg-type]
    await rig.idle()
    rig.backend.drain()
    await rig.idle()
    assert await asking is None
    assert kinds(await told(rig, behind)) == [("queue_changed", "default"), ("enqueued", "1")]
    assert await behind.notices(LIMIT, 60) is None


async def test_what_is_refused_is_not_told(rig: Rig, listen: Listener) -> None:
    """Neither an error nor a repeat is an event."""
    await rig.put("1")
    await rig.idle()
    listening = await listen()
    replies = await rig.backend.enqueue_batch([spec("1"), spec("1", payload=b"2"), JobSpec(payload=b"1", queue="no name!")])
    assert len(replies) == 3
    assert await told(rig, listening) == []


Operation = Callable[[Rig], Awaitable[object]]


async def test_time_brings_events_too(rig: Rig, listen: Listener) -> None:
    """A delay that is over, a lease that ends, a job that expires: told when they happen."""
    await rig.put("delayed", delay=2, queue="d")
    await rig.put("expiring", expires_in=3, queue="e")
    await rig.put("leased", queue="l", lease_seconds=4)
    await rig.take("l")
    await rig.idle()
    listening = await listen()
    await rig.advance(5)
    notices = await told(rig, listening)
    assert [(notice.kind.value, notice.id, notice.outcome) for notice in notices] == [
        ("queued", "delayed", None),
        ("concluded", "expiring", Outcome.EXPIRED),
        ("queued", "leased", None),
    ]
