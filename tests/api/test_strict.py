"""Strict decoding: whatever is wrong in a request is a 400 that names the field and the reason, and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.api.mounts import server_routes
from jobqueue.api.native.table import native_routes
from jobqueue.api.routes import Route

from .harness import Api, assert_problem, check_problem

LONG = "x" * 2_000
HUGE = 10**400
DEEP = 100
"""How deep a payload, a result or an error may be nested."""

TEXTS = [5, True, [], {}, 1.5]
INTEGERS = ["5", True, 1.5, [], {}, HUGE, -HUGE]
NUMBERS = ["5", True, [], {}, HUGE, -HUGE]
BACKOFFS = [
    5,
    "x",
    [],
    {"base": "1"},
    {"nope": 1},
    {"base": -1},
    {"factor": 0.5},
    {"factor": 101},
    {"cap": -1},
    {"cap": 2_592_001},
    {"base": None},
]

RATES = [
    5,
    "x",
    [],
    {},
    {"limit": 1},
    {"per": 1},
    {"limit": 0, "per": 1},
    {"limit": 1, "per": 0.5},
    {"limit": 1, "per": 86_401},
    {"limit": 1.5, "per": 1},
]
RATES += [
    {"limit": 2, "per": 1, "burst": 3},
    {"limit": 2, "per": 1, "burst": 0},
    {"limit": 1_000_001, "per": 1},
    {"limit": 1, "per": 1, "nope": 1},
]
PER_KEYS = [5, "fifo", [], {"order": "lifo"}, {"order": None}, {"concurrency": 0}, {"concurrency": 10_001}, {"concurrency": 1.5}]
PER_KEYS += [
    {"order": "fifo", "concurrency": 2},
    {"max_jobs": 0},
    {"max_jobs": 1_000_001},
    {"nope": 1},
    *({"rate": rate} for rate in RATES),
]
WEIGHTS = [5, "x", [], None, {"a": 0}, {"a": 0.009}, {"a": 100.1}, {"a": "1"}, {"a": None}, {"": 1}, {"x" * 129: 1}, {"a\n": 1}]
WEIGHTS += [{str(number): 1 for number in range(1_001)}]
KEEPS = [5, "x", [], {}, {"seconds": None, "count": None}, {"seconds": 0.5}, {"seconds": 315_360_001}, {"seconds": "1"}, {"seconds": True}]
KEEPS += [{"count": -1}, {"count": 1_000_000_001}, {"count": 1.5}, {"count": "1"}, {"seconds": 5, "nope": 1}]
MAPS: list[Any] = [5, "x", True, [], {"a": 5}, {"a": None}, {"a": ["x"]}]
FLOW: dict[str, list[Any]] = {
    "concurrency": [*INTEGERS, 0, -1, 1_000_001],
    "rate": RATES,
    "per_key": PER_KEYS,
    "fair": [0, "yes", None, []],
    "weights": WEIGHTS,
    "dead_letter": [5, [], {}, "", "a b", "é", "x" * 81, "a/b", "default"],
    "keep_succeeded": KEEPS,
    "keep_failed": KEEPS,
    "delay": [*NUMBERS, -1, 2_592_001],
    "expires_in": [*NUMBERS, 0, 0.9, -1, 2_592_001],
    "tags": [*MAPS, {"": "x"}, {"x" * 129: "x"}, {"a\n": "x"}, {"a": "x" * 257}, {"a": "\n"}, {str(number): "x" for number in range(51)}],
    "attributes": [*MAPS, {"": "x"}, {"x" * 65: "x"}, {"a": "\x00"}, {"a": "x" * 16_384}, {str(number): "x" for number in range(33)}],
}

LINES: list[Any] = [5, "x", None, {}, [5], [None], [[]], ["x" * 4_097], ["\x00"], [{}], [{"text": 5}], [{"text": "a", "level": "loud"}]]
LINES += [[{"text": "a", "time": 5}], [{"text": "a", "time": "2027-01-15T08:00:00"}], [{"text": "a", "time": "1969-12-31T00:00:00Z"}]]
LINES += [["fine", {"text": "a", "nope": 1}], ["a"] * 1_001]
UNIQUES: list[Any] = [5, "x", True, [], {}, {"key": ""}, {"key": "x" * 129}, {"key": "a\n"}, {"key": 5}, {"key": None}]
UNIQUES += [{"key": "k", "nope": 1}]
UNIQUES += [{"key": "k", "until": until} for until in (5, None, "", "ended", "Started")]
UNIQUES += [{"key": "k", "for": seconds} for seconds in ("5", True, [], 0, -1, 2_592_001)]
UNIQUES += [{"key": "k", "until": "enqueued"}, {"key": "k", "until": "enqueued", "for": None}, {"key": "k", "until": "enqueued", "for": 0}]
UNIQUES += [{"key": "k", "for_": 5}, *({"key": "k", "on_conflict": how} for how in (5, None, "", "drop", "Keep"))]
UNIQUES += [{"key": "k", "max_wait": 5}, *({"key": "k", "on_conflict": "replace", "max_wait": wait} for wait in ("5", True, -1, 2_592_001))]
TYPED: list[Any] = [{"type": "Text", "value": "x"}, {"type": "String.", "value": "x"}, {"type": "String.\n", "value": "x"}]
TYPED += [{"type": "Number." + "x" * 250, "value": "x"}, {"type": "Number", "value": ""}, {"type": "Number", "value": 5}]
TYPED += [{"type": "Binary", "value": "no base64"}, {"type": "Binary.x", "value": "YQ"}, {"type": "Binary", "value": ""}]
TYPED += [{"type": "String"}, {"value": "x"}, {"type": "String", "value": "x", "nope": 1}]
HEADERS: list[Any] = [5, "x", True, [], None, {"a": 5}, {"a": ""}, {"a": None}, {"a": ["x"]}, *({"a": typed} for typed in TYPED)]
HEADERS += [{name: "x"} for name in ("", "a b", "é", "a/b", "a\n", "x" * 257)] + [{str(number): "x" for number in range(13)}]
LOG: dict[str, list[Any]] = {"log": LINES, "log_offset": [*INTEGERS, -1]}

WRONG: dict[str, dict[str, list[Any]]] = {
    "POST /jobs/enqueue": {
        "id": [*TEXTS, "", "x" * 129, "a\nb", "\x00", "\x7f", "\x9f"],
        "queue": [*TEXTS, None, "", "a b", "é", "x" * 81, "a/b", "a\n"],
        "type": [*TEXTS, "", "x" * 129, "a\nb", "\x00", "\x7f", "\x9f"],
        "description": [*TEXTS, LONG, "\x00", "\x1b[0m"],
        "priority": [*INTEGERS, None, -1, 10],
        "delay": [*NUMBERS, -1, -0.001, 2_592_001],
        "run_at": [*TEXTS, "", "tomorrow", "2027-01-15T08:00:00", "2027-13-01T00:00:00Z", "2027-03-01T00:00:00Z", "9999-12-31T23:59:59Z"],
        "expires_in": [*NUMBERS, 0, -1, 2_592_001],
        "max_attempts": [*INTEGERS, 0, -1, 1_001],
        "backoff": BACKOFFS,
        "lease_seconds": [*NUMBERS, 0.001, 0.999, -1, 43_201],
        "key": [*TEXTS, "", "x" * 129, "a\nb", "\x00", "\x7f", "\x9f"],
        "tags": [5, "x", None, {}, [5], [None], [""], ["x" * 65], ["a\n"], ["a", "a"], [str(number) for number in range(9)]],
        "unique": UNIQUES,
        "traceparent": [*TEXTS, "", "00-0-0-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "x" * 55],
        "after": [5, "x", None, {}, [5], [None], [""], ["x" * 129], ["a\n"], ["a", "a"], [str(number) for number in range(101)]],
        "after_failure": [*TEXTS, None, "", "run", "wait"],
        "group": [*TEXTS, "", "a b", "x" * 81, "a/b"],
        "headers": HEADERS,
        "nope": [None, 1],
    },
    "POST /groups": {
        "id": [*TEXTS, "", "a b", "é", "x" * 81, "a/b", "a\n"],
        "queue": [*TEXTS, None, "", "a b", "x" * 81],
        "on_concluded": [5, "x", [], {}, {"payload": 1, "nope": 1}, {"payload": 1, "priority": 10}, {"payload": 1, "id": "x"}],
        "on_succeeded": [
            5,
            "x",
            [],
            {"payload": 1, "after": ["x"]},
            {"payload": 1, "group": "g"},
            {"payload": 1, "queue": "a b"},
            {"payload": 1, "run_at": "2027-01-15T08:00:00Z"},
            {"payload": 1, "backoff": 5},
        ],
        "nope": [None, 1],
    },
    "POST /jobs/dequeue": {
        "queue": [5, True, {}, None, "", "a b", [], ["a", 5], ["a", "b c"], [None], [["a"]]],
        "wait": [*NUMBERS, -1, 55.1],
        "lease_seconds": [*NUMBERS, 0.5, 43_201],
        "worker": [*TEXTS, "", "x" * 129, "a\nb"],
        "attempt_id": [*TEXTS, "", "x" * 129, "\x00"],
        "host": [*TEXTS, "", "x" * 256, "a\nb"],
        "concurrency": [*INTEGERS, 0, -1, 1_000_001],
        "version": [*TEXTS, "", "x" * 65, "\x00"],
        "started": [*TEXTS, "", "today", "2027-01-15T08:00:00", "1969-12-31T00:00:00Z"],
        "nope": [None],
    },
    "POST /batch/dequeue": {"limit": [*INTEGERS, None, 0, -1, 1_001], "wait": [-1], "nope": [1]},
    "POST /jobs/job/conclude": {
        "lease": [*TEXTS, None],
        "outcome": [*TEXTS, None, "cancelled", "expired", "Succeeded", ""],
        "retry": [0, 1, "true", None, []],
        "retry_delay": [*NUMBERS, 1, -1, 2_592_001],
        "late": [0, 1, "true", None, []],
        "traceback": [0, 1.5, True, [], {}, ["x"]],
        "nope": [1],
        **LOG,
    },
    "POST /jobs/job/extend": {
        "lease": [*TEXTS, None],
        "lease_seconds": [*NUMBERS, 0.5, 43_201],
        "progress": [*NUMBERS, -0.001, 1.001],
        "message": [*TEXTS, LONG, "\x00"],
        "nope": [1],
        **LOG,
    },
    "POST /jobs/job/log": {"lease": [*TEXTS, None], "lines": LINES, "offset": [*INTEGERS, -1], "nope": [1]},
    "POST /jobs/job/release": {"lease": [*TEXTS, None], "delay": [*NUMBERS, None, -1, 2_592_001], "nope": [1]},
    "PATCH /jobs/queued": {
        "queue": [*TEXTS, None, "", "a b", "x" * 81],
        "description": [*TEXTS, LONG, "\x00"],
        "priority": [*INTEGERS, None, -1, 10],
        "delay": [*NUMBERS, None, -1, 2_592_001],
        "run_at": [*TEXTS, None, "", "tomorrow", "2027-01-15T08:00:00", "2027-03-01T00:00:00Z", "9999-12-31T23:59:59Z"],
        "expires_in": [*NUMBERS, 0, -1, 2_592_001],
        "tags": [5, "x", None, {}, [5], [""], ["x" * 65], ["a", "a"], [str(number) for number in range(9)]],
        "nope": [None, 1],
    },
    "POST /jobs/bulk": {
        "action": [*TEXTS, None, "", "purge", "Cancel"],
        "filter": [5, "x", [], None, {}, {"id": "queued"}, {"tag": 5}, {"status": "done"}, {"outcome": "queued"}, {"created_after": "now"}],
        "edit": [5, None, [], {"priority": 1}, {"priority": 10}, {"nope": 1}],
        "dry_run": [0, "no", None, []],
        "cursor": [*TEXTS, "", "x", "1", "1-x", "-1-1", "1-2-3", "1" * 19 + "-1"],
        "nope": [1],
    },
    "POST /queues/default/redrive": {
        "to": [*TEXTS, "", "a b", "default"],
        "rate": [*NUMBERS, 0, -1, 100_001],
        "filter": [5, "x", [], None, {"queue": "default"}, {"tag": 5}, {"created_before": 5}],
        "dry_run": [0, "no", None, []],
        "as_new": [0, "no", None, []],
        "nope": [1],
    },
    "PUT /queues/default": {
        "lease_seconds": [*NUMBERS, 0.5, 43_201],
        "max_attempts": [*INTEGERS, 0, 1_001],
        "backoff": BACKOFFS,
        "max_jobs": [*INTEGERS, 0, -1, 1_000_001],
        "paused": [0, "no", None, []],
        "nope": [1],
        **FLOW,
    },
    "PATCH /queues/default": {
        "lease_seconds": [*NUMBERS, None, 0.5, 43_201],
        "max_attempts": [*INTEGERS, 0, 1_001],
        "backoff": [*BACKOFFS, None],
        "max_jobs": [*INTEGERS, 0, -1, 1_000_001],
        "paused": [0, "no", None, []],
        "nope": [1],
        **FLOW,
    },
}

RIGHT: dict[str, dict[str, Any]] = {
    "POST /jobs/enqueue": {"payload": 1},
    "POST /jobs/dequeue": {"wait": 0, "worker": "w"},
    "POST /batch/dequeue": {"wait": 0},
    "POST /jobs/job/conclude": {"outcome": "succeeded"},
    "POST /jobs/job/extend": {},
    "POST /jobs/job/log": {"lines": ["a"]},
    "POST /jobs/job/release": {},
    "PATCH /jobs/queued": {},
    "POST /jobs/bulk": {"action": "cancel", "filter": {"tag": "none"}},
    "POST /groups": {},
    "POST /queues/default/redrive": {},
    "PUT /queues/default": {},
    "PATCH /queues/default": {},
}

CASES = [(operation, field) for operation, fields in WRONG.items() for field in fields]


async def prepared(api: Api, operation: str) -> dict[str, Any]:
    """A job in progress and one that is queued; a body that the operation would take."""
    token = await api.working("job")
    await api.enqueue(id="queued")
    lease = {"lease": token} if "/jobs/job/" in operation else {}
    return {**RIGHT[operation], **lease}


@pytest.mark.parametrize(("operation", "field"), CASES)
async def test_a_wrong_value_is_named_and_changes_nothing(api: Api, operation: str, field: str) -> None:
    """Wrong types, numbers out of range, texts that are none: each a 400 for that field; the right body then works."""
    method, path = operation.split()
    right = await prepared(api, operation)
    before = api.state()
    for value in WRONG[operation][field]:
        reply = await api.send(method, path, json.dumps({**right, field: value}).encode())
        named = reply.json.get("field", "")
        assert named.split(".")[0].split("[")[0] == field, (value, reply.body)
        detail = assert_problem(reply, 400, "bad_request", named)
        assert detail.startswith((f"{named}: ", f"unknown field '{named}'", f"missing field '{named}'"))
        assert len(detail) < 500
    assert api.state() == before
    assert (await api.send(method, path, json.dumps(right).encode())).status in (200, 201, 202)


async def test_every_field_of_every_body_is_tried(api: Api) -> None:
    """A field that is added must be added here."""
    for operation, fields in WRONG.items():
        method, path = operation.replace("/job/", "/{id}/").replace("/default", "/{name}").replace("/queued", "/{id}").split()
        (route,) = [route for route in api.app.router.routes if (route.method, route.path) == (method, path)]
        known = {*fields, "payload", "result", "error"}
        if operation == "POST /batch/dequeue":
            known |= set(WRONG["POST /jobs/dequeue"])
        assert set(route.body.__struct_fields__) <= known


@pytest.mark.parametrize("operation", [operation for operation, fields in WRONG.items() if any(HUGE in wrong for wrong in fields.values())])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5_000, "-" + "9" * 5_000, "0x10", "01", "1.", "+1"])
async def test_a_number_that_no_field_holds_is_400(api: Api, operation: str, number: str) -> None:
    """Beyond a double's range, thousands of digits, or no JSON number at all."""
    method, path = operation.split()
    right = await prepared(api, operation)
    before = api.state()
    for field in [field for field, values in WRONG[operation].items() if HUGE in values]:
        body = json.dumps({**right, field: "@"}).replace('"@"', number).encode()
        assert_problem(await api.send(method, path, body), 400, "bad_request", field if "9" in number else None)
    assert api.state() == before


