"""Times and names on the wire, without a server: stamps, and what a decoder's complaint becomes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.api.native import wire
from jobqueue.api.native.complaints import bad_field
from jobqueue.api.native.native import position
from jobqueue.api.native.stamps import stamp
from jobqueue.errors import BadRequest
from jobqueue.model import JobSpec

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000.0, "2027-01-15T08:00:00.000Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250Z"),
        (1_800_000_000.9999, "2027-01-15T08:00:00.999Z"),
        (1_800_000_059.9999, "2027-01-15T08:00:59.999Z"),
        (1_798_761_599.9999, "2026-12-31T23:59:59.999Z"),
        (1_709_164_800.0, "2024-02-29T00:00:00.000Z"),
        (2_147_483_648.002, "2038-01-19T03:14:08.002Z"),
        (2_147_483_648.0019, "2038-01-19T03:14:08.001Z"),
        (253_402_300_799.0, "9999-12-31T23:59:59.000Z"),
        (-0.5, "1969-12-31T23:59:59.500Z"),
        (-62_135_596_800.0, "0001-01-01T00:00:00.000Z"),
        (-32_188_060_800.0, "0950-01-01T00:00:00.000Z"),
    ],
)
def test_a_stamp_is_rfc_3339_rounded_down(at: float, text: str) -> None:
    """Milliseconds are cut, never carried into a second that has not come; years have four digits."""
    assert stamp(at) == text


@given(st.integers(0, (1 << 33) * 1_000 - 1))
@settings(deadline=None)
def test_a_stamp_of_whole_milliseconds_names_them(ms: int) -> None:
    """What a client sent as run_at comes back as sent, until 2242 at least."""
    second, rest = divmod(ms, 1_000)
    sent = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:03d}Z"
    assert stamp(datetime.fromisoformat(sent).timestamp()) == sent


@given(st.floats(0, 253_402_300_799))
@settings(deadline=None)
def test_a_stamp_has_one_form(at: float) -> None:
    """Of 24 characters, for every time from 1970 to 9999."""
    assert RFC_3339.fullmatch(stamp(at))


@given(st.floats(0, 4e9), st.floats(0, 100))
@settings(deadline=None)
def test_stamps_keep_the_order_of_times(at: float, later: float) -> None:
    """As text, which is why they have a fixed width."""
    assert stamp(at) <= stamp(at + later)


def test_stamps_do_not_pile_up() -> None:
    """The cache of seconds is bounded and stays right past its bound."""
    seconds = range(1_800_000_000, 1_800_003_000)
    assert [stamp(second + 0.5) for second in (*seconds, *seconds)] == [
        datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.500Z") for second in (*seconds, *seconds)
    ]


def complaint(decode: wire.Decoder, body: bytes) -> BadRequest:
    """What decoding a body raises."""
    with pytest.raises(BadRequest) as raised:
        decode(body)
    return raised.value


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b'{"payload":1,"nope":1}', "nope", "is unknown"),
        (b"{}", "payload", "is missing"),
        (b'{"payload":1,"priority":"1"}', "priority", "must be an integer, not a string"),
        (b'{"payload":1,"backoff":{"base":null}}', "backoff.base", "must be a number, not null"),
        (b'{"payload":1,"backoff":{"nope":1}}', "backoff.nope", "is unknown"),
        (b'{"payload":1,"backoff":[]}', "backoff", "must be an object or null, not an array"),
        (b'{"payload":1,"run_at":"tomorrow"}', "run_at", "must be an RFC 3339 time with an offset"),
        (b'{"payload":1,"run_at":"2027-01-15T08:00:00"}', "run_at", "must be an RFC 3339 time with an offset"),
        (b'{"payload":1,"priority":99999999999999999999}', "priority", "must be an integer"),
        (b'{"payload":1,"delay":1e999}', "delay", "out of range"),
        (b'{"payload":1,"a\\nb":1}', "a\nb", "is unknown"),
        (b"5", None, "must be an object, not an integer"),
        (b"[]", None, "must be an object, not an array"),
        (b"", None, "is empty; send a JSON object"),
        (b"{", None, "not valid JSON"),
        (b'{"payload":1}{', None, "not valid JSON"),
    ],
)
def test_a_complaint_names_the_field_and_the_reason(body: bytes, field: str | None, reason: str) -> None:
    """As the client wrote it: dots between levels, no parser's notation."""
    error = complaint(wire.decode_enqueue, body)
    assert error.field == field
    assert reason in error.reason
    assert str(error).startswith(("unknown field", "missing field", error.reason if field is None else f"{field}: {error.reason}"))
    assert "$" not in error.reason


def test_an_item_of_a_list_is_named_by_its_place() -> None:
    """queue[1] is the second."""
    error = complaint(wire.decode_dequeue, b'{"queue":["a",5]}')
    assert (error.field, error.reason) == ("queue[1]", "must be a string, not an integer")


@pytest.mark.parametrize(
    ("decode", "body", "field", "reason"),
    [
        (wire.decode_policy, b'{"per_key":{"order":"lifo"}}', "per_key.order", "must be fifo, halt or none, not 'lifo'"),
        (wire.decode_policy_patch, b'{"per_key":{"order":"lifo"}}', "per_key.order", "must be fifo, halt or none, not 'lifo'"),
        (wire.decode_conclude, b'{"lease":"a","outcome":""}', "outcome", "must be failed or succeeded, not ''"),
        (
            wire.decode_batch_conclude,
            b'{"jobs":[{"id":"j","lease":"a","outcome":"x"}]}',
            "jobs[0].outcome",
            "must be failed or succeeded, not 'x'",
        ),
    ],
)
def test_a_wrong_word_is_answered_with_those_that_are_allowed(decode: wire.Decoder, body: bytes, field: str, reason: str) -> None:
    """At whatever depth, and in a list."""
    error = complaint(decode, body)
    assert (error.field, error.reason) == (field, reason)


