"""Real examples of errors for the reference documentation: what an operation answers when it fails, one for each of its codes.

Status, title and format are made as the server makes them, from the error itself (`api/problems.py`); limits are the server's own. `target`
gives the requests that lead to these answers: a job report-7, a queue reports, and so on. tests/api/test_error_examples.py sends such
requests and compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from jobqueue import errors as e
from jobqueue.api.native import wire
from jobqueue.api.problems import PROBLEMS, InternalError, describe
from jobqueue.api.routes import Route, Scope
from jobqueue.http.body import UnsupportedMediaType, late
from jobqueue.http.connections import HttpVersionNotSupported
from jobqueue.limits import Limits

JOB, QUEUE, GROUP, SCHEDULE, WORKER, KEY, NUMBER, TASK = (
    *("report-7", "reports", "march", "monthly", "w-1", "customer-7", "7"),
    "4d967a30111bf29f0eba01c448b375c1",
)

UNKNOWN = ("prio", 1)
"""A field or parameter that no operation has, and its value."""

WAIT = "long"
"""An invalid number of seconds."""

FORM = "application/x-www-form-urlencoded"
TOKEN, RATE = "ci", "10 requests in 1 s, 20 at once"
HOST = "queue.example.org"


def target(route: Route) -> str:
    """The path of a route with the names used in the examples."""
    first = route.template.strip("/").partition("/")[0]
    ids = {"groups": GROUP, "tasks": TASK}
    names = {"schedules": SCHEDULE, "workers": WORKER}
    places = {"id": ids.get(first, JOB), "name": names.get(first, QUEUE), "queue": QUEUE, "key": KEY, "number": NUMBER}
    return re.sub(r"{(\w+)}", lambda found: places.get(found[1], "1"), route.path)


def _bad_request(route: Route, _: Limits) -> e.QueueError:
    """The error from the decoder of the operation's own type, if it has one."""
    name, value = UNKNOWN
    try:
        if route.body is not None and route.api == "native":
            wire.Decoder(_batch(route.body))(msgspec.json.encode({name: value}))
        elif route.body is not None:
            wire.Decoder(route.body)(b"{")
        elif route.query is not None and route.api == "native":
            wire.decode_query([(name, str(value))], route.query)
        elif waits(route):
            wire.decode_query([("wait", WAIT)], route.query)
    except e.BadRequest as error:
        return error
    if route.public:
        return e.BadRequest(None, "not a valid HTTP request: Duplicate 'Host' header found.")
    if route.api == "native":
        return e.BadRequest(name, "is unknown", f"unknown parameter '{name}'; this operation takes no query parameters")
    return e.BadRequest("path", "is not UTF-8 once its percent-encoding is undone")


def waits(route: Route) -> bool:
    """Whether an operation can be held, for the seconds in its query."""
    return route.query is not None and "wait" in route.query.__struct_fields__


def _batch(kind: Any) -> Any:
    """The type of a body whose items are decoded one by one: none of its fields is the unknown one."""
    return msgspec.defstruct("Batch", [("jobs", Any, None)], forbid_unknown_fields=True) if not isinstance(kind, type) else kind


def _forbidden(route: Route, _: Limits) -> e.QueueError:
    if route.scope is Scope.KNOWN:
        return e.Forbidden.told(f"this server does not accept the host name {HOST!r}; see the setting allowed-hosts", "Host")
    return e.Forbidden(f"the token {TOKEN} does not have the scope {route.scope}")


def _unknown_job(route: Route, _: Limits) -> e.QueueError:
    if route.template == "/jobs/enqueue":
        return e.UnknownParent(JOB)
    if route.template == "/jobs/dequeue":
        # The dialect classic.
        return e.UnknownJob.told("no job is queued")
    return e.UnknownJob(NUMBER if "{number}" in route.template else JOB)


def _id_conflict(route: Route, _: Limits) -> e.QueueError:
    if route.template == "/groups":
        return e.IdConflict.told(f"a different group already has the id {GROUP!r}: it differs in queue", "queue")
    return e.IdConflict(JOB, "payload")


def _queue_full(route: Route, limits: Limits) -> e.QueueError:
    bound = limits.payload_total_bytes_max
    bytes_full = f"the server's live jobs hold {bound + 1} bytes; {bound} are allowed"
    special = {
        "PATCH /jobs/{id}": (bytes_full, None),
        "POST /jobs/{id}/log": (bytes_full, "lines"),
        "POST /queues/{name}/keys/{key}/pause": (
            f"the limit of {limits.paused_keys_max} paused keys of queue {QUEUE!r} is reached",
            "key",
        ),
        "POST /schedules/{name}/backfill": (f"1000 slots of schedule {SCHEDULE!r} wait, and 1 would; 1000 may", None),
    }
    plain = (f"the server has reached its limit of {limits.jobs_max} live jobs", None)
    return e.QueueFull(*special.get(f"{route.method} {route.template}", plain))


def _unsupported(route: Route, _: Limits) -> e.QueueError:
    named = {
        "PATCH /jobs/{id}": "queue",
        "POST /jobs/bulk": "edit.queue",
        "POST /queues/{name}/redrive": "to",
        "POST /groups": "on_concluded.queue",
        "PUT /schedules/{name}": "job.queue",
        "PATCH /schedules/{name}": "job.queue",
    }
    place = f"{route.method} {route.template}"
    if place == "POST /jobs/enqueue":
        return e.Unsupported("after", f"the job 'figures' is in another partition than the queue {QUEUE!r}")
    return e.Unsupported.of_queues(named.get(place, "dead_letter"), QUEUE, "letters")