NOT_JSON = {
    "nothing": b"",
    "space": b" ",
    "half an object": b'{"payload":1',
    "an open string": b'{"payload":"a',
    "a trailing comma": b'{"payload":1,}',
    "two values": b'{"payload":1}{}',
    "single quotes": b"{'payload':1}",
    "a comment": b'{"payload":1/**/}',
    "NaN": b'{"payload":NaN}',
    "NaN inside": b'{"payload":[[NaN]]}',
    "minus infinity": b'{"payload":-Infinity}',
    "a leading zero": b'{"payload":01}',
    "a control character in a string": b'{"payload":"\t"}',
    "a NUL": b'{"payload":1}\x00',
    "a byte order mark": b'\xef\xbb\xbf{"payload":1}',
    "UTF-16": '{"payload":1}'.encode("utf-16"),
    "bad UTF-8 in a payload": b'{"payload":"\xff"}',
    "bad UTF-8 in a field": b'{"payload":1,"id":"\xc3"}',
    "bad UTF-8 in a name": b'{"payload":1,"\xff":1}',
    "an encoded surrogate": b'{"payload":"\xed\xa0\x80"}',
    "an overlong encoding": b'{"payload":"\xc0\xaf"}',
    "a lone surrogate": b'{"payload":1,"id":"\\ud800"}',
    "a lone low surrogate": b'{"payload":1,"description":"\\udc00x"}',
    "half a pair": b'{"payload":1,"id":"\\ud800\\u0041"}',
    "a bad escape": b'{"payload":"\\x41"}',
    "a bad escape of hex": b'{"payload":"\\u00g0"}',
    "text": b"payload=1",
}


