"""Faults 40 to 42: bodies that are not what they should be."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import time

import pytest

from .inside import serving
from .ledger import Api
from .process import Process
from .wire import job_path, request

MIB = 1024 * 1024

GRAMMAR: dict[str, bytes] = {
    "empty": b"",
    "space": b"  ",
    "truncated": b'{"payload": [1, 2',
    "truncated string": b'{"payload": "x',
    "truncated word": b'{"payload": tru}',
    "no object": b"[1]",
    "a string": b'"payload"',
    "null": b"null",
    "two values": b'{"payload": 1} {"payload": 2}',
    "invalid utf-8": b'{"payload": 1, "description": "\xff"}',
    "invalid utf-8 in the payload": b'{"payload": "\xff"}',
    "overlong utf-8": b'{"payload": "\xc0\xaf"}',
    "utf-8 of a surrogate": b'{"payload": "\xed\xa0\x80"}',
    "utf-16": '{"payload": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"payload": 1}',
    "NaN": b'{"payload": NaN}',
    "Infinity": b'{"payload": -Infinity}',
    "NaN of ours": b'{"payload": 1, "delay": NaN}',
    "trailing comma": b'{"payload": [1,]}',
    "trailing comma in ours": b'{"payload": 1,}',
    "single quotes": b"{'payload': 1}",
    "comment": b'{"payload": 1 /* one */}',
    "leading zero": b'{"payload": 01}',
    "plus": b'{"payload": +1}',
    "hexadecimal": b'{"payload": 0x1}',
    "bare NUL": b'{"payload": 1}\x00',
    "NUL in a string": b'{"payload": "\x00"}',
    "newline in a string": b'{"payload": "\n"}',
    "bad escape": b'{"payload": "\\x41"}',
    "short escape": b'{"payload": "\\u12"}',
    "unquoted key": b"{payload: 1}",
}
"""Bodies that are no JSON object; the fault is the body's, so no field is named, but the answer says what is wrong."""

FIELDS: dict[str, tuple[str, str]] = {
    "id as a number": ("id", "1"),
    "id as a list": ("id", "[]"),
    "empty id": ("id", '""'),
    "long id": ("id", json.dumps("x" * 129)),
    "NUL in the id": ("id", '"a\\u0000b"'),
    "line end in the id": ("id", '"a\\r\\nb"'),
    "DEL in the id": ("id", '"\\u007f"'),
    "queue as a number": ("queue", "7"),
    "queue as null": ("queue", "null"),
    "empty queue": ("queue", '""'),
    "queue with a slash": ("queue", '"a/b"'),
    "queue with unicode": ("queue", '"é"'),
    "long queue": ("queue", json.dumps("q" * 81)),
    "NUL in the type": ("type", '"a\\u0000b"'),
    "line end in the type": ("type", '"a\\r\\nb"'),
    "long type": ("type", json.dumps("t" * 129)),
    "type as a truth": ("type", "true"),
    "description as an object": ("description", "{}"),
    "long description": ("description", json.dumps("d" * 1_025)),
    "NUL in the description": ("description", '"\\u0000"'),
    "priority as a string": ("priority", '"5"'),
    "priority as a fraction": ("priority", "5.5"),
    "priority as a truth": ("priority", "true"),
    "priority below": ("priority", "-1"),
    "priority above": ("priority", "10"),
    "huge priority": ("priority", "1" + "0" * 30),
    "absurd priority": ("priority", "9" * 5_000),
    "delay below": ("delay", "-0.001"),
    "delay above": ("delay", "2592000.5"),
    "delay as a string": ("delay", '"1"'),
    "delay beyond floats": ("delay", "1e999"),
    "absurd delay": ("delay", "9" * 5_000),
    "run_at as a number": ("run_at", "1800000000"),
    "run_at without a zone": ("run_at", '"2030-01-01T00:00:00"'),
    "run_at as no time": ("run_at", '"tomorrow"'),
    "run_at on no day": ("run_at", '"2030-02-31T00:00:00Z"'),
    "run_at far ahead": ("run_at", '"9999-12-31T23:59:59Z"'),
    "expires_in of nothing": ("expires_in", "0"),
    "expires_in beyond floats": ("expires_in", "1e400"),
    "max_attempts of none": ("max_attempts", "0"),
    "max_attempts above": ("max_attempts", "1001"),
    "lease below": ("lease_seconds", "0.1"),
    "lease above": ("lease_seconds", "43201"),
    "backoff as a number": ("backoff", "1"),
    "backoff with a negative base": ("backoff.base", '{"base": -1}'),
    "backoff that shrinks": ("backoff.factor", '{"factor": 0.5}'),
    "backoff with more": ("backoff.jitter", '{"jitter": 1}'),
    "unknown field": ("colour", '"red"'),
    "unknown field of the server's": ("status", '"queued"'),
    "unknown empty field": ("", "1"),
    "field in other letters": ("Queue", '"q"'),
}
"""Fields of ours with values that are not allowed: the field that the answer must name, and the value as JSON."""


