"""What the types do not say: each field's meaning, unit and bounds, and what an operation does beyond its summary.

The OpenAPI document is made from this, and docs/protocol.md is checked against it. A field has one meaning wherever it occurs, so most are
found by their name; if a type uses a name differently, `Type.name` takes precedence. Bounds are the server's own, from its `Limits`.
"""

from __future__ import annotations

from typing import Any

from jobqueue.api.describe import reference_bulk, reference_groups, reference_queues, reference_schedules, reference_unique
from jobqueue.api.describe.reference_server import server_notes
from jobqueue.joblog import LINE_CHARS_MAX, LINES_MAX
from jobqueue.limits import JSON_DEPTH_MAX, NAME, Limits
from jobqueue.model import PRIORITIES

Notes = dict[str, dict[str, Any]]
"""JSON Schema keywords by field."""


def _span(text: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"description": text, "minimum": low, "maximum": high, **more}


def _lease(text: str, limits: Limits) -> dict[str, Any]:
    bounds = f"{limits.lease_seconds_min:g} to {limits.lease_seconds_max:g}, or 0 for a lease that ends at once"
    return _span(f"{text} {bounds}.", 0, limits.lease_seconds_max)


def _name(text: str) -> dict[str, Any]:
    return {"description": text, "pattern": f"^{NAME.pattern}$"}


def _text(text: str, low: int, high: int, *, lines: bool = False) -> dict[str, Any]:
    # The same as limits.CONTROL and CONTROL_BUT_LINES, in JSON Schema's regular expressions; JSON Schema texts contain no surrogates.
    controls = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f" if lines else r"\u0000-\u001f\u007f-\u009f"
    return {"description": text, "minLength": low, "maxLength": high, "pattern": f"^[^{controls}]*$"}


def _time(text: str) -> dict[str, Any]:
    return {"description": f"{text} RFC 3339, UTC, milliseconds.", "format": "date-time"}


def notes(limits: Limits) -> Notes:
    """The notes on the fields of requests and answers."""
    parts = (
        _asked(limits),
        _flow(limits),
        _answered(),
        _listing(limits),
        _logs(limits),
        _workers(),
        _renamed(limits),
        reference_bulk.notes(limits),
        reference_queues.notes(limits),
        reference_schedules.notes(limits),
        reference_unique.notes(limits),
        reference_groups.notes(limits),
    )
    return {field: note for part in parts for field, note in part.items()}