@pytest.mark.parametrize("name", sorted(NOT_JSON))
@pytest.mark.parametrize("path", ["/jobs/enqueue", "/batch/enqueue"])
async def test_what_is_not_json_is_400(api: Api, name: str, path: str) -> None:
    """The message says that it is the body, and why; nothing is enqueued."""
    body = NOT_JSON[name]
    if path == "/batch/enqueue" and body.strip():
        body = b'{"jobs":[{"payload":0},' + body + b"]}"
    reply = await api.post(path, body)
    assert assert_problem(reply, 400, "bad_request").startswith("the body ")
    assert (await api.get("/queues")).json["queues"] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"payload":1,"id":"\\ud800"}', "it is truncated or contains a lone surrogate"),
        (b'{"payload":1,"id":"\\uDBFF"', "it is truncated or contains a lone surrogate"),
        (b'{"payload":1', "Input data was truncated"),
        (b'{"payload":1,"id":"\\u00e9', "Input data was truncated"),
    ],
)
async def test_a_body_that_breaks_off_says_what_may_be_wrong(api: Api, body: bytes, reason: str) -> None:
    """A lone surrogate reads like a body cut short, so where there is one the message names both."""
    detail = assert_problem(await api.post("/jobs/enqueue", body), 400, "bad_request")
    assert detail == f"the body is not valid JSON: {reason}"


