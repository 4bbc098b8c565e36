"""The link between two servers: who is let in, what a broken link means to whom, and what is bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.backend.base import Listen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.tasks import Redrive
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.frames import HEARTBEATS_MISSED, HELLO_SECONDS, Identity
from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.peer import OwnerLink, PeerServer
from jobqueue.backend.store.remote import CONNECT_SECONDS, RETRY_SECONDS, RemoteBackend
from jobqueue.clock import ManualClock
from jobqueue.errors import BadRequest, Draining, StorageUnavailable, StorageUnconfirmed, Unconfirmed
from jobqueue.limits import KIB, Limits
from jobqueue.model import JobFilter
from jobqueue.policy import QueuePolicy
from tests.conformance.remote import SECRET, RemoteRig
from tests.conformance.rig import SUCCEEDED, Held, raised, spec, want

from .links import cut, links

LIMITS = Limits()


@pytest.fixture
async def rig() -> AsyncIterator[RemoteRig]:
    """An owner and a front, linked."""
    made = RemoteRig(LIMITS)
    await made.backend.stats()
    yield made
    await made.close()


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.9", 4711) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def frame(*message: Any) -> bytes:
    data = m.encode(message)
    return len(data).to_bytes(4) + data


# Who is let in.


async def refused(rig: RemoteRig, identity: Identity) -> str:
    """What a front is told that has this identity."""
    front = RemoteBackend(lambda: "owner:1", identity, LIMITS, clock=rig.between.clock, dial=rig.between.dial)
    error = await raised(front.enqueue(spec()))
    assert type(error) is Moved
    await front.close()
    return str(error)


async def test_servers_of_one_secret_know_each_other(rig: RemoteRig) -> None:
    """Each learns the other's name."""
    front, owner = links(rig)
    assert (front.peer, owner.peer, front.proven, owner.proven) == ("owner", "front", True, True)


async def test_a_wrong_secret_is_refused_by_the_owner(rig: RemoteRig, caplog: pytest.LogCaptureFixture) -> None:
    """The link ends with one line in the log of each side and no traceback; the front's request was not made."""
    assert "cannot be reached" in await refused(rig, Identity("stranger", "another secret altogether"))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.getMessage(), record.exc_info) for record in warnings] == [
        ("link to a local socket ended: it does not know this cluster's secret", None),
        ("the server at owner:1, which owns the queue, cannot be reached: the connection broke", None),
    ]
    assert rig.local.totals().jobs_live == 0


async def test_the_owner_proves_that_it_knows_the_secret_too(caplog: pytest.LogCaptureFixture) -> None:
    """One that sends back the front's own proof is no owner."""
    link = FrontLink(Identity("front", SECRET), LIMITS, ManualClock(), "owner:1")
    link.connection_made(Wire())
    link.data_received(frame(m.HELLO, 0, m.VERSION, "owner", b"n" * 32))
    await asyncio.sleep(0)
    assert link.transport is not None
    sent = link.transport.written  # type: ignore[attr-defined]
    hello = int.from_bytes(sent[:4]) + 4
    link.data_received(sent[hello:])
    assert (link.proven, link.broken) == (False, "it does not know this cluster's secret")