def _bad(answer: object, field: str | None = None) -> None:
    """A 400 that names the fault."""
    assert (answer.status, answer.code) == (400, "bad_request"), answer  # type: ignore[attr-defined]
    problem = answer.json  # type: ignore[attr-defined]
    assert len(problem["detail"]) > 10
    assert len(problem["detail"]) < 1_000
    if field is not None:
        assert problem["field"] == field, problem


@pytest.mark.parametrize("body", GRAMMAR.values(), ids=GRAMMAR.keys())
async def test_40_bad_json(api: Api, body: bytes) -> None:
    """What is not a JSON object is answered 400 with the reason, by every operation that takes a body; the connection stays usable."""
    client = await api.connect()
    json_type = "Content-Type: application/json\r\n"
    _bad(await client.call("POST", "/jobs/enqueue", body, json_type))
    assert (await client.call("GET", "/healthz")).status == 200
    paths = ["/batch/enqueue", "/batch/conclude", "/batch/extend", "/batch/release"]
    paths += ["/jobs/x/conclude", "/jobs/x/extend", "/jobs/x/release"]
    for path in paths:
        _bad(await client.call("POST", path, body, json_type))
    _bad(await client.call("PUT", f"/queues/{api.queue}", body, json_type))
    if body.strip():
        # A dequeue, a cancel and the like need no body.
        for path in ("/jobs/dequeue", "/batch/dequeue", "/jobs/x/cancel"):
            _bad(await client.call("POST", path, body, json_type))
    assert await api.counts() == (0, 0)


@pytest.mark.parametrize(("field", "value"), FIELDS.values(), ids=FIELDS.keys())
async def test_40_bad_json_field(api: Api, field: str, value: str) -> None:
    """A value that is not allowed in a field of ours is answered 400 naming the field; in a batch it harms no other item."""
    name = field.partition(".")[0]
    queue = {} if name == "queue" else {"queue": api.queue}
    fields = ", ".join(f"{json.dumps(key)}: {json.dumps(text)}" for key, text in queue.items())
    body = f'{{"payload": 1{", " + fields if fields else ""}, {json.dumps(name)}: {value}}}'.encode()
    _bad(await api.call("POST", "/jobs/enqueue", body), field or None)
    good = json.dumps({"payload": 2, "id": api.full("good"), "queue": api.queue}).encode()
    answer = await api.call("POST", "/batch/enqueue", b'{"jobs": [%b, %b]}' % (body, good))
    if len(value) < 4_000:
        first, second = answer.json["jobs"]
        assert first["error"]["status"] == 400
        assert first["error"].get("field") == (field or None)
        assert second["created"] is True
        api.acknowledged.add(second["id"])
        assert await api.counts() == (1, 0)
    else:
        assert answer.status == 200
        api.acknowledged.add(answer.json["jobs"][1]["id"])


async def test_40_bad_json_without_payload(api: Api) -> None:
    """The one field that is needed is named when it is missing."""
    _bad(await api.call("POST", "/jobs/enqueue", {"queue": api.queue}), "payload")


SURROGATES = [b"\\ud800", b"\\udc00", b"\\ud800\\u0041", b"\\ud800 and more text", b"\\udc00 and more text", b"\\udc00\\ud800"]


@pytest.mark.parametrize("escape", SURROGATES, ids=bytes.decode)
async def test_40_bad_json_lone_surrogate(api: Api, escape: bytes) -> None:
    """A lone surrogate, written as an escape, is refused everywhere: in a text of ours, in a payload's string, in its key, in a result."""
    for field in (b"id", b"queue", b"type", b"description", b"payload"):
        payload = b"" if field == b"payload" else b'"payload": 1, '
        _bad(await api.call("POST", "/jobs/enqueue", b'{%b"%b": "%b"}' % (payload, field, escape)))
    _bad(await api.call("POST", "/jobs/enqueue", b'{"payload": {"%b": 1}}' % escape))
    for field in (b"worker", b"attempt_id", b"queue"):
        _bad(await api.call("POST", "/jobs/dequeue", b'{"wait": 0, "%b": "%b"}' % (field, escape)))
    await api.put("j")
    token = (await api.take())["lease"]["token"].encode()
    _bad(
        await api.call(
            "POST", job_path(api.full("j"), "conclude"), b'{"lease": "%b", "outcome": "failed", "error": "%b"}' % (token, escape)
        )
    )
    assert await api.counts() == (0, 1)