def _not_in_progress(route: Route, _: Limits) -> e.QueueError:
    if route.api == "classic":
        return e.NotInProgress(NUMBER, "CONCLUDED")
    return e.NotInProgress(JOB, "succeeded" if route.api == "simplequeue" else "concluded (succeeded)")


def _storage(route: Route, _: Limits) -> e.QueueError:
    if not route.changes:
        return e.StorageUnavailable("what happened to the job is not stored yet: database or disk is full")
    return e.StorageUnavailable("changes cannot be stored: database or disk is full")


_EXAMPLES: Mapping[str, Callable[[Route, Limits], e.QueueError]] = {
    "bad_request": _bad_request,
    "unauthorized": lambda route, limits: e.Unauthorized("the server does not know this token"),
    "forbidden": _forbidden,
    "unknown_job": _unknown_job,
    "unknown_queue": lambda route, limits: e.UnknownQueue(QUEUE),
    "unknown_worker": lambda route, limits: e.UnknownWorker(WORKER),
    "unknown_schedule": lambda route, limits: e.UnknownSchedule(SCHEDULE),
    "unknown_task": lambda route, limits: e.UnknownTask(TASK),
    "unknown_group": lambda route, limits: e.UnknownGroup(GROUP, None if "{id}" in route.template else "group"),
    "request_timeout": lambda route, limits: late(30),
    "id_conflict": _id_conflict,
    "lease_lost": lambda route, limits: e.LeaseLost(JOB),
    "not_in_progress": _not_in_progress,
    "in_progress": lambda route, limits: e.InProgress(JOB),
    "duplicate": lambda route, limits: e.Duplicate("invoice-7", "report-6"),
    "not_retryable": lambda route, limits: e.NotRetryable(JOB, "concluded (succeeded)"),
    "not_forgettable": lambda route, limits: e.NotForgettable(JOB, "is queued, and only a concluded job can be forgotten"),
    "group_closed": lambda route, limits: e.GroupClosed(GROUP),
    "queue_not_empty": lambda route, limits: e.QueueNotEmpty(QUEUE, 2),
    "too_large": lambda route, limits: e.TooLarge(
        None, f"the body has {limits.body_bytes_max + 1} bytes or more; {limits.body_bytes_max} are allowed"
    ),
    "unsupported_media_type": lambda route, limits: UnsupportedMediaType(f"Content-Type is {FORM!r}; send application/json"),
    "queue_full": _queue_full,
    "too_many_queues": lambda route, limits: e.TooManyQueues(
        f"the server has reached its limit of {limits.queues_max} queues; delete empty ones"
    ),
    "too_many_schedules": lambda route, limits: e.TooManySchedules(
        f"the server has reached its limit of {limits.schedules_max} schedules; delete some"
    ),
    "too_many_tasks": lambda route, limits: e.TooManyTasks.told(
        f"a task of the queue {QUEUE!r} runs already; wait for it to end, or cancel it", "queue"
    ),
    "too_many_groups": lambda route, limits: e.TooManyGroups(
        f"the limit of {limits.groups_max} groups that are not concluded, or owe a job, is reached; "
        "close or cancel those that are not needed"
    ),
    "too_many_waiters": lambda route, limits: e.TooManyWaiters(f"too many waiting requests (limit {limits.waiters_max})"),
    "too_many_listeners": lambda route, limits: e.TooManyListeners(f"too many event listeners (limit {limits.listeners_max})"),
    "too_many_connections": lambda route, limits: e.TooManyConnections("the server has reached its limit of connections"),
    "rate_limited": lambda route, limits: e.RateLimited(f"too many requests; {RATE}, are allowed"),
    "internal_error": lambda route, limits: InternalError("internal error in the server; see its log"),
    "unsupported": _unsupported,
    "draining": lambda route, limits: e.Draining("the server is shutting down"),
    "storage_unavailable": _storage,
    "http_version": lambda route, limits: HttpVersionNotSupported("speak HTTP/1.1 or HTTP/1.0"),
}
"""An error for each code, as an operation answers it."""


def _shown(route: Route, error: e.QueueError) -> dict[str, Any]:
    return {"summary": PROBLEMS[error.code].title, "value": msgspec.json.decode(route.shape.encode(describe(error)))}


def examples_of(route: Route, codes: Sequence[str], limits: Limits, *, may_be_made: bool = False) -> dict[str, Any]:
    """Examples for the document by name, one for each of these codes. may_be_made: add one that says that the change may have been made."""
    found = {code: _shown(route, _EXAMPLES[code](route, limits)) for code in codes if code in _EXAMPLES}
    if may_be_made:
        said = "the change is not stored yet, and may or may not be stored later; repeat the request to find out: database or disk is full"
        found["storage_unavailable, unconfirmed"] = _shown(route, e.StorageUnconfirmed(said))
    return found


SAID_BY_ACTIONS: Mapping[str, Any] = {
    "application/x-amz-json-1.0": {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "The specified queue does not exist."},
    "text/xml": '<?xml version="1.0"?><ErrorResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><Error><Type>Sender</Type>'
    "<Code>AWS.SimpleQueueService.NonExistentQueue</Code><Message>The specified queue does not exist.</Message><Detail/></Error>"
    "<RequestId>b58be1e9-c54d-4f97-8978-000000000003</RequestId></ErrorResponse>",
}
"""The sqs dialect's answers to GetQueueUrl for an unknown queue, by protocol. Each answer has its own RequestId."""


def examples_of_actions(media: str) -> dict[str, Any]:
    """Examples for a path with several operations."""
    return {"no such queue": {"summary": "No such queue", "value": SAID_BY_ACTIONS[media]}} if media in SAID_BY_ACTIONS else {}
