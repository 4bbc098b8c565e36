"""True examples for the reference documentation: one session with the server, from a first job to a deleted queue.

Each is a request and what it was answered, in order, on a fresh server whose time stands still at 2027-01-15T08:00:00Z.
tests/api/test_openapi.py plays the whole session and compares; lease tokens are random, so they differ there.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Example(NamedTuple):
    """One request and its answer. method and template name the operation; target: the path and query as sent; body None: none."""

    name: str
    method: str
    template: str
    target: str
    body: Any
    status: int
    answer: Any


# fmt: off
STORY: tuple[Example, ...] = (
    Example("a new job", "POST", "/jobs/enqueue", "/jobs/enqueue",
        {"id": "report-7", "queue": "reports", "type": "pdf", "payload": {"month": "2027-01"}, "max_attempts": 3}, 201,
        {"id": "report-7", "queue": "reports", "type": "pdf", "priority": 5, "status": "queued", "created_at": "2027-01-15T08:00:00.000Z",
         "run_at": None, "expires_at": None, "created": True}),
    Example("the same again", "POST", "/jobs/enqueue", "/jobs/enqueue",
        {"id": "report-7", "queue": "reports", "type": "pdf", "payload": {"month": "2027-01"}, "max_attempts": 3}, 200,
        {"id": "report-7", "queue": "reports", "type": "pdf", "priority": 5, "status": "queued", "created_at": "2027-01-15T08:00:00.000Z",
         "run_at": None, "expires_at": None, "created": False}),
    Example("a job", "POST", "/jobs/dequeue", "/jobs/dequeue",
        {"queue": ["urgent", "reports"], "wait": 20, "lease_seconds": 60, "worker": "w-1"}, 200,
        {"id": "report-7", "number": 1, "queue": "reports", "type": "pdf", "description": None, "priority": 5, "attempts": 1,
         "created_at": "2027-01-15T08:00:00.000Z", "lease": {"token": "9f86d081884c7d659a2feaa0c55ad015",
         "expires_at": "2027-01-15T08:01:00.000Z"}, "error": None, "payload": {"month": "2027-01"}}),
    Example("halfway", "POST", "/jobs/{id}/extend", "/jobs/report-7/extend",
        {"lease": "9f86d081884c7d659a2feaa0c55ad015", "progress": 0.5, "message": "drawing page 2 of 4"}, 200,
        {"id": "report-7", "expires_at": "2027-01-15T08:01:00.000Z", "cancel_requested": False}),
    Example("given back", "POST", "/jobs/{id}/release", "/jobs/report-7/release",
        {"lease": "9f86d081884c7d659a2feaa0c55ad015"}, 200,
        {"id": "report-7", "number": 1, "queue": "reports", "type": "pdf", "description": None, "priority": 5, "status": "queued",
         "outcome": None,
         "attempts": 0, "max_attempts": 3, "created_at": "2027-01-15T08:00:00.000Z", "run_at": None, "expires_at": None,
         "started_at": None, "concluded_at": None, "lease_expires_at": None, "worker": None, "progress": None, "message": None,
         "cancel_requested": False, "error": None, "key": None}),
    Example("a job, under an attempt_id", "POST", "/jobs/dequeue", "/jobs/dequeue",
        {"queue": "reports", "attempt_id": "w-1:42"}, 200,
        {"id": "report-7", "number": 1, "queue": "reports", "type": "pdf", "description": None, "priority": 5, "attempts": 1,
         "created_at": "2027-01-15T08:00:00.000Z", "lease": {"token": "a3bf4f1b2b0b822cd15d6c15b0f00a08",
         "expires_at": "2027-01-15T08:05:00.000Z"}, "error": None, "payload": {"month": "2027-01"}}),
    Example("succeeded", "POST", "/jobs/{id}/conclude", "/jobs/report-7/conclude",
        {"lease": "a3bf4f1b2b0b822cd15d6c15b0f00a08", "outcome": "succeeded", "result": {"pages": 4}}, 200,
        {"id": "report-7", "status": "concluded", "outcome": "succeeded", "attempts": 1, "run_at": None}),
    Example("nothing came", "POST", "/jobs/dequeue", "/jobs/dequeue",
        {"queue": "reports", "wait": 0}, 204,
        None),
    Example("wait for the result", "GET", "/jobs/{id}", "/jobs/report-7?wait=20", None, 200,
        {"id": "report-7", "number": 1, "queue": "reports", "type": "pdf", "description": None, "priority": 5, "status": "concluded",
         "outcome": "succeeded", "attempts": 1, "max_attempts": 3, "created_at": "2027-01-15T08:00:00.000Z", "run_at": None,
         "expires_at": None, "started_at": "2027-01-15T08:00:00.000Z", "concluded_at": "2027-01-15T08:00:00.000Z",
         "lease_expires_at": None, "worker": None, "progress": None, "message": None, "cancel_requested": False, "error": None,
         "key": None, "waiting_for": [], "past": [], "result": {"pages": 4}, "payload": {"month": "2027-01"}}),
    Example("two jobs and a conflict", "POST", "/batch/enqueue", "/batch/enqueue",
        {"jobs": [{"id": "report-8", "queue": "reports", "payload": {"month": "2027-02"}}, {"id": "report-9", "queue": "reports",
         "payload": {"month": "2027-03"}}, {"id": "report-7", "queue": "reports", "payload": {"month": "2028-01"}}]}, 200,
        {"jobs": [{"id": "report-8", "queue": "reports", "type": None, "priority": 5, "status": "queued",
         "created_at": "2027-01-15T08:00:00.000Z", "run_at": None, "expires_at": None, "created": True}, {"id": "report-9",
         "queue": "reports", "type": None, "priority": 5, "status": "queued", "created_at": "2027-01-15T08:00:00.000Z", "run_at": None,
         "expires_at": None, "created": True}, {"error": {"type": "urn:jobqueue:problem:id_conflict",
         "title": "A different job already has this id", "status": 409, "code": "id_conflict",
         "detail": "a different job already has the id 'report-7': it differs in payload", "field": "payload"}}]}),
    Example("two jobs", "POST", "/batch/dequeue", "/batch/dequeue",
        {"queue": "reports", "limit": 2, "worker": "w-1"}, 200,
        {"jobs": [{"id": "report-8", "number": 2, "queue": "reports", "type": None, "description": None, "priority": 5, "attempts": 1,
         "created_at": "2027-01-15T08:00:00.000Z", "lease": {"token": "60303ae22b998861bce3b28f33eec1be",
         "expires_at": "2027-01-15T08:05:00.000Z"}, "error": None, "payload": {"month": "2027-02"}}, {"id": "report-9", "number": 3,
         "queue": "reports", "type": None, "description": None, "priority": 5, "attempts": 1, "created_at": "2027-01-15T08:00:00.000Z",
         "lease": {"token": "fd61a03af4f77d870fc21e05e7e80678", "expires_at": "2027-01-15T08:05:00.000Z"}, "error": None,
         "payload": {"month": "2027-03"}}]}),
    Example("two heartbeats", "POST", "/batch/extend", "/batch/extend",
        {"jobs": [{"id": "report-8", "lease": "60303ae22b998861bce3b28f33eec1be", "progress": 0.9}, {"id": "report-9",
         "lease": "fd61a03af4f77d870fc21e05e7e80678"}]}, 200,
        {"jobs": [{"id": "report-8", "expires_at": "2027-01-15T08:05:00.000Z", "cancel_requested": False}, {"id": "report-9",
         "expires_at": "2027-01-15T08:05:00.000Z", "cancel_requested": False}]}),
    Example("one succeeded, one failed for good", "POST", "/batch/conclude", "/batch/conclude",
        {"jobs": [{"id": "report-8", "lease": "60303ae22b998861bce3b28f33eec1be", "outcome": "succeeded"}, {"id": "report-9",
         "lease": "fd61a03af4f77d870fc21e05e7e80678", "outcome": "failed", "error": "no data for 2027-03", "retry": False}]}, 200,
        {"jobs": [{"id": "report-8", "status": "concluded", "outcome": "succeeded", "attempts": 1, "run_at": None}, {"id": "report-9",
         "status": "concluded", "outcome": "failed", "attempts": 1, "run_at": None}]}),
    Example("what failed", "GET", "/jobs", "/jobs?queue=reports&outcome=failed", None, 200,
        {"jobs": [{"id": "report-9", "number": 3, "queue": "reports", "type": None, "description": None, "priority": 5,
         "status": "concluded",
         "outcome": "failed", "attempts": 1, "max_attempts": None, "created_at": "2027-01-15T08:00:00.000Z", "run_at": None,
         "expires_at": None, "started_at": "2027-01-15T08:00:00.000Z", "concluded_at": "2027-01-15T08:00:00.000Z",
         "lease_expires_at": None, "worker": "w-1", "progress": None, "message": None, "cancel_requested": False,
         "error": "no data for 2027-03", "key": None}], "cursor": None}),
    Example("one failed job", "POST", "/queues/{name}/retry", "/queues/reports/retry", None, 200,
        {"queue": "reports", "retried": 1}),
    Example("a queued job", "POST", "/jobs/{id}/cancel", "/jobs/report-9/cancel", None, 200,
        {"id": "report-9", "number": 3, "queue": "reports", "type": None, "description": None, "priority": 5, "status": "concluded",
         "outcome": "cancelled", "attempts": 0, "max_attempts": None, "created_at": "2027-01-15T08:00:00.000Z",
         "run_at": "2027-01-15T08:00:00.000Z", "expires_at": None, "started_at": None, "concluded_at": "2027-01-15T08:00:00.000Z",
         "lease_expires_at": None, "worker": None, "progress": None, "message": None, "cancel_requested": False, "error": None,
         "key": None}),
    Example("a cancelled job", "POST", "/jobs/{id}/retry", "/jobs/report-9/retry", None, 200,
        {"id": "report-9", "number": 3, "queue": "reports", "type": None, "description": None, "priority": 5, "status": "queued",
         "outcome": None,
         "attempts": 0, "max_attempts": None, "created_at": "2027-01-15T08:00:00.000Z",
         "run_at": "2027-01-15T08:00:00.000Z", "expires_at": None, "started_at": None, "concluded_at": None, "lease_expires_at": None,
         "worker": None, "progress": None, "message": None, "cancel_requested": False, "error": None, "key": None}),
    Example("one waiting job", "POST", "/queues/{name}/purge", "/queues/reports/purge", None, 200,
        {"queue": "reports", "purged": 1}),
    Example("a policy", "PUT", "/queues/{name}", "/queues/reports",
        {"lease_seconds": 60, "max_attempts": 3, "backoff": {"base": 5, "cap": 600}, "max_jobs": 1000}, 200,
        {"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0, "cap": 600.0},
         "max_jobs": 1000, "paused": False, "concurrency": None, "rate": None, "per_key": None,
         "fair": False, "weights": {}},
         "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0, "oldest_queued_at": None,
         "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None,
         "totals": {"enqueued": 3, "dequeued": 4, "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0,
         "retried": 2}}),
    Example("paused", "POST", "/queues/{name}/pause", "/queues/reports/pause", None, 200,
        {"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0, "cap": 600.0},
         "max_jobs": 1000, "paused": True, "concurrency": None, "rate": None, "per_key": None,
         "fair": False, "weights": {}},
         "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0, "oldest_queued_at": None,
         "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None,
         "totals": {"enqueued": 3, "dequeued": 4, "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0,
         "retried": 2}}),
    Example("resumed", "POST", "/queues/{name}/resume", "/queues/reports/resume", None, 200,
        {"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0, "cap": 600.0},
         "max_jobs": 1000, "paused": False, "concurrency": None, "rate": None, "per_key": None,
         "fair": False, "weights": {}},
         "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0, "oldest_queued_at": None,
         "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None,
         "totals": {"enqueued": 3, "dequeued": 4, "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0,
         "retried": 2}}),
    Example("two limits", "PATCH", "/queues/{name}", "/queues/reports",
        {"rate": {"limit": 100, "per": 60}, "per_key": {"order": "fifo"}}, 200,
        {"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0, "cap": 600.0},
         "max_jobs": 1000, "paused": False, "concurrency": None, "rate": {"limit": 100, "per": 60.0, "burst": 1},
         "per_key": {"order": "fifo", "concurrency": None, "rate": None, "max_jobs": None}, "fair": False, "weights": {}},
         "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0, "oldest_queued_at": None,
         "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None,
         "totals": {"enqueued": 3, "dequeued": 4, "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0,
         "retried": 2}}),
    Example("a paused key", "POST", "/queues/{name}/keys/{key}/pause", "/queues/reports/keys/acme/pause", None, 200,
        {"key": "acme", "queued": 0, "scheduled": 0, "in_progress": 0, "block": "paused", "paused": True, "holder": None, "next_at": None}),
    Example("one key", "GET", "/queues/{name}/keys", "/queues/reports/keys", None, 200,
        {"keys": [{"key": "acme", "queued": 0, "scheduled": 0, "in_progress": 0, "block": "paused", "paused": True, "holder": None,
         "next_at": None}], "cursor": None}),
    Example("a resumed key", "POST", "/queues/{name}/keys/{key}/resume", "/queues/reports/keys/acme/resume", None, 200,
        {"key": "acme", "queued": 0, "scheduled": 0, "in_progress": 0, "block": None, "paused": False, "holder": None, "next_at": None}),
    Example("no limits", "PATCH", "/queues/{name}", "/queues/reports",
        {"rate": None, "per_key": None}, 200,
        {"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0, "cap": 600.0},
         "max_jobs": 1000, "paused": False, "concurrency": None, "rate": None, "per_key": None, "fair": False, "weights": {}},
         "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0, "oldest_queued_at": None,
         "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None,
         "totals": {"enqueued": 3, "dequeued": 4, "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0,
         "retried": 2}}),
    Example("a queue", "GET", "/queues/{name}", "/queues/reports", None, 200,
        {"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0, "cap": 600.0},
         "max_jobs": 1000, "paused": False, "concurrency": None, "rate": None, "per_key": None,
         "fair": False, "weights": {}},
         "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0, "oldest_queued_at": None,
         "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None,
         "totals": {"enqueued": 3, "dequeued": 4, "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0,
         "retried": 2}}),
    Example("one queue", "GET", "/queues", "/queues", None, 200,
        {"queues": [{"name": "reports", "policy": {"lease_seconds": 60.0, "max_attempts": 3, "backoff": {"base": 5.0, "factor": 2.0,
         "cap": 600.0}, "max_jobs": 1000, "paused": False, "concurrency": None, "rate": None, "per_key": None,
         "fair": False, "weights": {}}, "scheduled": 0, "queued": 0, "in_progress": 0, "waiters": 0,
         "oldest_queued_at": None, "held": 0, "held_by": {}, "keys": 0, "rate_next_at": None, "totals": {"enqueued": 3, "dequeued": 4,
         "redelivered": 0, "succeeded": 2, "failed": 1, "cancelled": 2, "expired": 0, "retried": 2}}], "cursor": None}),
    Example("deleted", "DELETE", "/queues/{name}", "/queues/reports", None, 204,
        None),
    Example("nobody is asked for one", "GET", "/token", "/token", None, 200,
        {"name": None, "scopes": ["enqueue", "dequeue", "read", "admin"], "queues": ["*"]}),
    Example("a server by itself", "GET", "/stats", "/stats", None, 200,
        {"draining": False, "unavailable": None, "held": {"jobs_live": 0, "payload_bytes": 0, "queues": 0, "waiters": 0, "listeners": 0,
         "leases": 0}, "storage": None, "cluster": None}),
    Example("alive", "GET", "/healthz", "/healthz", None, 200,
        {"status": "ok"}),
    Example("ready", "GET", "/readyz", "/readyz", None, 200,
        {"status": "ready"}),
)
# fmt: on

STREAM = """retry: 2000
id: 5f0c2a91-6

id: 5f0c2a91-7
event: extended
data: {"at":"2027-01-15T08:00:00.000Z","queue":"reports","id":"report-7","number":1,"type":"pdf","priority":5,"status":"in_progress",\
"outcome":null,"attempts":1,"run_at":null,"lease_expires_at":"2027-01-15T08:01:00.000Z","worker":"w-1","progress":0.5,\
"message":"drawing page 2 of 4","cancel_requested":false,"key":null}

id: 5f0c2a91-8
event: queue_paused
data: {"at":"2027-01-15T08:00:00.000Z","queue":"reports","policy":{"lease_seconds":60.0,"max_attempts":3,\
"backoff":{"base":5.0,"factor":2.0,"cap":600.0},"max_jobs":1000,"paused":true,"concurrency":null,\
"rate":null,"per_key":null,"fair":false,"weights":{}}}

"""
"""What a listener of GET /events may read; tests/api/test_events.py compares its fields with true ones."""