def test_a_long_wrong_word_does_not_hide_those_that_are_allowed() -> None:
    """It is cut, and they are not."""
    error = complaint(wire.decode_conclude, b'{"lease":"a","outcome":"%b"}' % (b"x" * 1_000))
    assert error.reason.startswith("must be failed or succeeded, not '")


def test_a_wrong_word_of_a_list_in_a_query_is_named_by_its_place() -> None:
    """event[1] is the second."""
    with pytest.raises(BadRequest) as raised:
        wire.decode_query([("event", "queued"), ("event", "done")], wire.EventsQuery, frozenset({"event"}))
    assert raised.value.field == "event[1]"
    assert raised.value.reason.startswith("must be enqueued, queued, ")


def test_a_long_unknown_field_is_cut() -> None:
    """An error is not made to repeat a megabyte."""
    error = complaint(wire.decode_enqueue, b'{"payload":1,"%b":1}' % (b"k" * 100_000))
    assert error.field == "k" * 200
    assert len(str(error)) < 1_000


@pytest.mark.parametrize("message", ["", "what", "Expected `int` - at `$`", "Object contains unknown field", " - at `$.`"])
def test_a_complaint_of_an_unforeseen_form_is_passed_on(message: str) -> None:
    """A newer msgspec may word things differently; then there is no field, and still a 400."""
    error = bad_field(msgspec.ValidationError(message))
    assert error.field is None
    assert str(error).startswith("the body ")


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("nope=1", "nope", "is unknown"),
        ("limit=x", "limit", "must be an integer"),
        ("limit=", "limit", "must be an integer"),
        ("limit=1.5", "limit", "must be an integer"),
        ("limit=1&limit=2", "limit", "is given more than once"),
        ("limit=" + "9" * 30, "limit", "must be an integer"),
        ("limit=" + "9" * 5_000, "limit", "out of range"),
        ("status=done", "status", "must be scheduled, queued, in_progress or concluded, not 'done'"),
        ("outcome=Succeeded", "outcome", "must be succeeded, failed, cancelled or expired, not 'Succeeded'"),
        ("cursor=-1e400", "cursor", ""),
        ("limit=null", "limit", "must not be null"),
        ("cursor=null", "cursor", "must not be null"),
        ("status=null", "status", "must not be null"),
        ("&".join(["limit=1"] * 65), None, "more than 64 parameters"),
        ("type=%ff", None, "not UTF-8"),
        ("%ed%a0%80=1", None, "not UTF-8"),
    ],
)
def test_a_query_is_read_as_strictly_as_a_body(query: str, field: str | None, reason: str) -> None:
    """Unknown, repeated and ill-typed parameters are named; so many, or such bytes, are refused as a whole."""
    with pytest.raises(BadRequest) as raised:
        position(wire.decode_query(wire.query_of(f"/jobs?{query}"), wire.ListQuery).cursor)
    assert raised.value.field == field
    assert reason in raised.value.reason


def test_text_of_a_query_is_text() -> None:
    """`null`, `true` and `5` are names where names are asked for."""
    asked = wire.decode_query(wire.query_of("/jobs?queue=null&type=5"), wire.ListQuery)
    assert (asked.queue, asked.type) == ("null", "5")


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("/jobs", []),
        ("/jobs?", []),
        ("/jobs?a=1&b=&c", [("a", "1"), ("b", ""), ("c", "")]),
        ("/jobs?a=x+y%2B%26%3D&a=%C3%A9?", [("a", "x y+&="), ("a", "é?")]),
        ("http://host/jobs?a=%zz", [("a", "%zz")]),
        ("/jobs?" + "&".join(["a=1"] * 64), [("a", "1")] * 64),
    ],
)
def test_the_query_of_a_target_is_decoded(target: str, parameters: list[tuple[str, str]]) -> None:
    """As HTML forms encode it: plus is a space, a parameter may be empty, what is no encoding is itself."""
    assert wire.query_of(target) == parameters


def test_only_what_may_be_repeated_is_a_list() -> None:
    """`queue` of a dequeue, in order; once is a list of one."""
    asked = wire.decode_query([("queue", "b"), ("worker", "w"), ("queue", "a")], wire.DequeueBody, frozenset({"queue"}))
    assert (asked.queue, asked.worker) == (["b", "a"], "w")
    with pytest.raises(BadRequest, match="worker: is given more than once"):
        wire.decode_query([("worker", "a"), ("worker", "b")], wire.DequeueBody, frozenset({"queue"}))


def test_what_is_empty_is_as_what_is_left_out() -> None:
    """An empty object or list is not kept as it was sent: the backend is asked for the same, also over a link to another server."""
    left_out = wire.decode_enqueue(b'{"payload":1}').spec()
    sent = wire.decode_enqueue(b'{"payload":1,"headers":{},"tags":[],"after":[],"unique":null,"group":null}').spec()
    assert [(name, getattr(sent, name)) for name in JobSpec.__struct_fields__] == [
        (name, getattr(left_out, name)) for name in JobSpec.__struct_fields__
    ]
    for name in JobSpec.__struct_fields__:
        assert type(getattr(sent, name)) is type(getattr(JobSpec(payload=b"1"), name)), name