async def test_another_version_is_refused_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which versions the two speak."""
    owner = PeerServer(LocalBackend(), Identity("owner", SECRET), LIMITS, clock=ManualClock())()
    owner.connection_made(Wire())
    owner.data_received(frame(m.HELLO, 0, 99, "front", b"n" * 32))
    assert owner.broken == f"it speaks version 99 of the servers' protocol, this server version {m.VERSION}"
    assert "10.0.0.9:4711" in caplog.text


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", frame(m.PROOF, 0, b""), frame(m.STATS, 1), frame(), (513).to_bytes(4)])
async def test_whoever_says_no_hello_is_refused(first: bytes) -> None:
    """HTTP, a request or a proof without a hello, and a large frame before anything is proven."""
    owner = PeerServer(LocalBackend(), Identity("owner", SECRET), LIMITS, clock=ManualClock())()
    owner.connection_made(Wire())
    owner.data_received(first)
    assert owner.broken in ("it does not speak this protocol", "it did not say hello")


async def test_whoever_says_nothing_is_let_go() -> None:
    """A connection that has not proven itself in time is closed."""
    clock = ManualClock()
    server = PeerServer(LocalBackend(), Identity("owner", SECRET), LIMITS, clock=clock)
    owner = server()
    owner.connection_made(Wire())
    clock.advance(HELLO_SECONDS)
    assert owner.broken is not None
    assert not server.links


async def test_no_more_links_than_may_be() -> None:
    """One connection more is closed at once."""
    server = PeerServer(LocalBackend(), Identity("owner", SECRET), LIMITS, clock=ManualClock(), links_max=2)
    made = [server() for _ in range(3)]
    for each in made:
        each.connection_made(Wire())
    assert [each.broken is None for each in made] == [True, True, False]


async def test_short_secrets_and_no_secret_without_tls_are_refused() -> None:
    """Whoever sets none is told so when the server starts."""
    with pytest.raises(ValueError, match="at least 16"):
        Identity("a", "short")
    with pytest.raises(ValueError, match="secret, or TLS"):
        await PeerServer(LocalBackend(), Identity("a"), LIMITS).listen("127.0.0.1", 0)
    with pytest.raises(ValueError, match="secret, or TLS"):
        RemoteBackend(lambda: None, Identity("a"), LIMITS)


async def test_over_tcp() -> None:
    """By host and port, as servers do."""
    local = LocalBackend()
    server = PeerServer(local, Identity("owner", SECRET), LIMITS)
    port = await server.listen("127.0.0.1", 0)
    front = RemoteBackend(lambda: f"127.0.0.1:{port}", Identity("front", SECRET), LIMITS)
    await front.enqueue(spec("j"))
    assert (await front.job("j")).id == "j"
    await server.close()
    assert type(await raised(front.stats())) is Moved
    await front.close()
    await local.close()


PIECES = st.lists(st.binary(max_size=40) | st.sampled_from([frame(m.STATS, 1), frame(m.PING, 0), frame(m.JOB, 2, "j", 0.0)]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(pieces=PIECES, proven=st.booleans(), front=st.booleans())
def test_any_bytes_in_any_pieces_end_the_link_or_wait_for_more(pieces: list[bytes], proven: bool, front: bool) -> None:
    """Nothing that comes over a connection raises, on either side, before or after it is proven; and nothing comes back but frames."""

    async def feed() -> None:
        clock = ManualClock()
        identity = Identity("me", SECRET)
        link: FrontLink | OwnerLink
        link = FrontLink(identity, LIMITS, clock, "x:1") if front else PeerServer(LocalBackend(), identity, LIMITS, clock=clock)()
        wire = Wire()
        link.connection_made(wire)
        link.proven = proven
        for piece in pieces:
            link.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        at = 0
        while at < len(wire.written):
            at += 4 + int.from_bytes(wire.written[at : at + 4])
        assert at == len(wire.written)
        assert (link.broken is not None) == wire.closed
        link.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(feed())


async def test_a_value_that_a_field_cannot_have_fails_its_request_alone(rig: RemoteRig) -> None:
    """The link goes on."""
    error = await raised(rig.backend.enqueue(spec("j", priority="high")))
    assert type(error) is BadRequest
    assert (await rig.put("k")).id == "k"


# What a broken link means for what was asked over it; test_peer_jobs.py has what becomes of jobs that were handed out.


CHANGES: dict[str, Callable[[RemoteRig], Any]] = {
    "enqueue": lambda rig: rig.backend.enqueue(spec("j")),
    "enqueue_batch": lambda rig: rig.backend.enqueue_batch([spec("j")]),
    "conclude": lambda rig: rig.backend.conclude("j", "t", SUCCEEDED),
    "release": lambda rig: rig.backend.release("j", "t", 0.0),
    "give_back": lambda rig: rig.backend.give_back("j", "t"),
    "cancel": lambda rig: rig.backend.cancel("j"),
    "retry": lambda rig: rig.backend.retry("j"),
    "put_policy": lambda rig: rig.backend.put_policy("q", QueuePolicy()),
    "delete_queue": lambda rig: rig.backend.delete_queue("q"),
    "set_paused": lambda rig: rig.backend.set_paused("q", True),
    "purge": lambda rig: rig.backend.purge("q"),
    "retry_failed": lambda rig: rig.backend.retry_failed("q"),
    "ask": lambda rig: rig.backend.ask(Redrive(queue="q", to="r")),
}
READS: dict[str, Callable[[RemoteRig], Any]] = {
    "job": lambda rig: rig.backend.job("j"),
    "numbered": lambda rig: rig.backend.numbered(1),
    "jobs": lambda rig: rig.backend.jobs(JobFilter()),
    "queue": lambda rig: rig.backend.queue("q"),
    "queue_page": lambda rig: rig.backend.queue_page("", 5),
    "stats": lambda rig: rig.backend.stats(),
}


def hang(rig: RemoteRig, name: str) -> None:
    """Let an operation of the owner never end."""

    async def never(*_: Any, **__: Any) -> None:
        await asyncio.get_running_loop().create_future()

    setattr(rig.local, name, never)


@pytest.mark.parametrize("name", [*CHANGES, *READS])
async def test_what_was_sent_may_have_been_done_if_it_changes_something(rig: RemoteRig, name: str) -> None:
    """Unconfirmed for a change, Moved for what only reads."""
    hang(rig, name)
    task = asyncio.create_task((CHANGES | READS)[name](rig))
    await rig.idle()
    cut(links(rig)[1])
    await rig.idle()
    assert type(task.exception()) is (StorageUnconfirmed if name in CHANGES else Moved)
    assert all(not link.pending for link in rig.between.server.links)


@pytest.mark.parametrize("name", [*CHANGES, *READS])
async def test_what_was_not_sent_was_not_done(rig: RemoteRig, name: str) -> None:
    """A link that ends in the turn in which something is asked of it has sent nothing of that."""
    task = asyncio.create_task((CHANGES | READS)[name](rig))
    await asyncio.sleep(0)
    links(rig)[0].fail("is cut")
    await rig.idle()
    assert type(task.exception()) is Moved


async def test_a_listener_whose_link_ends_is_told_and_leaves(rig: RemoteRig) -> None:
    """Moved, and the owner has one listener less."""
    async with rig.backend.listen(Listen()) as listening:
        task = asyncio.create_task(listening.notices(10, 60))  # type: ignore[arg-type]
        await rig.idle()
        assert rig.local.totals().listeners == 1
        cut(links(rig)[0])
        await rig.idle()
        assert type(task.exception()) is Moved
    assert rig.local.totals().listeners == 0


async def test_the_next_request_makes_a_new_link(rig: RemoteRig) -> None:
    """Without anybody asking for it; and all that ask at once share one."""
    cut(links(rig)[0])
    await rig.idle()
    await asyncio.gather(rig.backend.check(), *(rig.put(f"j{n}") for n in range(20)))
    assert len(rig.between.server.links) == 1


async def test_an_owner_that_is_not_there_is_not_asked_by_every_request(rig: RemoteRig) -> None:
    """After a failed attempt requests are refused for a moment without one; then one more is made."""
    dialled = 0

    async def dial(factory: Any, address: str) -> object:
        nonlocal dialled
        dialled += 1
        raise ConnectionRefusedError("refused")

    front = RemoteBackend(lambda: "owner:1", Identity("f", SECRET), LIMITS, clock=rig.between.clock, dial=dial)
    for _ in range(5):
        assert type(await raised(front.enqueue(spec()))) is Moved
    assert dialled == 1
    rig.between.clock.advance(RETRY_SECONDS)
    assert "refused" in str(await raised(front.enqueue(spec())))
    assert dialled == 2
    await front.close()


async def test_an_owner_that_accepts_and_says_nothing_is_found_out(rig: RemoteRig) -> None:
    """A stopped process: its kernel accepts, nobody answers the hello."""

    async def dial(factory: Any, address: str) -> object:
        factory().connection_made(Wire())
        return None

    front = RemoteBackend(lambda: "owner:1", Identity("f", SECRET), LIMITS, clock=rig.between.clock, dial=dial)
    task = asyncio.create_task(front.enqueue(spec()))
    await rig.idle()
    assert not task.done()
    rig.between.clock.advance(CONNECT_SECONDS)
    await rig.idle()
    assert type(task.exception()) is Moved
    await front.close()


async def test_an_owner_that_has_moved_is_asked_there(rig: RemoteRig) -> None:
    """New requests go to the new address; what is held at the old one ends there, and its link with it."""
    waiter = await rig.stand()
    old, _ = links(rig)
    rig.between.address = "owner:2"
    await rig.put("j", queue="other")
    assert old.broken is None
    await rig.local.enqueue(spec("k"))
    await rig.idle()
    assert waiter.ids == ["k"]
    assert old.broken == "this server closed the link"


# Heartbeats.


async def test_an_idle_link_lives(rig: RemoteRig) -> None:
    """Each side hears the other's pings and pongs."""
    for _ in range(30):
        rig.between.clock.advance(1)
        await rig.idle()
    assert links(rig)[0].broken is None