@pytest.mark.parametrize("body", [b"null", b"5", b'"x"', b"[]", b"true"])
@pytest.mark.parametrize("operation", sorted(RIGHT))
async def test_a_body_that_is_no_object_is_400(api: Api, operation: str, body: bytes) -> None:
    """Every operation's parameters have names."""
    method, path = operation.split()
    assert "the body must be an object, not " in assert_problem(await api.send(method, path, body), 400, "bad_request")


NESTINGS = [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"[":', b"}]")]


def nested(levels: int, start: bytes, end: bytes) -> bytes:
    """JSON of exactly so many levels, made of `start` and `end` as far as they go in."""
    step = start.count(b"[") - start.count(b'"[') + start.count(b"{")
    whole, rest = divmod(levels, step)
    return b"[" * rest + start * whole + b"0" + end * whole + b"]" * rest


@pytest.mark.parametrize(("start", "end"), NESTINGS)
async def test_depth_is_bounded_just_inside_and_just_outside(api: Api, start: bytes, end: bytes) -> None:
    """A payload, result or error of 100 levels passes, one of 101 is refused by its name; what stands around it does not count."""
    inside, outside = nested(DEEP, start, end), nested(DEEP + 1, start, end)
    before = api.state()
    reply = await api.post("/jobs/enqueue", b'{"payload":%b}' % outside)
    assert assert_problem(reply, 400, "bad_request", "payload") == "payload: is nested deeper than 100 levels"
    assert api.state() == before
    assert (await api.post("/jobs/enqueue", b'{"id":"deep","payload":%b}' % inside)).status == 201
    assert b'"payload":%b}' % inside in (await api.get("/jobs/deep")).body

    for field, outcome in ((b"result", b"succeeded"), (b"error", b"failed")):
        name = field.decode()
        token = (await api.working(name, queue=name)).encode()
        body = b'{"lease":"%b","outcome":"%b","retry":false,"%b":%%b}' % (token, outcome, field)
        before = api.state()
        assert_problem(await api.post(f"/jobs/{name}/conclude", body % outside), 400, "bad_request", name)
        assert api.state() == before
        assert (await api.post(f"/jobs/{name}/conclude", body % inside)).status == 200
        assert b'"%b":%b' % (field, inside) in (await api.get(f"/jobs/{name}")).body


@pytest.mark.parametrize(("start", "end"), NESTINGS)
async def test_an_item_too_deep_harms_no_other(api: Api, start: bytes, end: bytes) -> None:
    """In a batch only the item fails, with an error that names its field; its neighbours may be as deep as when alone."""
    inside, outside = nested(DEEP, start, end), nested(DEEP + 1, start, end)
    items = b",".join(b'{"id":"%d","payload":%b}' % each for each in enumerate((inside, outside, b"1")))
    first, second, third = (await api.post("/batch/enqueue", b'{"jobs":[%b]}' % items)).json["jobs"]
    check_problem(second["error"], 400, "bad_request", "payload")
    assert (first["id"], third["id"], (await api.get("/jobs/1")).status) == ("0", "2", 404)

    tokens = [(await api.take())["lease"]["token"].encode() for _ in range(2)]
    items = b'{"id":"0","lease":"%b","outcome":"succeeded","result":%b},' % (tokens[0], outside)
    items += b'{"id":"2","lease":"%b","outcome":"failed","retry":false,"error":%b}' % (tokens[1], inside)
    first, second = (await api.post("/batch/conclude", b'{"jobs":[%b]}' % items)).json["jobs"]
    check_problem(first["error"], 400, "bad_request", "result")
    assert (second["id"], second["outcome"]) == ("2", "failed")
    assert (await api.job("0"))["status"] == "in_progress"


@pytest.mark.parametrize("path", ["/jobs/enqueue", "/jobs/dequeue", "/jobs/job/conclude", "/jobs/job/extend", "/batch/enqueue"])
@pytest.mark.parametrize("key", ["payload", "lease", "jobs", "nope", "queue"])
@pytest.mark.parametrize("bomb", [b"[" * 100_000 + b"]" * 100_000, b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000])
async def test_a_bomb_of_brackets_is_400(api: Api, path: str, key: str, bomb: bytes) -> None:
    """Anywhere in any body, closed or not."""
    assert_problem_400(await api.post(path, b'{"%b":%b}' % (key.encode(), bomb)))
    assert_problem_400(await api.post(path, bomb))


def assert_problem_400(reply: Any) -> None:
    """A 400 of whatever field."""
    assert_problem(reply, 400, "bad_request", reply.json.get("field"))


async def test_200_000_keys_are_refused_or_kept_like_any_json(api: Api) -> None:
    """As fields they are unknown; as a payload they are over its size."""
    keys = b",".join(b'"k%d":1' % n for n in range(200_000))
    assert_problem(await api.post("/jobs/enqueue", b"{" + keys + b"}"), 400, "bad_request", "k0")
    assert_problem(await api.post("/jobs/enqueue", b'{"payload":{' + keys + b"}}"), 413, "too_large", "payload")


@pytest.mark.parametrize(
    "path", ["/jobs/%00", "/jobs/a%0d%0ab", "/jobs/%7f", "/jobs/%C2%80", "/jobs/" + "x" * 129, "/jobs/" + "%F0%9F%98%80" * 129]
)
async def test_an_id_that_cannot_be_is_400(api: Api, path: str) -> None:
    """In every path that has one."""
    assert_problem(await api.get(path), 400, "bad_request", "id")
    for operation, body in (("cancel", None), ("retry", None), ("release", b'{"lease":"x"}'), ("extend", b'{"lease":"x"}')):
        assert_problem(await api.post(f"{path}/{operation}", body), 400, "bad_request", "id")
    assert_problem(await api.post(f"{path}/conclude", lease="x", outcome="succeeded"), 400, "bad_request", "id")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/jobs?nope=1", "nope"),
        ("/jobs?limit=1&limit=2", "limit"),
        ("/jobs?status=done", "status"),
        ("/jobs?cursor=x", "cursor"),
        ("/jobs?limit=null", "limit"),
        ("/jobs/job?wait=null", "wait"),
        ("/jobs?queue=%ff", None),
        ("/jobs?" + "&".join(["queue=a"] * 65), None),
        ("/jobs/job?nope=1", "nope"),
        ("/jobs/job?wait=1&wait=2", "wait"),
        ("/jobs/job?wait=", "wait"),
        ("/jobs/job?wait=soon", "wait"),
    ],
)
async def test_a_wrong_query_is_named(api: Api, path: str, field: str | None) -> None:
    """As strictly as a body."""
    await api.enqueue(id="job")
    assert_problem(await api.get(path), 400, "bad_request", field)