DEQUEUES: dict[str, tuple[str | None, bytes]] = {
    "wait below": ("wait", b'{"wait": -1}'),
    "wait above the cap": ("wait", b'{"wait": 56}'),
    "wait beyond floats": ("wait", b'{"wait": 1e999}'),
    "wait as a string": ("wait", b'{"wait": "1"}'),
    "absurd wait": (None, b'{"wait": %s}' % (b"9" * 5_000)),
    "no queue": ("queue", b'{"queue": []}'),
    "too many queues": ("queue", json.dumps({"queue": [f"q{number}" for number in range(33)]}).encode()),
    "queue as a number": ("queue", b'{"queue": 1}'),
    "a queue as a number": ("queue[1]", b'{"queue": ["a", 1]}'),
    "queue with a space": ("queue", b'{"queue": "a b"}'),
    "empty worker": ("worker", b'{"worker": ""}'),
    "long worker": ("worker", json.dumps({"worker": "w" * 129}).encode()),
    "NUL in attempt_id": ("attempt_id", b'{"attempt_id": "\\u0000"}'),
    "lease below": ("lease_seconds", b'{"lease_seconds": 0.1}'),
    "unknown field": ("timeout", b'{"timeout": 1}'),
    "limit on a single dequeue": ("limit", b'{"limit": 2}'),
}


@pytest.mark.parametrize(("field", "body"), DEQUEUES.values(), ids=DEQUEUES.keys())
async def test_40_bad_json_in_a_dequeue(api: Api, field: str | None, body: bytes) -> None:
    """A dequeue with a value that is not allowed is refused before it waits, naming the field."""
    _bad(await api.call("POST", "/jobs/dequeue", body), field)


CONCLUDES: dict[str, tuple[str, bytes]] = {
    "no lease": ("lease", b'{"outcome": "succeeded"}'),
    "lease as an object": ("lease", b'{"lease": {"token": "x"}, "outcome": "succeeded"}'),
    "no outcome": ("outcome", b'{"lease": "x"}'),
    "another outcome": ("outcome", b'{"lease": "x", "outcome": "cancelled"}'),
    "outcome as null": ("outcome", b'{"lease": "x", "outcome": null}'),
    "result of a failure": ("result", b'{"lease": "x", "outcome": "failed", "result": 1}'),
    "error of a success": ("error", b'{"lease": "x", "outcome": "succeeded", "error": 1}'),
    "retry as a number": ("retry", b'{"lease": "x", "outcome": "failed", "retry": 1}'),
    "unknown field": ("payload", b'{"lease": "x", "outcome": "succeeded", "payload": 1}'),
}


@pytest.mark.parametrize(("field", "body"), CONCLUDES.values(), ids=CONCLUDES.keys())
async def test_40_bad_json_in_a_conclude(api: Api, field: str, body: bytes) -> None:
    """A conclude with a value that is not allowed is refused naming the field, alone and in a batch, and the job is as it was."""
    await api.put("j")
    token = (await api.take())["lease"]["token"]
    before = await api.job("j")
    body = body.replace(b'"lease": "x"', b'"lease": "%b"' % token.encode())
    _bad(await api.call("POST", job_path(api.full("j"), "conclude"), body), field)
    item = b'{"id": "%b", %b' % (api.full("j").encode(), body[1:])
    (result,) = (await api.call("POST", "/batch/conclude", b'{"jobs": [%b]}' % item)).json["jobs"]
    assert (result["error"]["status"], result["error"]["field"]) == (400, field)
    assert await api.job("j") == before


BATCHES: dict[str, bytes] = {
    "no jobs": b"{}",
    "jobs as an object": b'{"jobs": {}}',
    "jobs as null": b'{"jobs": null}',
    "more fields": b'{"jobs": [], "atomic": true}',
    "too many": b'{"jobs": [' + b",".join([b'{"payload": 1}'] * 1_001) + b"]}",
}