@pytest.mark.parametrize("side", [0, 1], ids=["front", "owner"])
async def test_a_side_that_hears_nothing_ends_the_link(rig: RemoteRig, side: int) -> None:
    """A machine without power: after three pings without a byte, and not before; a waiter of a dead front leaves the line."""
    waiter = await rig.stand()
    living, dead = links(rig)[side], links(rig)[1 - side]
    assert dead.transport is not None
    assert dead._timer is not None
    dead.transport.pause_reading()
    dead._timer.cancel()
    seconds = 0
    while living.broken is None:
        rig.between.clock.advance(1)
        await asyncio.sleep(0)
        seconds += 1
        assert seconds < HEARTBEATS_MISSED + 3
    assert seconds > HEARTBEATS_MISSED
    assert living.broken == "it has sent nothing for 3 s"
    dead.transport.abort()
    await rig.idle()
    assert rig.local.totals().waiters == 0
    assert type(waiter.task.exception()) is Moved


# What is bounded.


async def test_an_owner_reads_no_more_than_it_can_answer() -> None:
    """A front that does not read is asked no more of: the owner keeps a few answers and leaves the requests where they are."""
    rig = RemoteRig(LIMITS)
    await rig.put("j", payload=b'"' + b"x" * 200 * KIB + b'"')
    front, owner = links(rig)
    assert front.transport is not None
    front.transport.pause_reading()
    asked = [asyncio.create_task(rig.backend.job("j")) for _ in range(400)]  # type: ignore[arg-type]
    most = 0
    for _ in range(100):
        await asyncio.sleep(0)
        most = max(most, owner.unwritten_bytes)
    assert KIB < most < 4 * KIB * KIB
    assert not any(task.done() for task in asked)
    front.transport.resume_reading()
    assert {job.id for job in await asyncio.gather(*asked)} == {"j"}
    assert owner.broken is None
    await rig.close()