def _asked(limits: Limits) -> Notes:
    """Fields that clients send."""
    size = f"at most {limits.payload_bytes_max} bytes and nested at most {JSON_DEPTH_MAX} deep"
    return {
        "payload": {"description": f"The data of the job: any JSON, {size}. It is stored and delivered byte for byte."},
        "id": _text("The job's id; without one the server makes a UUIDv7. No control characters.", 1, limits.id_chars_max),
        "queue": _name("The queue's name. The first job creates the queue."),
        "type": _text("What kind of job it is. The server only stores it and filters by it.", 1, limits.type_chars_max),
        "description": _text(
            "For people. Tabs and line ends are allowed, other control characters are not.", 0, limits.text_chars_max, lines=True
        ),
        "priority": _span("0 is the most urgent.", 0, PRIORITIES - 1),
        "delay": _span("Seconds to wait before the job is queued. Cannot be combined with run_at.", 0, limits.delay_seconds_max),
        "run_at": {
            "description": f"Queue the job at this time: RFC 3339 with an offset, at most {limits.delay_seconds_max:.0f} seconds ahead. A "
            "time in the past means now, and is shown as now. Cannot be combined with delay."
        },
        "expires_in": _span(
            "Seconds after which the job is concluded as expired, if no worker has it then.", 0.001, limits.expires_seconds_max
        ),
        "max_attempts": _span("Attempts before a failure is final; without it, the queue's policy applies.", 1, limits.max_attempts_max),
        "backoff": {"description": "How long to wait before the next attempt; without it, the queue's policy applies."},
        "lease_seconds": _lease("Length of the lease in seconds; without it, the job's own, or that of the queue's policy.", limits),
        "base": _span("The longest wait before the second attempt, in seconds.", 0, limits.delay_seconds_max),
        "factor": _span("How many times longer each further wait can be.", 1, 100),
        "cap": _span("The longest wait, in seconds.", 0, limits.delay_seconds_max),
        "wait": _span(f"Seconds to wait for a job; {limits.wait_seconds_default:g} if not given.", 0, limits.wait_seconds_max),
        "worker": _text("The worker's name; shown while the job is in progress.", 1, limits.id_chars_max),
        "attempt_id": _text(
            "A repeated dequeue with the same attempt_id, worker and token returns the same jobs while their leases are live.",
            1,
            limits.id_chars_max,
        ),
        "limit": _span(
            "The most jobs to return; fewer, but at least one, if they would be too large for one answer.", 1, limits.batch_jobs_max
        ),
        "lease": {"description": "The lease token that the dequeue returned."},
        "outcome": {"description": "How the job ended; null while it is live."},
        "result": {"description": f"The result of a succeeded job: any JSON, {size}."},
        "error": {
            "description": f"Why the job failed: any JSON, {size}. A job shows the error of its last failed attempt. In a failed item of "
            "a batch: the problem."
        },
        "retry": {"description": "false makes a failure final."},
        "traceback": {
            "description": f"Where the code failed. If it has more than {limits.past_traceback_bytes_max} bytes, the middle is left out."
        },
        "late": {
            "description": "true: a success is accepted even after the lease has run out, as long as the job waits and has not been "
            "handed out again since."
        },
        "retry_delay": _span("Seconds until the next attempt; without it, the backoff applies.", 0, limits.delay_seconds_max),
        "progress": _span("How much is done.", 0, 1),
        "message": _text("A progress message, for people.", 0, limits.text_chars_max, lines=True),
        "max_jobs": _span("The most live jobs in this queue; null: only the server's bound applies.", 1, limits.jobs_max),
        "paused": {"description": "true: jobs are accepted but not handed out."},
        "traceparent": {
            "description": "The trace the job belongs to (W3C Trace Context), passed on to its worker; without it, the request's header "
            "traceparent.",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        },
        "key": _text(
            "What the job is about, such as an account. Its queue can order and limit jobs by key, and share capacity between keys. No "
            "control characters.",
            1,
            limits.key_chars_max,
        ),
        "tags": {
            "description": f"Words to find the job by, each of 1 to {limits.tag_chars_max} characters, without repetition.",
            "maxItems": limits.tags_max,
        },
        "cursor": {"description": "The cursor of the page before."},
        "status": {"description": "The job's status."},
    }


def _flow(limits: Limits) -> Notes:
    """Policy fields about keys and limits."""
    return {
        "concurrency": _span("The most jobs of the queue in progress at the same time; null for no limit.", 1, 1_000_000),
        "rate": {"description": "How many jobs of the queue are handed out in a period; null for no limit."},
        "per": _span("The period in seconds in which `limit` jobs are handed out, evenly spread.", 1, 86_400),
        "burst": {"description": "How many can be handed out at once after an idle time, up to `limit`.", "minimum": 1},
        "per_key": {"description": "The rules for each key of the queue; null for none."},
        "order": {
            "description": "The rule for jobs of the same key. `none`: no rule. `fifo`: they run one after another, in order. `halt`: the "
            "same, and a job that fails for good also stops the others of its key."
        },
        "fair": {"description": "true: within a priority, the key with the fewest jobs in progress, relative to its weight, goes first."},
        "weights": {
            "description": f"The weights of keys in a fair queue, 0.01 to 100, for at most {limits.weights_max} keys; other keys have 1.",
        },
    }