@pytest.mark.parametrize("body", BATCHES.values(), ids=BATCHES.keys())
async def test_40_bad_json_around_a_batch(api: Api, body: bytes) -> None:
    """A batch that is none is refused whole."""
    for path in ("/batch/enqueue", "/batch/conclude", "/batch/extend", "/batch/release"):
        _bad(await api.call("POST", path, body))


async def test_40_bad_json_items_of_a_batch(api: Api) -> None:
    """Items that are no objects fail one by one."""
    good = json.dumps({"payload": 1, "id": api.full("good"), "queue": api.queue}).encode()
    answer = await api.call("POST", "/batch/enqueue", b'{"jobs": [1, null, [], "x", {}, %b]}' % good)
    *bad, last = answer.json["jobs"]
    assert [item["error"]["code"] for item in bad] == ["bad_request"] * 5
    assert last["created"] is True
    api.acknowledged.add(last["id"])


@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "nonsense", ""])
async def test_40_bad_json_charset(api: Api, charset: str) -> None:
    """A charset that is not UTF-8 is refused by name, known or unknown."""
    answer = await api.call("POST", "/jobs/enqueue", b'{"payload": 1}', f"Content-Type: application/json; charset={charset}\r\n")
    _bad(answer, "Content-Type")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ";", ""])
async def test_40_bad_json_type(api: Api, kind: str) -> None:
    """A body that is not declared as JSON is refused, whatever is in it."""
    answer = await api.call("POST", "/jobs/enqueue", b'{"payload": 1}', f"Content-Type: {kind}\r\n")
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


KEPT = {
    "beyond floats": b"1e999",
    "a thousand digits": b"-" + b"1234567890" * 100,
    "many decimals": b"0.1000000000000000055511151231257827021181583404541015625",
    "negative zero": b"-0.0",
    "repeated keys": b'{"a":1,"a":2,"a":[3]}',
    "spaces": b'{ "a" :\t[ 1 ,\n2 ] }',
    "escapes": b'"\\u0041\\/\\ud83d\\ude00\\u0000"',
    "unicode": '"é\u2028\U0001f600"'.encode(),
    "null": b"null",
    "empty key": b'{"":{"":[]}}',
    "a hundred levels": b"[" * 100 + b"]" * 100,
}


@pytest.mark.parametrize("payload", KEPT.values(), ids=KEPT.keys())
async def test_40_bad_json_is_not_this(api: Api, payload: bytes) -> None:
    """Grammatical JSON that parsers disagree about is kept byte for byte, through dequeue, replay, result and error."""
    body = b'{"id": "%b", "queue": "%b", "payload": %b}' % (api.full("j").encode(), api.queue.encode(), payload)
    assert (await api.call("POST", "/jobs/enqueue", body)).status == 201
    api.acknowledged.add(api.full("j"))
    assert (await api.call("POST", "/jobs/enqueue", body)).status == 200
    taken = await api.call("POST", "/jobs/dequeue", {"queue": api.queue})
    assert b'"payload":' + payload + b"," in taken.body
    token = taken.body.partition(b'"token":"')[2][:32]
    api.leases[api.full("j")] = {"token": token.decode(), "expires_at": "2000-01-01T00:00:00.000Z"}
    ended = await api.call(
        "POST", job_path(api.full("j"), "conclude"), b'{"lease": "%b", "outcome": "succeeded", "result": %b}' % (token, payload)
    )
    assert ended.status == 200
    api.over("j")
    shown = await api.call("GET", job_path(api.full("j")))
    assert b'"payload":' + payload in shown.body
    assert b'"result":' + payload in shown.body


BOMBS: dict[str, tuple[bytes, set[int]]] = {
    "100,000 lists": (b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400}),
    "100,000 objects": (b'{"payload": ' + b'{"":' * 40_000 + b"1" + b"}" * 40_000 + b"}", {400}),
    "100,000 lists that do not end": (b'{"payload": ' + b"[" * 100_000, {400}),
    "100,000 lists in our own field": (b'{"payload": 1, "backoff": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400}),
    "100,000 lists in an unknown field": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400}),
    "101 levels": (b'{"payload": ' + b"[" * 101 + b"]" * 101 + b"}", {400}),
    "100 levels": (b'{"payload": ' + b"[" * 100 + b"]" * 100 + b"}", {201}),
    "200,000 keys": (b'{"payload": {' + b",".join(b'"k%06d":%d' % (n, n) for n in range(200_000)) + b"}}", {413}),
    "200,000 keys in 1 MiB": (b'{"payload": {' + b",".join([b'"":1'] * 200_000) + b"}}", {201}),
    "200,000 unknown fields": (b"{" + b",".join([b'"":1'] * 200_000) + b"}", {400}),
    "flat lists, side by side": (b'{"payload": [' + b",".join([b"[]"] * 80_000) + b"]}", {201}),
    "brackets in a string": (b'{"payload": "' + b"[{" * 100_000 + b'"}', {201}),
    "escaped quotes before brackets": (b'{"payload": ["' + b'\\"[' * 60_000 + b'"]}', {201}),
    "a string of backslashes": (b'{"payload": "' + b"\\\\" * 120_000 + b'"}', {201}),
}