async def test_a_front_whose_owner_does_not_read_ends_the_link() -> None:
    """What it keeps for the owner is bounded; nothing of what was not sent was done."""
    rig = RemoteRig(Limits(unwritten_bytes_max=KIB, answer_bytes_max=KIB, payload_bytes_max=256 * KIB, body_bytes_max=256 * KIB))
    await rig.backend.stats()
    front, owner = links(rig)
    assert owner.transport is not None
    owner.transport.pause_reading()
    payload = b'"' + b"x" * 200 * KIB + b'"'
    asked = [asyncio.create_task(rig.backend.enqueue(spec(payload=payload))) for _ in range(40)]  # type: ignore[arg-type]
    await asyncio.wait(asked)
    assert front.broken == "it reads too slowly: too much is unwritten"
    ends = [type(task.exception()) for task in asked]
    assert Moved in ends
    assert set(ends) <= {Moved, StorageUnconfirmed, type(None)}, "the last go by a new link"
    await rig.idle()
    assert ends.count(type(None)) <= rig.local.totals().jobs_live <= len(ends) - ends.count(Moved)
    await rig.close()


async def test_many_that_give_up_at_once_leave_nothing_behind(rig: RemoteRig) -> None:
    """A thousand held requests cancelled in one turn, while jobs come for them: no waiter, no lease, no job lost."""
    held = [rig.hold() for _ in range(1_000)]
    await rig.idle()
    assert rig.local.totals().waiters == 1_000
    for n in range(300):
        await rig.local.enqueue(spec(f"j{n}"))
    for each in held:
        each.task.cancel()
    await rig.idle()
    taken = [job_id for each in held for job_id in each.ids]
    front, owner = links(rig)
    assert (front.asked, front.taken, owner.pending, rig.local.totals().waiters) == ({}, set(), 0, 0)
    assert rig.local.totals().leases == len(taken)
    left = [job.id for job in await rig.take_all(limit=1_000)]
    assert sorted(taken + left) == sorted(f"j{n}" for n in range(300))