def _answered() -> Notes:
    """Fields that only the server sends."""
    return {
        "created": {
            "description": "false if a job with this id and content existed already, or if another job holds the unique key; that job is "
            "returned."
        },
        "number": {"description": "The job's number in the order of creation on the server, from 1; it is the ID in the dialect classic."},
        "attempts": {"description": "Attempts so far, the one in progress included."},
        "created_at": _time("When the job was enqueued."),
        "expires_at": _time("When the job or the lease expires."),
        "started_at": _time("When the attempt in progress, or the last one, began."),
        "concluded_at": _time("When the job was concluded."),
        "lease_expires_at": _time("When the live lease ends."),
        "oldest_queued_at": _time("When the oldest queued job was created, fell due or was retried; null if no job is queued."),
        "cancel_requested": {"description": "true: the worker should stop. Whatever it reports, the job ends as cancelled."},
        "scheduled": {"description": "Jobs that wait for their time."},
        "queued": {"description": "Jobs that wait for a worker."},
        "in_progress": {"description": "Jobs under a lease."},
        "waiters": {"description": "Dequeues that wait on this queue."},
        "waiting_for": {"description": "All that keeps the job from being in progress; empty if it is in progress or has ended."},
        "reason": {
            "description": "`time`: it is scheduled until then; `unique`: `job` holds its unique key; `jobs`: it is after jobs that have "
            "not ended as required; `paused`: its queue is paused; `key`: its key is held back, see `block`; `concurrency`: the limit of "
            "jobs in progress is reached, for the queue or for `key`; `rate`: the same for the rate; `line`: about `ahead` jobs go before "
            "it; `workers`: no worker waits for jobs of its queue."
        },
        "until": _time(
            "When this ends, as far as it is known: the job's time, the end of the lease of the job before it, or the time at which the "
            "rate allows the next job."
        ),
        "block": {
            "description": "What holds the key back: `order`: an earlier job; `halted`: a failed job; `paused`: the key is paused; "
            "`concurrency` or `rate`: that limit of the key."
        },
        "job": {"description": "The job that the key waits for, or that holds the unique key."},
        "used": {"description": "Jobs in progress."},
        "total": {"description": "The limit."},
        "ahead": {"description": "About how many queued jobs go before it."},
        "limited": {
            "description": "true: other jobs may have to wait because of this lease. Take such a job only when you can start it, and run "
            "the jobs of a key one after another."
        },
        "halts": {
            "description": "true: the job failed and halts its key: no other job of the key is handed out until this one is retried or "
            "cancelled, or the key is resumed. Absent otherwise."
        },
        "held": {"description": "Queued jobs that a limit or their key holds back now."},
        "held_by": {"description": "The same, by reason."},
        "rate_next_at": _time("When the queue's rate allows the next job; null if one can go now."),
        "holder": {"description": "The job that the key waits for; null if none."},
        "next_at": _time("When the key's rate allows the next job; null if one can go now."),
        "totals": {"description": "Counts since the queue was created, kept over restarts if jobs are stored. They only grow."},
        "policy": {"description": "The queue's rules; a job's own fields take precedence."},
        "purged": {"description": "How many jobs were cancelled."},
        "all": {"description": "true: cancel every live job, including jobs in progress."},
        "force": {"description": "true: delete the queue together with its live jobs, which are cancelled."},
        "retried": {"description": "How many jobs were queued again."},
        "dead_letter": {"description": "The queue that a job moves to when it has failed for good; null: such a job is concluded."},
        "keep_succeeded": {"description": "How long history keeps succeeded jobs, and how many; null: only the server's bounds."},
        "keep_failed": {
            "description": "How long history keeps jobs that failed, were cancelled or expired, and how many, for each outcome "
            "separately; null: only the server's bounds apply. A job that halts its key is kept."
        },
        "origin": {"description": "Where a dead letter comes from; absent for other jobs."},
        "code": {"description": "What went wrong, for programs. It never changes."},
        "detail": {"description": "What went wrong, for people."},
        "field": {"description": "The invalid field, if there is one."},
        "title": {"description": "What the code means."},
        "max": {"description": "If `field` is `wait`: the longest wait that the server allows, in seconds."},
        "unconfirmed": {
            "description": "true: the change may have been made, or be made later. Repeat the request to find out. Without it, nothing was "
            "changed, unless the code is internal_error."
        },
    }


