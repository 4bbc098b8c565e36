"""What a queued job takes. A server may hold a million."""

from __future__ import annotations

import tracemalloc

from jobqueue.model import PLAIN, Want
from tests.factories import NOW, enqueue, make_engine

PAYLOAD_BYTES = 200


def test_a_plain_queued_job_takes_600_bytes_at_most() -> None:
    """Twenty thousand of 200 bytes, each with a payload, an id and a time of its own, take no more, all that holds them included."""
    engine = make_engine(jobs_max=30_000)
    enqueue(engine)
    tracemalloc.start()
    try:
        for n in range(20_000):
            enqueue(engine, NOW + n, payload=bytes(PAYLOAD_BYTES))
            engine.events.clear()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / 20_000 < 600


def test_a_plain_queued_job_has_nothing_of_its_own_that_others_have() -> None:
    """Its details are everybody's, its queue's and its type's names are shared, and its slot is the very object of its number."""
    engine = make_engine()
    jobs = [enqueue(engine, queue="".join(["q", "1"]), type="".join(["t", "1"])) for _ in range(1_000)]
    assert all(job.details is PLAIN for job in jobs)
    assert all(job.slot is job.number for job in jobs)
    assert len({id(job.queue) for job in jobs}) == len({id(job.type) for job in jobs}) == 1


def test_a_ring_that_was_swept_or_shrunk_shares_the_numbers_again() -> None:
    """Cancelling most of a queue, or handing it out, costs the jobs that come later nothing."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)) for n in range(400)]
    for job in made[:390:2]:
        engine.cancel(NOW, job.id)
    engine.dequeue(NOW, Want(limit=190))
    newcomers = [enqueue(engine) for _ in range(1_000)]
    assert all(job.slot is job.number for job in newcomers)


def test_types_that_are_made_up_for_every_job_fill_no_memory() -> None:
    """A thousand are remembered and then forgotten; jobs keep theirs."""
    engine = make_engine(jobs_max=3_000)
    jobs = [enqueue(engine, type=f"t{n}") for n in range(2_500)]
    assert len(engine.types) <= 1_000
    assert [job.type for job in jobs] == [f"t{n}" for n in range(2_500)]


def test_a_job_that_was_retried_skips_a_number_and_stands_last() -> None:
    """Places and numbers come from one counter: no job that comes later is given the place of one that came back."""
    engine = make_engine()
    first = enqueue(engine, id="first")
    engine.cancel(NOW, "first")
    enqueue(engine, id="second")
    engine.retry(NOW, "first")
    third = enqueue(engine, id="third")
    assert (first.number, first.seq, third.number, third.seq) == (1, 3, 4, 4)
    assert [job.id for job in engine.queue("default").jobs()] == ["second", "first", "third"]