async def test_a_thousand_waiters_of_two_servers_are_served_in_order_of_arrival(rig: RemoteRig) -> None:
    """Each job goes to whoever came first to the owner, whichever server it asks."""
    other = rig.between.front("other")
    await other.stats()
    line = []
    for n in range(1_000):
        line.append(rig.hold() if n % 2 else Held(other, want(), 60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if n % 50 == 0:
            await rig.idle()
    await rig.idle()
    stood = [waiter.want for waiter in rig.local._dequeues.everyone()]
    assert len(stood) == 1_000
    for n in range(1_000):
        await rig.local.enqueue(spec(f"j{n:04}"))
    await rig.idle()
    assert [each.ids for each in line] == [[f"j{n:04}"] for n in range(1_000)]


async def test_all_of_one_turn_leaves_in_one_write(rig: RemoteRig) -> None:
    """A hundred requests cost one write on the front, and their answers one on the owner."""
    front, owner = links(rig)
    before = front.writes, owner.writes
    await asyncio.gather(*(rig.put() for _ in range(100)))
    assert (front.writes - before[0], owner.writes - before[1]) == (1, 1)


async def test_a_large_batch_goes_and_comes_in_parts(rig: RemoteRig) -> None:
    """No frame is larger than frames may be, and each reply is in its place."""
    payload = b'"' + b"x" * 200 * KIB + b'"'
    refusal = BadRequest("payload", "is none")
    replies = await rig.backend.enqueue_batch([spec("a", payload=payload), refusal, *(spec(payload=payload) for _ in range(80))])
    assert replies[1] is refusal
    assert len(replies) == 82
    assert rig.local.totals().jobs_live == 81
    page, cursor = await rig.backend.jobs(JobFilter(limit=1_000))
    assert 0 < len(page) < 81
    assert cursor is not None


# Draining, and defects.


async def test_draining_a_front_is_not_draining_the_owner(rig: RemoteRig) -> None:
    """Its own waiters are answered and it takes nothing new; who asks through another server notices nothing."""
    mine, other = await rig.stand(), rig.between.front("other")
    theirs = Held(other, want(), 60)
    await rig.idle()
    rig.backend.drain()
    await rig.idle()
    assert (mine.answered, mine.jobs, theirs.answered) == (True, [], False)
    assert type(await raised(rig.backend.enqueue(spec()))) is Draining
    await other.enqueue(spec("j"))
    await rig.idle()
    assert theirs.ids == ["j"]


async def test_a_defect_of_the_owner_is_logged_there_and_unavailable_here(rig: RemoteRig, caplog: pytest.LogCaptureFixture) -> None:
    """Its traceback stays with the owner; a change may have been made."""

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    rig.local.enqueue = rig.local.queue = broken  # type: ignore[method-assign,assignment]
    change, read = await raised(rig.backend.enqueue(spec())), await raised(rig.backend.queue("q"))
    assert (type(change), type(read)) == (StorageUnconfirmed, StorageUnavailable)
    assert isinstance(change, Unconfirmed)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError] * 2