def _listing(limits: Limits) -> Notes:
    """GET /jobs."""
    return {
        "ListQuery.key": {"description": "Only jobs of this key."},
        "ListQuery.tag": {"description": "Only jobs that have this tag."},
        "ListQuery.worker": {"description": "Only jobs that this worker has, or had last."},
        "ListQuery.error": {"description": "Only jobs whose last error contains this in its JSON; case-sensitive."},
        "ListQuery.created_after": {"description": "Only jobs created at this time or later: RFC 3339 with an offset."},
        "ListQuery.created_before": {"description": "Only jobs created before this time: RFC 3339 with an offset."},
        "ListQuery.waiting_for": {"description": "true: each job has its `waiting_for`."},
        "ListQuery.queue": {"description": "Only jobs of this queue."},
        "ListQuery.type": {"description": "Only jobs of this type."},
        "ListQuery.status": {"description": "Only jobs of this status."},
        "ListQuery.outcome": {"description": "Only jobs with this outcome."},
        "ListQuery.limit": _span(f"Jobs on a page; {limits.page_jobs_default} if not given.", 1, limits.page_jobs_max),
    }


def _workers() -> Notes:
    """Fields that are about workers."""
    started = "When the worker was started"
    body = {
        "host": _text(
            "The host that the worker runs on. If any of `host`, `concurrency`, `version` and `started` is given, `worker` is required, "
            "and the worker is listed.",
            1,
            255,
        ),
        "concurrency": _span("How many jobs the worker runs at the same time.", 1, 1_000_000),
        "version": _text("The version of the worker's program.", 1, 64),
        "started": {"description": f"{started}, RFC 3339 with an offset, from 1970 on."},
    }
    return {
        **{f"{kind}.{name}": said for kind in ("DequeueBody", "BatchDequeueBody") for name, said in body.items()},
        "WorkersQuery.queue": _name("Only workers that ask for this queue."),
        "WorkerView.state": {
            "description": "`busy`: the worker has a job. `idle`: it has none. `silent`: it has none, and has not asked for one for a "
            "minute."
        },
        "quiet": {"description": "true: the worker is given no jobs until it is resumed."},
        "leases": {"description": "How many leases the worker holds."},
        "WorkerView.queues": {"description": "The queues that its last dequeue asked for."},
        "WorkerView.host": {"description": "The host that it sent; null if none."},
        "WorkerView.concurrency": {"description": "The concurrency that it sent; null if none."},
        "WorkerView.version": {"description": "The version that it sent; null if none."},
        "WorkerView.started": _time(f"{started}; null if it did not send this."),
        "seen_at": _time("When its last dequeue arrived or ended."),
        "instances": {"description": "How many workers used this name in the last minute, told apart by their host and start."},
        "workers": {"description": "The workers, by name."},
    }


def _logs(limits: Limits) -> Notes:
    """Fields of jobs' logs."""
    line = f"at most {LINE_CHARS_MAX} characters, tabs and line ends allowed"
    log = {
        "description": f"Lines for the job's log, each an object or just its text, {line}. They are left out if the server has no room.",
        "maxItems": LINES_MAX,
        "default": [],
    }
    before = "How many lines were sent under this lease before these. The server ignores lines that it already has."
    return {
        "LogBody.lines": {"description": f"Lines in order, each an object or just its text, {line}.", "maxItems": LINES_MAX},
        "LogBody.offset": {"description": before, "minimum": 0},
        "log": log,
        "log_offset": {"description": before, "minimum": 0},
        "text": _text("The text. It can contain line breaks.", 0, LINE_CHARS_MAX, lines=True),
        "level": {"description": "The level of the line."},
        "time": _time("When the line was logged."),
        "LineBody.time": {
            "description": "When it was logged, RFC 3339 with an offset; without it, the time at which the server receives it."
        },
        "LogQuery.after": {"description": "Only lines after the line with this number; 0 for all.", "minimum": 0},
        "LogQuery.limit": _span("The most lines to return.", 1, LINES_MAX),
        "LogQuery.wait": _span(
            "Seconds to wait for a line after the line `after`, or for the job's conclusion; 0 if not given.", 0, limits.wait_seconds_max
        ),
        "LogStateView.lines": {"description": "How many lines there have been in total."},
        "LogView.lines": {"description": "The lines, in order."},
        "LogView.after": {"description": "The number of the last line returned. Send it as `after` in the next request."},
        "dropped": {"description": "How many of the oldest lines were dropped because the log was full."},
        "ended": {"description": "true: the job is concluded, and these are the last lines."},
        "LineView.number": {"description": "The number of the line in the job's log, from 1."},
        "attempt": {"description": "The attempt that logged the line, from 1."},
    }