@pytest.mark.parametrize(
    "query",
    ["queue=a&nope=1", "wait=0&wait=1", "lease_seconds=x", "wait=true", "limit=1", "queue=a&lease_seconds=null", "queue=a&worker=%ff"],
)
async def test_a_wrong_query_of_a_dequeue_is_named(api: Api, query: str) -> None:
    """And nothing is taken."""
    await api.enqueue(queue="a")
    before = api.state()
    assert_problem_400(await api.post(f"/jobs/dequeue?{query}"))
    assert api.state() == before


BARE = [route for route in [*native_routes(""), *server_routes((), ())] if route.query is None and not route.public]
"""Operations that take no query. Public ones let it be: probes add to it."""


@pytest.mark.parametrize("route", BARE, ids=[f"{route.method} {route.path}" for route in BARE])
async def test_a_query_where_none_is_taken_is_400(api: Api, route: Route) -> None:
    """A parameter that has no effect is refused, not ignored: `?queue=mail` must not put the job elsewhere."""
    operation = f"{route.method} {route.path}".replace("{id}", "job").replace("{name}", "default")
    method, path = operation.split()
    right = await prepared(api, operation) if operation in RIGHT else {"jobs": []} if "/batch/" in path else {}
    before = api.state()
    for query in ("queue=mail", "queue", "%71ueue=", "queue=a&queue=b"):
        assert_problem(await api.send(method, f"{path}?{query}", json.dumps(right).encode()), 400, "bad_request", "queue")
    assert_problem(await api.send(method, f"{path}?queue=%ff"), 400, "bad_request")
    assert api.state() == before


