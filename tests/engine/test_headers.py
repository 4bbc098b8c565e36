"""Headers of jobs in the engine: what is allowed, counted, compared and kept; and how payloads are bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.engine import checks
from jobqueue.errors import BadRequest, IdConflict, TooLarge
from jobqueue.limits import Limits
from jobqueue.model import Header, JobChange, JobSpec, Outcome, Verdict
from jobqueue.policy import QueuePolicy
from jobqueue.unique import Unique
from tests.factories import NOW, dequeue, enqueue, make_engine, make_spec, token_of

from .invariants import fingerprint, invariants

TENANT, NUMBER, BLOB = Header("tenant", "ä".encode()), Header("n", b"5", "Number.int"), Header("blob", b"\x00\xff", "Binary")


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (Header("", b"x"), "headers"),
        (Header("a b", b"x"), "headers"),
        (Header("ä", b"x"), "headers"),
        (Header("x" * 257, b"x"), "headers"),
        (Header("a", b""), "headers.a"),
        (Header("a", b"\xff"), "headers.a"),
        (Header("a", b"\xff", "Number"), "headers.a"),
        (Header("a", b"x", ""), "headers.a"),
        (Header("a", b"x", "string"), "headers.a"),
        (Header("a", b"x", "StringSet"), "headers.a"),
        (Header("a", b"x", "String."), "headers.a"),
        (Header("a", b"x", "String.\x00"), "headers.a"),
        (Header("a", b"x", "Binary." + "x" * 250), "headers.a"),
    ],
)
def test_what_is_no_header_is_refused(header: Header, field: str) -> None:
    """By its name, and nothing is changed."""
    engine = make_engine()
    before = fingerprint(engine)
    with pytest.raises(BadRequest) as refused:
        engine.enqueue(NOW, make_spec(headers=(header,)))
    assert refused.value.field == field
    assert fingerprint(engine) == before


def test_what_is_allowed() -> None:
    """Twelve, each name once; names and types of 256 characters, labels of any."""
    limits = Limits()
    for fine in (Header("x" * 256, b"x"), Header("Aa0_.-", b"x"), Header("a", b"x", "Number." + "x" * 249), Header("a", b"x", "String.é")):
        assert checks.spec(make_spec(headers=(fine,)), limits)
    for count, headers in ((12, True), (13, False)):
        given = tuple(Header(f"h{number}", b"x") for number in range(count))
        if headers:
            assert checks.spec(make_spec(headers=given), limits)
        else:
            with pytest.raises(BadRequest, match="has 13 headers; 12 are allowed"):
                checks.spec(make_spec(headers=given), limits)
    with pytest.raises(BadRequest, match="a name more than once"):
        checks.spec(make_spec(headers=(Header("a", b"1"), Header("a", b"2"))), limits)


def test_they_count_with_the_payload() -> None:
    """Names, types and values, towards the bound on the payload and among what the server holds."""
    engine = make_engine(payload_bytes_max=100)
    header = Header("name", b"x" * 50, "Binary")
    job = enqueue(engine, payload=b"1" * 40, headers=(header,))
    assert engine.live_bytes == 40 + 4 + 6 + 50
    invariants(engine)
    with pytest.raises(TooLarge, match="has 101 bytes with the payload; 100 are allowed") as refused:
        engine.enqueue(NOW, make_spec(b"1" * 41, headers=(header,)))
    assert refused.value.field == "headers"
    with pytest.raises(TooLarge):
        engine.edit(NOW, job.id, JobChange(payload=b"1" * 41))
    engine.edit(NOW, job.id, JobChange(payload=b"1" * 10))
    assert engine.live_bytes == 70
    invariants(engine)


def test_a_repeated_enqueue_is_compared_by_them() -> None:
    """In whatever order; another value, another type, one more or none is another job."""
    engine = make_engine()
    job = enqueue(engine, id="j", headers=(TENANT, NUMBER, BLOB))
    assert engine.enqueue(NOW, make_spec(id="j", headers=(BLOB, TENANT, NUMBER))) == (job, False)
    others: list[tuple[Header, ...]] = [
        (),
        (TENANT,),
        (TENANT, NUMBER, BLOB, Header("more", b"x")),
        (TENANT, Header("n", b"5", "Number"), BLOB),
        (Header("tenant", b"b"), NUMBER, BLOB),
    ]
    for other in others:
        with pytest.raises(IdConflict) as refused:
            engine.enqueue(NOW, make_spec(id="j", headers=other))
        assert refused.value.field == "headers"


def test_they_stay_with_the_job() -> None:
    """Over a failure, a dead-letter queue, a redrive, an edit and a retry; a replacement brings its own."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(dead_letter="dead", max_attempts=1))
    job = enqueue(engine, headers=(TENANT, NUMBER), unique=Unique("u", on_conflict="replace"))
    told = (NUMBER, TENANT)
    assert job.headers == told
    dequeue(engine)
    engine.conclude(NOW, job.id, token_of(job), Verdict(outcome=Outcome.FAILED))
    assert (job.queue, job.headers) == ("dead", told)
    engine.redrive(NOW, "dead", [job], None)
    engine.edit(NOW, job.id, JobChange(priority=1))
    assert (job.queue, job.headers) == ("default", told)
    engine.cancel(NOW, job.id)
    assert engine.retry(NOW, job.id).headers == told
    engine.enqueue(NOW, make_spec(headers=(BLOB,), unique=Unique("u", on_conflict="replace")))
    assert job.headers == (BLOB,)
    invariants(engine)


