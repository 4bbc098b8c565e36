"""Reading bodies: depth, and what is refused in which order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobqueue.errors import BadRequest
from jobqueue.http import body
from jobqueue.limits import JSON_DEPTH_MAX
from tests.api.harness import assert_problem, request, until

from .conftest import Serve


def depth(value: Any) -> int:
    """How deep a value is nested, counted the simple way."""
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


def accepted(text: bytes, depth_max: int = JSON_DEPTH_MAX) -> bool:
    """Whether check_depth lets a payload pass."""
    refusal: BadRequest | None = None
    with mock.patch.object(body, "JSON_DEPTH_MAX", depth_max):
        try:
            body.check_depth("payload", text)
        except BadRequest as error:
            refusal = error
    assert refusal is None or (refusal.field == "payload" and f"deeper than {depth_max} levels" in str(refusal))
    return refusal is None


nasty = st.text(st.sampled_from('[]{}"\\/,: \n\x00aé\U0001f600'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | nasty,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(nasty, inner, max_size=4),
    max_leaves=30,
)


@given(value=values, depth_max=st.integers(1, 6), ascii_only=st.booleans(), indent=st.none() | st.integers(0, 2))
@example(value=["]", ["[", '"[', '\\"[']], depth_max=2, ascii_only=False, indent=None)
@example(value={"[": {"\\": [{}]}}, depth_max=3, ascii_only=False, indent=None)
@settings(deadline=None)
def test_depth_is_what_counting_says(value: Any, depth_max: int, ascii_only: bool, indent: int | None) -> None:
    """Brackets in strings, escapes and spaces do not count, whatever the bound."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert accepted(text, depth_max) is (depth(value) <= depth_max)


@given(kinds=st.lists(st.booleans(), min_size=JSON_DEPTH_MAX - 3, max_size=JSON_DEPTH_MAX + 3), beside=nasty)
@settings(deadline=None, max_examples=50)
def test_depth_is_exact_around_the_bound(kinds: list[bool], beside: str) -> None:
    """Lists and objects in any order, with something shallow at every level."""
    value: Any = beside
    for is_list in kinds:
        value = [beside, value, [[]]] if is_list else {beside: [{}], "in": value}
    expected = depth(value)
    assert expected >= len(kinds)
    assert accepted(json.dumps(value).encode()) is (expected <= JSON_DEPTH_MAX)


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        (b"[" * 100 + b"]" * 100, True),
        (b"[" * 101 + b"]" * 101, False),
        (b'{"a":' * 100 + b"1" + b"}" * 100, True),
        (b'{"a":' * 101 + b"1" + b"}" * 101, False),
        (b"[" + b"[]," * 200_000 + b"[]]", True),
        (b"[" * 300_000 + b"]" * 300_000, False),
        (b'["' + b"[" * 1000 + b'"]', True),
        (b'["\\\\",' + b"[" * 99 + b"]" * 99 + b"]", True),
        (b'["\\"' + b"[" * 1000 + b'\\\\\\"","\\\\"]', True),
    ],
)
def test_payloads_that_stand_at_the_edge(text: bytes, is_accepted: bool) -> None:
    """Just inside, just outside, wide, very deep, and brackets behind escapes."""
    assert accepted(text) is is_accepted


async def test_what_is_wrong_is_said_in_one_order(serve: Serve) -> None:
    """Too large, then too slow, then encoded or of another type, then not UTF-8, then not JSON."""
    api = await serve(body_bytes_max=100, payload_bytes_max=100, body_seconds=0.01)
    wire: Callable[[], Any] = api.site.wire
    text, gzip = ("Content-Type: text/plain", "Content-Encoding: gzip")
    large = request("POST", "/jobs/enqueue", None, text, gzip, "Content-Length: 101") + b"\xff" * 101
    assert_problem(await (await wire()).ask(large), 413, "too_large")
    slow = request("POST", "/jobs/enqueue", None, text, gzip, "Content-Length: 50") + b"\xff"
    assert_problem(await (await wire()).ask(slow), 408, "request_timeout")
    typed = request("POST", "/jobs/enqueue", None, text, "Content-Length: 1") + b"\xff"
    assert_problem(await (await wire()).ask(typed), 415, "unsupported_media_type")
    json_type = "Content-Type: application/json"
    encoded = request("POST", "/jobs/enqueue", None, json_type, gzip, "Content-Length: 1") + b"\xff"
    assert_problem(await (await wire()).ask(encoded), 415, "unsupported_media_type")
    utf8 = request("POST", "/jobs/enqueue", None, json_type, "Content-Length: 1") + b"\xff"
    assert "not UTF-8" in assert_problem(await (await wire()).ask(utf8), 400, "bad_request")


@pytest.mark.parametrize("split", range(1, 13))
async def test_a_body_may_come_in_pieces(serve: Serve, split: int) -> None:
    """Wherever the network cuts it, with its head or after it."""
    api = await serve()
    whole = request("POST", "/jobs/enqueue", b'{"payload":1}')
    wire = await api.site.wire()
    wire.send(whole[:-split])
    await until(lambda: api.site.server.requests_count == 1)
    wire.send(whole[-split:])
    assert (await wire.reply()).status == 201