def _dead_letters() -> Notes:
    return {
        "OriginView.queue": {"description": "The queue in which it failed for good."},
        "OriginView.at": _time("When it failed there."),
        "OriginView.reason": {"description": "How its last attempt there ended."},
        "OriginView.attempts": {"description": "Attempts until then, in all queues."},
    }


def _kept() -> Notes:
    """What a queue keeps of its concluded jobs."""
    seconds, count = (
        "How many seconds they are kept after they end; null: only the server's bounds apply.",
        "How many of the newest are kept; null: only the server's bounds apply.",
    )
    return {
        "KeepBody.seconds": _span(seconds, 1, 315_360_000),
        "KeepBody.count": _span(count, 0, 1_000_000_000),
        "Keep.seconds": {"description": seconds},
        "Keep.count": {"description": count},
    }


def _renamed(limits: Limits) -> Notes:
    """Names that have another meaning in one type."""
    queue = {"description": f"The queue, or up to {limits.dequeue_queues_max} in order of preference."}
    return {
        "EditBody.expires_in": {"description": "Seconds from now until the job expires; null for never."},
        "EditBody.delay": _span("Seconds from now until the job is queued; 0 queues it at once.", 0, limits.delay_seconds_max),
        "EnqueueBody.tags": {**_asked(limits)["tags"], "default": []},
        "DequeueBody.queue": queue,
        "BatchDequeueBody.queue": queue,
        "ExtendBody.lease_seconds": _lease("How long the lease lasts from now, in seconds; without it, its original length.", limits),
        "ExtendItem.lease_seconds": _lease("How long the lease lasts from now, in seconds; without it, its original length.", limits),
        "ReleaseBody.delay": _span("Seconds to wait before the job is queued again, in its old place.", 0, limits.delay_seconds_max),
        "ReleaseItem.delay": _span("Seconds to wait before the job is queued again, in its old place.", 0, limits.delay_seconds_max),
        **_kept(),
        "PolicyBody.lease_seconds": _lease(f"Length of a lease in seconds; {limits.lease_seconds_default:g} if not given.", limits),
        "PolicyBody.max_attempts": _span(
            f"Attempts before a failure is final; null for no bound; {limits.max_attempts_default} if not given.",
            1,
            limits.max_attempts_max,
        ),
        "PolicyBody.backoff": {"description": "How long to wait before the next attempt."},
        "QueueView.keys": {"description": "How many keys the queue counts; 0 if its policy has no rules about keys."},
        "KeyView.key": {"description": "The key."},
        "KeyView.paused": {"description": "Whether the key is paused."},
        "ReasonView.key": {"description": "The job's key, if the reason is about its key. With `unique`: the unique key."},
        "ReasonView.worker": {"description": "The worker that has the job that the key waits for, or that holds the unique key."},
        "RateBody.limit": _span("Jobs in `per` seconds.", 1, 1_000_000),
        "Rate.limit": _span("Jobs in `per` seconds.", 1, 1_000_000),
        "PerKeyBody.concurrency": _span("The most jobs of a key in progress; null for no limit; 1 if there is an order.", 1, 10_000),
        "PerKey.concurrency": _span("The most jobs of a key in progress; null for no limit; 1 if there is an order.", 1, 10_000),
        "PerKeyBody.rate": {"description": "How many jobs of a key are handed out in a period; null for no limit."},
        "PerKey.rate": {"description": "How many jobs of a key are handed out in a period; null for no limit."},
        "PerKeyBody.max_jobs": _span("The most live jobs of a key; null: only the queue's bound applies.", 1, limits.jobs_max),
        "PerKey.max_jobs": _span("The most live jobs of a key; null: only the queue's bound applies.", 1, limits.jobs_max),
        "PolicyPatch.lease_seconds": _lease("Length of a lease in seconds.", limits),
        "PolicyPatch.max_attempts": _span("Attempts before a failure is final; null for no bound.", 1, limits.max_attempts_max),
        "PolicyPatch.backoff": {"description": "How long to wait before the next attempt."},
        "KeysQuery.limit": _span(f"Keys on a page; {limits.page_jobs_default} if not given.", 1, limits.page_jobs_max),
        "KeysQuery.cursor": {"description": "The `cursor` of the page before."},
        "KeysView.cursor": {"description": "The cursor of the next page; null at the end."},
        "KeysView.keys": {"description": "The keys."},
        "WaitQuery.wait": _span("Seconds to wait for the job's conclusion; 0 answers at once.", 0, limits.wait_seconds_max),
        "QueuesQuery.limit": _span(f"Queues on a page; {limits.page_queues_max} if not given.", 1, limits.page_queues_max),
        "QueuesQuery.cursor": {"description": "The `cursor` of the page before. Without it, the first page."},
        **reference_queues.listing(),
        "QueuesView.cursor": {
            "description": "The cursor of the next page; null at the end. A page can be short and still have a next one."
        },
        "EventsQuery.queue": {"description": "Only events of these queues and their jobs."},
        "EventsQuery.type": {"description": "Only events of jobs of these types; then there are no events of queues."},
        "EventsQuery.event": {"description": "Only these events."},
        "ConcludeBody.outcome": {"description": "How the attempt ended."},
        "ConcludeItem.outcome": {"description": "How the attempt ended."},
        "TokenView.name": {"description": "The token's name in logs; null if the server requires no token."},
        "TokenView.scopes": {"description": "Its scopes. admin includes the others, which are then listed too."},
        "TokenView.queues": {"description": "Patterns of the queue names that it gives access to, as in a shell; `*` matches all."},
        **server_notes(),
        **_dead_letters(),
        "LeaseView.token": {"description": "Proves that you hold the job; 128 random bits."},
        "JobView.run_at": _time("When a delayed job or its next attempt was or will be due, or when it was retried."),
        "JobView.past": {"description": f"The last {limits.past_attempts_max} attempts that failed or whose lease ran out, oldest first."},
        "AttemptView.attempt": {"description": "Which attempt it was, from 1."},
        "AttemptView.started_at": _time("When it was handed out."),
        "AttemptView.ended_at": _time("When it failed or its lease ran out."),
        "AttemptView.ended": {"description": "How it ended: its worker reported a failure, or its lease ran out."},
        "AttemptView.error": {
            "description": f"The error that its worker reported; null if there was none, or more than {limits.past_error_bytes_max} bytes."
        },
        "EnqueuedView.run_at": _time("When a delayed job is due."),
        "ConcludedView.run_at": _time("When the next attempt is due, if the failure is retried; otherwise the job's `run_at`."),
        "Problem.type": {"description": "urn:jobqueue:problem: and the code."},
        "Problem.status": {"description": "The HTTP status, here also for an item of a batch."},
    }


