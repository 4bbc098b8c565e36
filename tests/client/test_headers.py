"""Headers by either client: what is sent is what is shown; and what a queue says of how its jobs wait."""

from __future__ import annotations

import pytest

from jobqueue import BadRequest, Header, NewJob

from .rig import Face

SENT = {"tenant": "acme", "n": Header("Number", "5"), "blob": Header.binary(b"\x00\xff"), "raw": Header.binary(b"x", "Binary.png")}


async def test_headers_go_with_a_job(api: Face) -> None:
    """To its worker, and to whoever looks at it."""
    await api.enqueue(1, id="a", headers=SENT)
    await api.enqueue_batch([NewJob(2, id="b", headers={"x": "y"}), NewJob(3, id="c")])
    taken = await api.dequeue_batch(limit=3, wait=5)
    assert [job.headers for job in taken] == [SENT, {"x": "y"}, {}]
    assert (await api.job("a")).headers == SENT
    blob = taken[0].headers["blob"]
    assert isinstance(blob, Header)
    assert (blob.data, taken[0].headers["n"]) == (b"\x00\xff", Header("Number", "5"))
    assert Header("String.x", "ä").data == "ä".encode()


async def test_what_is_no_header_is_refused(api: Face) -> None:
    """By its name."""
    with pytest.raises(BadRequest) as refused:
        await api.enqueue(1, headers={"x": Header("Binary", "no base64")})
    assert refused.value.field == "headers.x"


async def test_a_queue_says_how_its_jobs_wait(api: Face) -> None:
    """All of it is set at once or by itself, and shown with the queue's times."""
    made = await api.put_queue("q", delay=5, expires_in=60, tags={"team": "a"}, attributes={"Name": "n"})
    policy = made.policy
    assert (policy.delay, policy.expires_in, policy.tags, policy.attributes) == (5, 60, {"team": "a"}, {"Name": "n"})
    assert made.created_at is not None
    assert made.created_at == made.modified_at
    changed = await api.change_queue("q", delay=None, tags={"team": "b"})
    assert (changed.policy.delay, changed.policy.expires_in, changed.policy.tags) == (None, 60, {"team": "b"})
    assert changed.created_at == made.created_at


async def test_a_mebibyte_is_taken(api: Face) -> None:
    """As text, however long it is in JSON."""
    text = "\n" * (1 << 20)
    await api.enqueue(text, id="j")
    job = await api.dequeue(wait=5)
    assert job.payload == text
    await api.conclude(job.id, job.lease.token, "succeeded", result="x" * (1 << 19))
    assert (await api.job("j")).result == "x" * (1 << 19)