@pytest.mark.parametrize(("body", "statuses"), BOMBS.values(), ids=BOMBS.keys())
async def test_41_json_bomb(body: bytes, statuses: set[int]) -> None:
    """Depth and number of keys cost the server nothing that others would notice: 400 or 413, and 201 for what only looks dangerous."""
    async with serving() as api:
        stall, cpu, over = 0.0, time.process_time(), False

        async def beat() -> None:
            nonlocal stall, cpu
            while not over:
                await asyncio.sleep(0)
                now = time.process_time()
                stall, cpu = max(stall, now - cpu), now

        client = await api.connect()
        beating = asyncio.create_task(beat())
        answer = await client.call("POST", "/jobs/enqueue", body)
        over = True
        await beating
        assert answer.status in statuses, answer
        if answer.status == 201:
            api.acknowledged.add(answer.json["id"])
            job = await api.call("POST", "/jobs/dequeue", {})
            assert body.removeprefix(b'{"payload": ').removesuffix(b"}") + b"," in job.body
            token = job.json["lease"]["token"]
            assert (await api.call("POST", job_path(job.json["id"], "conclude"), {"lease": token, "outcome": "succeeded"})).status == 200
            api.acknowledged.clear()
        print(f"longest stall {stall * 1_000:.0f} ms")
        # The budget is 50 ms and the benchmark's to hold; this catches what grows faster than the body does.
        assert stall < 2.0


async def test_41_json_bomb_in_a_batch(api: Api) -> None:
    """A bomb among a batch's items is refused with the batch, and the same depth in a result or an error with its conclude."""
    bomb = b"[" * 50_000 + b"]" * 50_000
    _bad(await api.call("POST", "/batch/enqueue", b'{"jobs": [{"payload": 1}, {"payload": %b}]}' % bomb))
    await api.put("j")
    token = (await api.take())["lease"]["token"]
    for outcome, field in ((b"succeeded", b"result"), (b"failed", b"error")):
        body = b'{"lease": "%b", "outcome": "%b", "%b": %b}' % (token.encode(), outcome, field, bomb)
        _bad(await api.call("POST", job_path(api.full("j"), "conclude"), body))
    assert await api.counts() == (0, 1)


@functools.cache
def _gzip_bomb() -> bytes:
    return gzip.compress(b'{"payload": "' + b"x" * 50 * MIB + b'"}', 9)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x-gzip"])
async def test_42_gzip_bomb(process: Process, api: Api, encoding: str) -> None:
    """49 KB that would unpack to 50 MB are answered 415 and never unpacked."""
    bomb = _gzip_bomb()
    assert len(bomb) < 60_000
    before = process.rss()
    for path in ("/jobs/enqueue", "/batch/enqueue", "/jobs/dequeue"):
        answer = await api.call("POST", path, bomb, f"Content-Encoding: {encoding}\r\n")
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert process.rss() - before < 10 * MIB
    assert await api.counts() == (0, 0)


async def test_42_gzip_bomb_as_transfer_encoding(api: Api) -> None:
    """The same announced as a transfer encoding is no request that is understood."""
    bomb = gzip.compress(b'{"payload": 1}')
    client = await api.connect()
    head = b"POST /jobs/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    await client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb))
    assert (await client.answer()).status in (400, 415)
    assert await api.counts() == (0, 0)


async def test_42_gzip_identity_is_no_encoding(api: Api) -> None:
    """`identity` says that nothing was done to the body."""
    body = request("POST", "/jobs/enqueue", {"payload": 1, "queue": api.queue, "id": api.full("j")}, "Content-Encoding: identity\r\n")
    client = await api.connect()
    await client.send(body)
    assert (await client.answer()).status == 201
    api.acknowledged.add(api.full("j"))