@pytest.mark.parametrize(
    ("text", "size"), [("x" * 10, 10), ("\n" * 10, 10), ('"' * 10, 10), ("é" * 5, 10), ("😀" * 2 + "xx", 10), ("\u2028" * 3 + "x", 10)]
)
def test_a_string_counts_as_its_text(text: str, size: int) -> None:
    """In UTF-8, however it is escaped: ten bytes are allowed, and eleven are not."""
    limits = Limits(payload_bytes_max=size)
    for escaped in (True, False):
        checks.spec(make_spec(json.dumps(text, ensure_ascii=escaped).encode()), limits)
        with pytest.raises(TooLarge, match=f"has {size + 1} bytes"):
            checks.spec(make_spec(json.dumps(text + "x", ensure_ascii=escaped).encode()), limits)


@pytest.mark.parametrize(
    "payload", [b'["' + b"x" * 7 + b'"]', b'"' + b"x" * 12, b'"\\ud800' + b"x" * 6 + b'"', b"1" * 11, b'"\xff\xff' + b"x" * 9]
)
def test_all_else_counts_as_it_came(payload: bytes) -> None:
    """Other JSON, and what is no string that could be handed to anybody."""
    with pytest.raises(TooLarge, match=f"has {len(payload)} bytes; 10 are allowed"):
        checks.spec(make_spec(payload), Limits(payload_bytes_max=10))


def test_a_string_of_a_mebibyte_is_taken() -> None:
    """By default, as JSON of more than that; and with headers less."""
    checks.spec(make_spec(json.dumps("\n" * (1 << 20)).encode()), Limits())
    with pytest.raises(TooLarge):
        checks.spec(make_spec(json.dumps("\n" * (1 << 20)).encode(), headers=(TENANT,)), Limits())
    checks.spec(make_spec(json.dumps("\n" * ((1 << 20) - 14)).encode(), headers=(TENANT,)), Limits())


def test_a_plain_job_has_none() -> None:
    """And costs nothing for them."""
    engine = make_engine()
    job = enqueue(engine)
    assert job.headers == ()
    fields: dict[str, Any] = {name: getattr(JobSpec(payload=b"1"), name) for name in ("headers", "tags")}
    assert fields == {"headers": (), "tags": ()}
