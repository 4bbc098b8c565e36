"""What every Store must pass (jobqueue/backend/store/store.py).

A store's own test module subclasses StoreContract and brings one fixture, `make_store`: a coroutine function that makes and opens a Store.
All that one test makes are the same place, which was empty when the test began, and are closed after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from jobqueue.backend.group import Group, NotNow, Writer
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.store import Fenced, Store

MakeStore = Callable[[], Awaitable[Store]]

LEASE = 60.0


class Kept(NamedTuple):
    """All that a store holds."""

    counters: bytes | None
    queues: dict[str, bytes]
    jobs: list[tuple[int, bytes, bytes]]


def group(
    jobs: dict[int, tuple[bytes, bytes]] | None = None,
    *,
    states: dict[int, bytes] | None = None,
    gone: tuple[int, ...] = (),
    queues: dict[str, bytes | None] | None = None,
    counters: bytes = b"counters",
) -> Group:
    """A group. jobs: new ones, by number, state and payload; states: of jobs that there are."""
    made = Group()
    for number, (state, payload) in (jobs or {}).items():
        made.put(number, state)
        made.put_payload(number, payload)
    for number, state in (states or {}).items():
        made.put(number, state)
    for number in gone:
        made.forget(number)
    made.queue_rows = queues or {}
    made.queues = set(made.queue_rows)
    made.counters = counters
    return made


async def outcome(writer: Writer, rows: Group) -> Exception | None:
    """What a writer says of a group. It says it once, and never before `write` has returned."""
    said: list[Exception | None] = []
    told = asyncio.Event()

    def finished(error: Exception | None) -> None:
        assert asyncio.get_running_loop()
        said.append(error)
        told.set()

    writer.write(rows, finished)
    assert not said, "said before write returned"
    await told.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(said) == 1, "said more than once"
    return said[0]


async def written(writer: Writer, rows: Group) -> None:
    """Commit a group."""
    error = await outcome(writer, rows)
    if error is not None:
        raise error


async def claimed(store: Store, name: str = "a", seconds: float = LEASE, force: bool = False) -> int:
    """Claim; the epoch."""
    owner = await store.claim(name, f"{name}:1", seconds, force)
    assert owner.name == name
    return owner.epoch


def writer_of(store: Store, epoch: int, seconds: float = LEASE) -> Writer:
    return store.writer(epoch, seconds, lambda _sent: None)


async def kept(store: Store, epoch: int) -> Kept:
    """All that is in a store, by its owner."""
    rows = await store.rows(epoch)
    jobs = [tuple(job) for job in rows.jobs()]
    assert rows.count() == len(jobs)
    return Kept(rows.counters(), dict(rows.queues()), jobs)  # type: ignore[arg-type]


async def moment(store: Store, meanwhile: Callable[[], Awaitable[object]] | None = None) -> Kept:
    """All that was in a store at one moment, by whoever asks. meanwhile: what happens whenever a group is given."""
    states: dict[int, bytes] = {}
    payloads: dict[int, bytes] = {}

    async def apply(rows: Group) -> None:
        payloads.update(rows.payloads)
        for number, state in rows.states.items():
            if state is None:
                states.pop(number, None)
                payloads.pop(number, None)
            else:
                states[number] = state
        if meanwhile is not None:
            await meanwhile()

    whole = await store.moment(apply)
    assert len(states) == len(payloads) == whole.jobs
    return Kept(whole.counters, whole.queues, [(number, states[number], payloads[number]) for number in sorted(states)])


class StoreContract:
    """The rules of the Store protocol."""

    @pytest.fixture
    async def store(self, make_store: MakeStore) -> Store:
        """A store at the test's place."""
        return await make_store()

    # Ownership.

    async def test_nobody_owns_a_new_store(self, store: Store) -> None:
        """Nobody owns a place where nobody ever claimed."""
        assert await store.owner() is None

    async def test_the_first_who_claims_owns_it(self, store: Store) -> None:
        """A claim is granted where nobody owns, and everybody sees by whom, where and for how long."""
        owner = await store.claim("a", "host:1", LEASE)
        assert (owner.name, owner.address) == ("a", "host:1")
        assert owner.epoch >= 1
        seen = await store.owner()
        assert seen is not None
        assert seen[:3] == ("a", "host:1", owner.epoch)
        assert 0 < seen.seconds <= LEASE
        assert 0 < owner.seconds <= LEASE

    async def test_a_lease_that_lives_keeps_others_out(self, make_store: MakeStore) -> None:
        """While the owner's lease lives, another's claim is told who owns it and changes nothing: the owner commits on."""
        one, other = await make_store(), await make_store()
        epoch = await claimed(one)
        told = await other.claim("b", "b:1", LEASE)
        assert told[:3] == ("a", "a:1", epoch)
        await written(writer_of(one, epoch), group({1: (b"s", b"p")}))

    async def test_the_owner_may_claim_again(self, store: Store) -> None:
        """Who owns it already is granted a new epoch, and the old one is fenced."""
        first = await claimed(store)
        second = await claimed(store)
        assert second > first
        with pytest.raises(Fenced):
            await store.renew(first, LEASE)
        await store.renew(second, LEASE)

    async def test_a_claim_by_force_is_granted(self, make_store: MakeStore) -> None:
        """By force it is granted while another's lease lives, and that one is fenced at once."""
        one, other = await make_store(), await make_store()
        old = await claimed(one)
        assert await claimed(other, "b", force=True) > old
        with pytest.raises(Fenced):
            await one.renew(old, LEASE)

    async def test_a_lease_that_passed_keeps_nobody_out(self, make_store: MakeStore) -> None:
        """Once the owner's lease has passed, another's claim is granted without force."""
        one, other = await make_store(), await make_store()
        old = await claimed(one, seconds=0.001)
        while (owner := await other.claim("b", "b:1", LEASE)).name != "b":
            assert owner.seconds <= 0.001
        assert owner.epoch > old

    async def test_who_was_not_claimed_from_may_go_on_after_its_lease(self, store: Store) -> None:
        """A lease that passed unused fences nobody: the owner renews it, and commits."""
        epoch = await claimed(store, seconds=0.001)
        while (owner := await store.owner()) is not None and owner.seconds >= 0:
            pass
        assert owner is not None
        await store.renew(epoch, LEASE)
        assert await outcome(writer_of(store, epoch), group({1: (b"s", b"p")})) is None

    async def test_renewing_holds_it_longer(self, store: Store) -> None:
        """A renewal counts from now, by the store's clock."""
        epoch = await claimed(store, seconds=5)
        await store.renew(epoch, 1000)
        owner = await store.owner()
        assert owner is not None
        assert 900 < owner.seconds <= 1000

    async def test_what_is_released_is_anybodys(self, make_store: MakeStore) -> None:
        """After a release nobody owns it, the next claim is granted at once, and epochs go on."""
        one, other = await make_store(), await make_store()
        epoch = await claimed(one)
        await one.release(epoch)
        assert await other.owner() is None
        assert await claimed(other, "b") > epoch

    async def test_a_release_ends_the_epoch(self, store: Store) -> None:
        """What is written, renewed or released under an epoch that was released is refused."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p")}))
        await store.release(epoch)
        assert isinstance(await outcome(writer, group({2: (b"s", b"p")})), Fenced)
        with pytest.raises(Fenced):
            await store.renew(epoch, LEASE)
        with pytest.raises(Fenced):
            await store.release(epoch)
        assert await store.owner() is None
        assert [number for number, _, _ in (await kept(store, await claimed(store))).jobs] == [1]

    async def test_a_deposed_owner_can_do_nothing(self, make_store: MakeStore) -> None:
        """After another's claim, a commit, a renewal, a release and reading the rows are refused, and nothing is changed."""
        one, other = await make_store(), await make_store()
        old = await claimed(one)
        writer = writer_of(one, old)
        await written(writer, group({1: (b"s", b"p")}))
        new = await claimed(other, "b", force=True)
        assert isinstance(await outcome(writer, group({1: (b"changed", b"p")}, queues={"q": b"row"}, counters=b"other")), Fenced)
        for refused in (one.renew(old, LEASE), one.release(old), one.rows(old)):
            with pytest.raises(Fenced):
                await refused
        assert await kept(other, new) == Kept(b"counters", {}, [(1, b"s", b"p")])
        owner = await other.owner()
        assert owner is not None
        assert owner[:3] == ("b", "b:1", new)

    # Rows.

    async def test_a_new_store_is_empty(self, store: Store) -> None:
        """There is nothing in a new place, not even counters."""
        assert await kept(store, await claimed(store)) == Kept(None, {}, [])

    async def test_what_is_committed_is_read_by_the_next_owner(self, make_store: MakeStore) -> None:
        """States, payloads, queues and counters come back byte for byte, jobs in order of number."""
        one, other = await make_store(), await make_store()
        jobs = {number: (b"state %d" % number, bytes(range(256)) * (number % 3)) for number in (70_000, 1, 16_383, 16_384, 2, 1 << 40)}
        queues: dict[str, bytes | None] = {"default": b"\x00row\xff", "größe 1": b""}
        await written(writer_of(one, await claimed(one)), group(jobs, queues=queues, counters=b"\x01\x00"))
        found = await kept(other, await claimed(other, "b", force=True))
        assert found == Kept(b"\x01\x00", queues, [(number, *jobs[number]) for number in sorted(jobs)])  # type: ignore[arg-type]

    async def test_later_rows_take_the_place_of_earlier(self, store: Store) -> None:
        """A new state keeps the payload; a queue's row and the counters are replaced."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"old", b"p"), 2: (b"s", b"p2")}, queues={"q": b"old"}, counters=b"1"))
        await written(writer, group(states={1: b"new"}, queues={"q": b"new"}, counters=b"2"))
        assert await kept(store, epoch) == Kept(b"2", {"q": b"new"}, [(1, b"new", b"p"), (2, b"s", b"p2")])

    async def test_what_is_deleted_is_gone(self, store: Store) -> None:
        """A job goes with its payload, a queue with its row; deleting what is not there is no error."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p"), 20_000: (b"s", b"p")}, queues={"q": b"row", "r": b"row"}))
        await written(writer, group(gone=(20_000, 77, 5_000_000), queues={"q": None, "never": None}))
        assert await kept(store, epoch) == Kept(b"counters", {"r": b"row"}, [(1, b"s", b"p")])
        await written(writer, group(gone=(1,), queues={"r": None}))
        assert await kept(store, epoch) == Kept(b"counters", {}, [])

    async def test_a_group_twice_is_as_once(self, store: Store) -> None:
        """The journal repeats a group of which nobody knows whether it was committed."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p"), 2: (b"s", b"p")}))
        again = group({3: (b"s", b"p")}, states={1: b"t"}, gone=(2,), queues={"q": b"row"})
        for _ in range(3):
            await written(writer, again)
        assert await kept(store, epoch) == Kept(b"counters", {"q": b"row"}, [(1, b"t", b"p"), (3, b"s", b"p")])

    async def test_an_empty_group_stores_the_counters(self, store: Store) -> None:
        """A group may hold nothing but the counters."""
        epoch = await claimed(store)
        await written(writer_of(store, epoch), group(counters=b"alone"))
        assert (await kept(store, epoch)).counters == b"alone"

    async def test_large_groups_are_committed_whole(self, store: Store) -> None:
        """Many rows, and large ones, in one group."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        jobs = {number: (b"s%d" % number, b"p%d" % number) for number in range(1, 20_001)}
        jobs[20_001] = (b"s", b"x" * 3_000_000)
        await written(writer, group(jobs))
        found = await kept(store, epoch)
        assert found.jobs == [(number, *row) for number, row in jobs.items()]
        await written(writer, group(gone=tuple(range(1, 20_001))))
        assert [number for number, _, _ in (await kept(store, epoch)).jobs] == [20_001]

    async def test_a_commit_holds_the_queue(self, store: Store) -> None:
        """Each commit renews the lease, and says from when on it is good: from when it was sent, by the monotonic clock."""
        epoch = await claimed(store, seconds=5)
        sent: list[float] = []
        writer = store.writer(epoch, 1000, sent.append)
        before = time.monotonic()
        assert sent == []
        await written(writer, group({1: (b"s", b"p")}))
        assert len(sent) == 1
        assert before <= sent[0] <= time.monotonic()
        owner = await store.owner()
        assert owner is not None
        assert 900 < owner.seconds <= 1000

    async def test_a_commit_that_is_refused_holds_nothing(self, make_store: MakeStore) -> None:
        """A commit that is refused is no news of a lease."""
        one, other = await make_store(), await make_store()
        sent: list[float] = []
        writer = one.writer(await claimed(one), LEASE, sent.append)
        await claimed(other, "b", force=True)
        assert isinstance(await outcome(writer, group({1: (b"s", b"p")})), Fenced)
        assert sent == []

    # Reading without owning.

    async def test_the_owner_is_told_where_the_store_stands(self, make_store: MakeStore) -> None:
        """The last group's counters, and how many jobs there are where that is known; for nobody but the owner."""
        store, other = await make_store(), await make_store()
        epoch = await claimed(store)
        assert (await store.standing(epoch)).counters is None
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s1", b"p1"), 2: (b"s2", b"p2")}, counters=b"first"))
        await written(writer, group(gone=(1,), counters=b"second"))
        found = await store.standing(epoch)
        assert found.counters == b"second"
        assert found.jobs in (1, None)
        await claimed(other, "b", force=True)
        with pytest.raises(Fenced):
            await store.standing(epoch)
        await writer.close(tidy=False)

    async def test_rows_are_read_beside_the_owner(self, make_store: MakeStore) -> None:
        """Whoever is not the owner reads all rows, too."""
        store, other = await make_store(), await make_store()
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s1", b"p1"), 2: (b"s2", b"p2")}, queues={"q": b"row"}, counters=b"first"))
        rows = await other.beside()
        assert (rows.counters(), dict(rows.queues())) == (b"first", {"q": b"row"})
        assert [tuple(job) for job in rows.jobs()] == [(1, b"s1", b"p1"), (2, b"s2", b"p2")]
        await written(writer, group({3: (b"s3", b"p3")}))
        await writer.close(tidy=False)

    async def test_the_counters_are_read_by_anybody(self, make_store: MakeStore) -> None:
        """Whoever asks is told the last counters, None before there are any."""
        one, other = await make_store(), await make_store()
        assert await other.counters() is None
        await written(writer_of(one, await claimed(one)), group(counters=b"\x00last"))
        assert await other.counters() == b"\x00last"

    async def test_a_moment_of_a_new_store_is_empty(self, store: Store) -> None:
        """There is nothing to apply where nothing was written."""
        assert await moment(store) == Kept(None, {}, [])

    async def test_a_moment_is_all_that_there_is(self, make_store: MakeStore) -> None:
        """Whoever asks is given what the owner would read, again and again, and the owner keeps what it has."""
        one, other = await make_store(), await make_store()
        epoch = await claimed(one)
        jobs = {number: (b"state %d" % number, b"p" * (number % 3_000)) for number in (*range(1, 4_000), 16_384, 70_000, 1 << 40)}
        await written(writer_of(one, epoch), group(jobs, queues={"default": b"\x00row\xff", "größe 1": b""}))
        for _ in range(2):
            assert await moment(other) == await kept(one, epoch)
        await one.renew(epoch, LEASE)

    async def test_a_moment_is_one_moment(self, make_store: MakeStore) -> None:
        """Jobs that are made, changed and deleted while it is read are there, changed or gone with the queues and counters of that step."""
        one, other = await make_store(), await make_store()
        epoch = await claimed(one)
        writer = writer_of(one, epoch)
        await written(writer, group(dict.fromkeys(range(1, 2_001), (b"0", b"p")), queues={"q": b"0"}, counters=b"0"))
        steps = [await kept(one, epoch)]

        async def meanwhile() -> None:
            # A step that no half of fits another: each number of the step says which one it was.
            step = len(steps)
            if step > 12:
                return
            now = b"%d" % step
            new = {100_000 * step + number: (now, b"p") for number in range(50)}
            states = {number: now for number in range(step, 1_000, 7) if number % 100 > step}
            gone = (*(number for number in range(1, 2_000) if number % 100 == step), 100_000 * (step - 1))
            await written(writer, group(new, states=states, gone=gone, queues={"q": now, now.decode(): now}, counters=now))
            steps.append(await kept(one, epoch))

        assert await moment(other, meanwhile) in steps

    async def test_a_moment_that_is_given_up_leaves_nothing_behind(self, make_store: MakeStore) -> None:
        """What `apply` raises ends the reading; the next one begins at once."""
        one, other = await make_store(), await make_store()
        epoch = await claimed(one)
        await written(writer_of(one, epoch), group(dict.fromkeys(range(1, 20), (b"s", b"p"))))

        async def full() -> None:
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            await moment(other, full)
        assert await moment(other) == await kept(one, epoch)

    # Members, time, ends.

    async def test_servers_find_each_other(self, make_store: MakeStore) -> None:
        """Every server that says that it is there is told of all that did, itself included, until it departs."""
        one, other = await make_store(), await make_store()
        assert [member[:2] for member in await one.announce("a", "a:1")] == [("a", "a:1")]
        members = await other.announce("b", "b:1")
        assert sorted(member[:2] for member in members) == [("a", "a:1"), ("b", "b:1")]
        assert all(0 <= member.seconds < 60 for member in members)
        assert sorted(member[:2] for member in await one.announce("a", "elsewhere:2")) == [("a", "elsewhere:2"), ("b", "b:1")]
        await other.depart("b")
        await other.depart("nobody")
        assert [member.name for member in await one.announce("a", "a:1")] == ["a"]

    async def test_it_tells_the_time(self, store: Store) -> None:
        """Its clock reads seconds since the epoch; this machine's is the same one here."""
        assert abs(await store.now() - time.time()) < 5

    async def test_opening_again_changes_nothing(self, make_store: MakeStore) -> None:
        """A server that opens the store while another owns it disturbs nobody."""
        one = await make_store()
        epoch = await claimed(one)
        await written(writer_of(one, epoch), group({1: (b"s", b"p")}))
        await make_store()
        await one.renew(epoch, LEASE)
        assert await kept(one, epoch) == Kept(b"counters", {}, [(1, b"s", b"p")])

    async def test_after_closing_nothing_is_done(self, store: Store) -> None:
        """A closed store says NotNow; closing it again changes nothing."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await store.close()
        await store.close()
        assert isinstance(await outcome(writer, group({1: (b"s", b"p")})), NotNow)
        asked = (store.claim("a", "a:1", LEASE), store.owner(), store.renew(epoch, LEASE), store.now(), store.rows(epoch), moment(store))
        for refused in asked:
            with pytest.raises((NotNow, CannotOpen)):
                await refused
        await writer.close(tidy=True)

    async def test_a_writer_that_is_closed_leaves_the_store_open(self, store: Store) -> None:
        """The writer's end is not the store's: the server releases after its last commit."""
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p")}))
        await writer.close(tidy=True)
        await store.release(epoch)
        assert await store.owner() is None