async def test_a_parameter_is_named_by_no_more_than_200_characters(api: Api) -> None:
    """A long name is cut, and one without a name has no field."""
    reply = await api.post("/jobs/enqueue?" + "x" * 300 + "=1", payload=1)
    assert_problem(reply, 400, "bad_request", "x" * 200)
    reply = await api.post("/jobs/enqueue?=1", payload=1)
    assert "takes no query parameters" in assert_problem(reply, 400, "bad_request")
    assert (await api.get("/queues")).json["queues"] == []


async def test_a_question_mark_alone_is_no_query(api: Api) -> None:
    """There is no parameter in it that could be refused."""
    assert (await api.get("/queues?")).status == 200
    assert (await api.get("/jobs?")).status == 200
    assert (await api.post("/jobs/enqueue?", payload=1)).status == 201


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("delay", 2_592_001, "2592001 is out of range; 0 to 2592000 seconds is allowed"),
        ("delay", 2_592_000.5, "2592000.5 is out of range; 0 to 2592000 seconds is allowed"),
        ("expires_in", 0, "0 is out of range; 0.001 to 2592000 seconds is allowed"),
        ("lease_seconds", 43_200.000_001, "43200.000001 is out of range; 1 to 43200 seconds, or 0, is allowed"),
        ("delay", 1e20, "1e+20 is out of range; 0 to 2592000 seconds is allowed"),
        ("delay", 1e300, "the number is out of range; 0 to 2592000 seconds is allowed"),
        ("max_attempts", 1_000_001, "1000001 is out of range; 1 to 1000 is allowed"),
    ],
)
async def test_a_number_out_of_range_is_shown_as_it_is(api: Api, field: str, value: float, reason: str) -> None:
    """The value and the bound differ in the message as they do in fact."""
    detail = assert_problem(await api.post("/jobs/enqueue", {"payload": 1, field: value}), 400, "bad_request", field)
    assert detail == f"{field}: {reason}"
