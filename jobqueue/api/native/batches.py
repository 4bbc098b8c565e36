"""The native API's batches: decode, call one backend operation, encode. No queue logic here. `longpoll.py` has the dequeue of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jobqueue.api.native import short, views, wire
from jobqueue.api.native.lines import said
from jobqueue.api.native.native import trace_of, verdict_of
from jobqueue.api.native.short import APPLIED, short_wanted
from jobqueue.api.native.stamps import stamp
from jobqueue.api.problems import describe
from jobqueue.api.site import Site
from jobqueue.backend.base import Conclude, Enqueued, Extend, Release
from jobqueue.errors import BadRequest, QueueError
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

T = TypeVar("T")
R = TypeVar("R")


async def _items(site: Site, request: Request, at_once: wire.Decoder, item: wire.Decoder, make: Callable[[Any], T]) -> list[T | QueueError]:
    """What each item of a batch asks for, or its error.

    Decoded in one step if all items are valid; otherwise one by one, so that an invalid item does not affect the others.
    """
    body = await site.read_body(request)
    wire.check_length(body, "jobs", site.limits.batch_jobs_max)
    whole = at_once.tried(body)
    items: Sequence[Any] = [item.tried(raw) for raw in wire.decode_batch(body).jobs] if isinstance(whole, BadRequest) else whole.jobs
    made: list[T | QueueError] = []
    for found in items:
        try:
            made.append(found if isinstance(found, QueueError) else make(found))
        except QueueError as error:
            made.append(error.bare())
    return made


def _results(replies: Sequence[R | QueueError], view: Callable[[R], Any]) -> list[Any]:
    return [views.FailedItem(describe(reply)) if isinstance(reply, QueueError) else view(reply) for reply in replies]


def _batch(replies: Sequence[R | QueueError], view: Callable[[R], Any], brief: Callable[[R], Any] | None = None) -> Answer:
    """brief: makes the short form of a reply, None where the complete form is needed. Without brief, the answer is not short."""
    if brief is None:
        return Answer(200, views.encode(views.BatchView(_results(replies, view))))
    return Answer(200, views.encode(views.BatchView(_results(replies, lambda reply: brief(reply) or view(reply)))), headers=APPLIED)


def _enqueued(reply: Enqueued) -> views.EnqueuedView:
    return views.enqueued(reply.job, reply.created)


async def batch_enqueue(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/enqueue."""
    specs = await _items(site, request, wire.decode_batch_enqueue, wire.decode_enqueue, wire.EnqueueBody.spec)
    trace = trace_of(request)
    if trace is not None:
        for spec in specs:
            if not isinstance(spec, QueueError) and spec.traceparent is None:
                spec.traceparent = trace
    in_short = short_wanted(request)
    replies = await site.backend.enqueue_batch(specs)
    if not in_short:
        return _batch(replies, _enqueued)
    at = short.made_at(replies)
    results = _results(replies, lambda reply: short.enqueued(reply, at) or _enqueued(reply))
    # If no job is new the time has no meaning; it is still included, so that clients read one format.
    return Answer(200, views.encode(views.ShortBatchView(stamp(time.time() if at is None else at), results)), headers=APPLIED)


async def batch_conclude(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/conclude."""

    def make(item: wire.ConcludeItem) -> Conclude:
        return Conclude(site.job_id(item.id), item.lease, verdict_of(item))

    items = await _items(site, request, wire.decode_batch_conclude, wire.decode_conclude_item, make)
    brief = short.concluded if short_wanted(request) else None
    return _batch(await site.backend.conclude_batch(items), views.concluded, brief)


async def batch_extend(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/extend."""

    def make(item: wire.ExtendItem) -> Extend:
        return Extend(site.job_id(item.id), item.lease, item.lease_seconds, item.progress, item.message, said(item.log, item.log_offset))

    items = await _items(site, request, wire.decode_batch_extend, wire.decode_extend_item, make)
    return _batch(await site.backend.extend_batch(items), views.extended)


async def batch_release(site: Site, request: Request, _: str) -> Answer:
    """POST /batch/release."""

    def make(item: wire.ReleaseItem) -> Release:
        return Release(site.job_id(item.id), item.lease, item.delay)

    items = await _items(site, request, wire.decode_batch_release, wire.decode_release_item, make)
    brief = short.released if short_wanted(request) else None
    return _batch(await site.backend.release_batch(items), lambda job: views.job_view(job, whole=False), brief)