OPERATIONS: dict[str, str] = {
    "POST /jobs/enqueue": "A repeated request with the same id and content is answered with the existing job, whatever its status. If "
    "another job holds the unique key, the answer can be that job, with its own id.",
    "POST /jobs/dequeue": "Waits until there is a job or the wait is over. Send the parameters in the body or in the query, not both.",
    "POST /jobs/{id}/conclude": "A failure is retried after a backoff while attempts are left; the answer has the job's new state. A "
    "repeated request with the same lease and content gets the same answer. With `late`, a success can conclude a job that waits.",
    "POST /jobs/{id}/extend": "A heartbeat. It can report progress, and its answer can ask the worker to stop. With 0 seconds the lease "
    "ends at once, as if it had run out: the attempt counts.",
    "POST /jobs/{id}/log": "If the log gets longer than 64 KiB, its oldest lines are dropped. The log is kept over attempts, until "
    "history forgets the job. An extend and a conclude can send lines too.",
    "GET /jobs/{id}/log": "With a wait, the request is held until there is a line after the line `after`, the job is concluded, or the "
    "wait is over. Repeat it with the `after` of the answer, until `ended` is true.",
    "GET /workers": "Workers whose dequeues have more than a name. A worker that has not asked for jobs for 60 s is `silent`, and is "
    "dropped from the list 900 s later. The list is kept in memory: after a restart, a worker is listed again after its next dequeue.",
    "POST /workers/{name}/quiet": "Its waiting dequeues, and all later ones, are answered at once without jobs, with 204 or an empty "
    "list, and with the headers `Jobqueue-Quiet: true` and `Retry-After`. The worker can finish the jobs that it has. The quiet state "
    "survives a restart of the server.",
    "POST /workers/{name}/resume": "Also 404 for a worker that is not listed now; if its name was quiet, it no longer is.",
    "POST /jobs/{id}/release": "The attempt does not count. The job goes to its old place, ahead of all jobs that were never handed out; "
    "with a delay, it does so when the delay is over.",
    "POST /jobs/{id}/cancel": "A job that waits is concluded at once. For a job in progress, the answer to the worker's next extend asks "
    "it to stop. A failed job that halts its key stays failed, and the key continues.",
    "PATCH /jobs/{id}": "Fields that are left out stay as they are. With a new queue or priority, the job goes to the back. A repeated "
    "enqueue of the job is no longer compared.",
    "POST /jobs/{id}/retry": "The job goes to the back of its queue, with no attempts, no past attempts and no expiry; its run_at is now. "
    "A job that halts its key goes to its old place.",
    "GET /jobs/{id}": "With a wait, waits until the job is concluded or the wait is over.",
    "GET /jobs": "A page can be short, or empty, and still have a cursor; the list ends when the cursor is null.",
    "POST /batch/enqueue": "Each item is the body of the operation on one job. A failed item has its error and does not affect the others.",
    "POST /batch/dequeue": "Answers as soon as there is a job, with all that are available then.",
    "POST /batch/conclude": "Each item is the body of the operation on one job, with the job's id.",
    "POST /batch/extend": "Each item is the body of the operation on one job, with the job's id.",
    "POST /batch/release": "Each item is the body of the operation on one job, with the job's id.",
    "PUT /queues/{name}": "Sets the whole policy: fields that are left out get the server's default.",
    "PATCH /queues/{name}": "Fields that are left out stay as they are. null removes a limit, if the field allows it.",
    "GET /queues/{name}/keys": "Only keys with live jobs, and keys that are paused, halted or under a rate. The list is empty if the "
    "policy has no rules about keys and no key is paused. Each page shows its own moment.",
    "POST /queues/{name}/keys/{key}/pause": "Jobs of the key are still accepted. The key can be paused before it has jobs.",
    "POST /queues/{name}/keys/{key}/resume": "A key that a failed job halts also continues, and that job stays failed.",
    "DELETE /queues/{name}": "Only a queue without live jobs; or, with `force`, together with its live jobs, which are cancelled as by a "
    "purge with `all`. Dequeues that wait only for it are then answered without a job. Its concluded jobs stay in history.",
    "POST /queues/{name}/pause": "Jobs are still accepted; workers wait.",
    "POST /queues/{name}/purge": "Cancels every job that was queued or scheduled when the request arrived; jobs in progress continue. "
    "With `all`, those are cancelled too, keys that failed jobs halt continue, and unique keys that are held for a time become free.",
    "POST /queues/{name}/retry": "Oldest first, until there is no more room.",
    "GET /events": "Server-sent events, as in the HTML standard. With Last-Event-ID, the stream continues after that event; if the server "
    "no longer knows it, the first event is `reset`: read again what you show. After 15 s without events, the server sends a comment line.",
    "GET /stats": "Each server has its own view, also while there is no owner. Not allowed for a token that is limited to some queues.",
    **reference_schedules.OPERATIONS,
    **reference_groups.OPERATIONS,
    **reference_queues.OPERATIONS,
    "GET /metrics": "The Prometheus text format, or OpenMetrics when Accept asks for it.",
}
"""What an operation does beyond its summary."""
