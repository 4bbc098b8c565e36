"""What the types do not say: each field's meaning, unit and bounds, and what an operation does beyond its summary.

The OpenAPI document takes it from here, and docs/protocol.md is compared with that. A field has one meaning wherever it stands, so most are
found by their name; where a type uses a name otherwise, `Type.name` comes first. Bounds are the server's own, from its `Limits`.
"""

from __future__ import annotations

from typing import Any

from jobqueue.limits import JSON_DEPTH_MAX, NAME, Limits
from jobqueue.model import PRIORITIES

Notes = dict[str, dict[str, Any]]
"""JSON Schema keywords by field."""


def _span(text: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"description": text, "minimum": low, "maximum": high, **more}


def _name(text: str) -> dict[str, Any]:
    return {"description": text, "pattern": f"^{NAME.pattern}$"}


def _text(text: str, low: int, high: int, *, lines: bool = False) -> dict[str, Any]:
    # As limits.CONTROL and CONTROL_BUT_LINES, in the dialect of JSON Schema, whose texts hold no surrogates.
    controls = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f" if lines else r"\u0000-\u001f\u007f-\u009f"
    return {"description": text, "minLength": low, "maxLength": high, "pattern": f"^[^{controls}]*$"}


def _time(text: str) -> dict[str, Any]:
    return {"description": f"{text} RFC 3339, UTC, milliseconds.", "format": "date-time"}


def notes(limits: Limits) -> Notes:
    """What is to be said of the fields of requests and answers."""
    return {**_asked(limits), **_answered(), **_renamed(limits)}


def _asked(limits: Limits) -> Notes:
    """Fields that clients send."""
    lease = (limits.lease_seconds_min, limits.lease_seconds_max)
    size = f"at most {limits.payload_bytes_max} bytes and nested at most {JSON_DEPTH_MAX} deep"
    return {
        "payload": {"description": f"The work: any JSON, {size}; kept and handed out byte for byte."},
        "id": _text("The job's id; without one the server makes a UUIDv7. No control characters.", 1, limits.id_chars_max),
        "queue": _name("The queue's name. A queue is made by the first job."),
        "type": _text("What kind of work it is. The server only stores and filters by it.", 1, limits.type_chars_max),
        "description": _text(
            "For people. Tabs and line ends are allowed, other control characters are not.", 0, limits.text_chars_max, lines=True
        ),
        "priority": _span("0 is the most urgent.", 0, PRIORITIES - 1),
        "delay": _span("Seconds to wait before the job is queued. Excludes run_at.", 0, limits.delay_seconds_max),
        "run_at": {
            "description": f"Queue the job at this time: RFC 3339 with an offset, at most {limits.delay_seconds_max:.0f} seconds ahead; "
            "the past means now, and is shown as now. Excludes delay."
        },
        "expires_in": _span(
            "Seconds after which the job is concluded as expired if no worker holds it then.", 0.001, limits.expires_seconds_max
        ),
        "max_attempts": _span("Attempts before a failure is final; without it the queue's policy decides.", 1, limits.max_attempts_max),
        "backoff": {"description": "How long to wait before the next attempt; without it the queue's policy decides."},
        "lease_seconds": _span("Seconds the lease holds; without it the job's, else the queue's policy decides.", *lease),
        "base": _span("Seconds before the second attempt, at most.", 0, limits.delay_seconds_max),
        "factor": _span("How much longer each further wait may be.", 1, 100),
        "cap": _span("Seconds that no wait exceeds.", 0, limits.delay_seconds_max),
        "wait": _span(f"Seconds to wait for a job; {limits.wait_seconds_default:g} if not given.", 0, limits.wait_seconds_max),
        "worker": _text("Who takes the job; shown while it is in progress.", 1, limits.id_chars_max),
        "attempt_id": _text(
            "Repeating a dequeue with the same one, as the same worker with the same token, answers the same jobs while their leases live.",
            1,
            limits.id_chars_max,
        ),
        "limit": _span(
            "The most jobs to answer; fewer, at least one, where they would be too large for one answer.", 1, limits.batch_jobs_max
        ),
        "lease": {"description": "The token of the lease, as the dequeue answered it."},
        "outcome": {"description": "How the job ended, null while it is live."},
        "result": {"description": f"What a succeeded job came to: any JSON, {size}."},
        "error": {"description": f"Why a job failed: any JSON, {size}; of the last failure."},
        "retry": {"description": "false makes a failure final."},
        "retry_delay": _span(
            "Seconds until the next attempt after a failure; without it the backoff decides.", 0, limits.delay_seconds_max
        ),
        "progress": _span("How much is done.", 0, 1),
        "message": _text("What the worker is at, for people.", 0, limits.text_chars_max, lines=True),
        "max_jobs": _span("Live jobs this queue may hold; null for the server's bound alone.", 1, limits.jobs_max),
        "paused": {"description": "true hands out nothing and accepts everything."},
        "traceparent": {
            "description": "The trace the job belongs to (W3C Trace Context), handed on to its worker; without it, the request's header "
            "traceparent.",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        },
        "key": _text(
            "What the job is about: order, limits and fairness of its queue may be by key. No control characters.", 1, limits.key_chars_max
        ),
        "concurrency": _span("The most jobs of the queue that may be in progress; null for no limit.", 1, 1_000_000),
        "rate": {"description": "How many jobs of the queue may be handed out in a time; null for no limit."},
        "per": _span("Seconds in which `limit` jobs may be handed out, evenly.", 1, 86_400),
        "burst": {"description": "How many may be handed out at once after a time of rest, up to `limit`.", "minimum": 1},
        "per_key": {"description": "What holds for each key of the queue by itself; null for nothing."},
        "order": {
            "description": "What jobs of one key do to each other: `none`; `fifo`: one after the other, in order; `halt`: so too, and a "
            "job that fails for good stops its key."
        },
        "fair": {"description": "Of the keys of a priority, whether the one with the least in progress goes first, by its weight."},
        "weights": {
            "description": f"What keys may have beside the others of a fair queue, which have 1: 0.01 to 100, {limits.weights_max} keys.",
        },
        "cursor": {"description": "Where the next page begins: the cursor that the page before answered."},
        "status": {"description": "Where the job is in its life."},
    }


def _answered() -> Notes:
    """Fields that only the server sends."""
    return {
        "created": {"description": "false when a job of this id and content existed already."},
        "number": {"description": "The job's place in the order of creation over the whole server, from 1 on; classic's ID."},
        "attempts": {"description": "Attempts so far, the one in progress included."},
        "created_at": _time("When the job was enqueued."),
        "expires_at": _time("When the job expires, or the lease does."),
        "started_at": _time("When the attempt in progress, or the last one, began."),
        "concluded_at": _time("When the job was concluded."),
        "lease_expires_at": _time("When the live lease ends."),
        "oldest_queued_at": _time("When the oldest queued job was created, fell due or was retried; null with none."),
        "cancel_requested": {"description": "true asks the worker to stop: whatever it answers, the job ends as cancelled."},
        "scheduled": {"description": "Jobs that wait for their time."},
        "queued": {"description": "Jobs that wait for a worker."},
        "in_progress": {"description": "Jobs under a lease."},
        "waiters": {"description": "Held dequeues that wait on this queue."},
        "waiting_for": {"description": "All that keeps the job from being in progress now; empty for one that is, or has ended."},
        "reason": {
            "description": "`time`: until when; `paused`: its queue is; `key`: what keeps its key back; `concurrency`: of its queue, or of "
            "`key`; `rate`: likewise; `line`: how many go before it; `workers`: nobody waits for jobs of its queue."
        },
        "until": _time("When that ends, as far as it is known: the time, the lease of the job that is before it, the next slot."),
        "block": {
            "description": "What keeps a key back: `order`: a job that is before; `halted`: a job that failed; `paused`; `concurrency`; "
            "`rate`."
        },
        "job": {"description": "The job that the key waits for."},
        "used": {"description": "Jobs in progress."},
        "total": {"description": "How many may be."},
        "ahead": {"description": "Queued jobs that go before it, roughly."},
        "limited": {
            "description": "true: the lease takes something that other jobs may have to wait for; take no such job before you can begin, "
            "and run those of one key one after the other."
        },
        "halts": {
            "description": "true: the job failed, and no other of its key is handed out until it is retried, or given up by a cancel, or "
            "its key is resumed. Left out where that is not so."
        },
        "held": {"description": "Queued jobs that a limit or their key keeps back now."},
        "held_by": {"description": "The same by what keeps them back."},
        "rate_next_at": _time("When the queue's rate lets the next job go; null when one may go now."),
        "holder": {"description": "The job that the key waits for, null if none."},
        "next_at": _time("When the key's rate lets the next job go; null when one may go now."),
        "totals": {"description": "What happened since the queue was made or the server started; they only grow."},
        "policy": {"description": "What the queue does with jobs that do not say otherwise."},
        "purged": {"description": "Jobs cancelled."},
        "retried": {"description": "Jobs queued again."},
        "code": {"description": "What went wrong, for programs. It never changes."},
        "detail": {"description": "What went wrong, for people."},
        "field": {"description": "The field at fault, if one is."},
        "title": {"description": "What the code means."},
        "max": {"description": "Where `field` is `wait`: the longest that the server holds a request, in seconds."},
        "unconfirmed": {
            "description": "true: the change may have been made, or be made later. Repeat the request to find out. Without it, nothing was "
            "changed."
        },
    }


def _stats() -> Notes:
    """GET /stats."""
    said = {
        "StatsView.draining": "true while the server shuts down.",
        "StatsView.unavailable": "Why nobody can tell now what is held: no server owns the queue, say. null while one can.",
        "StatsView.held": "What is held over all queues; null while nobody can tell.",
        "StatsView.storage": "How the file or the store takes changes; null in memory, and while nobody can tell.",
        "StatsView.cluster": "How this server sees itself and the others on its store; null where there is one server.",
        "HeldStats.jobs_live": "Jobs that are not concluded.",
        "HeldStats.payload_bytes": "Bytes that these hold, texts included.",
        "HeldStats.queues": "Queues.",
        "HeldStats.waiters": "Requests held open: dequeues and waits for a result.",
        "HeldStats.listeners": "Listeners of /events.",
        "HeldStats.leases": "Live leases.",
        "CommitStats.failing": "true while changes cannot be stored.",
        "CommitStats.unwritten_bytes": "Bytes of changes that wait to be stored.",
        "CommitStats.commits": "Commits since the file was opened, or since the owner owns the queue.",
        "CommitStats.p50_seconds": "What half of these took at most; null before the first.",
        "CommitStats.p99_seconds": "What 99 of 100 of these took at most; null before the first.",
        "ClusterView.name": "This server.",
        "ClusterView.address": "Where the others reach this server.",
        "ClusterView.store": "The store, by its URL without a password.",
        "ClusterView.owner": "Which server owns the queue; null while none does, or its lease has passed.",
        "ClusterView.epoch": "How often the queue has been claimed.",
        "ClusterView.lease_left_seconds": "Seconds until another may claim the queue if the owner is not heard of again.",
        "ClusterView.standby": "The server that follows the owner and takes over at once; null while none does.",
        "ClusterView.problem": "Why this server would not own the queue: its clock is off, say. null while it would.",
        "ClusterView.lag": "What lies between this server and the others.",
        "ClusterView.members": "The servers that said in the last minute that they are there, this one included.",
        "ServerName.name": "The server.",
        "ServerName.address": "Where the others reach it.",
        "Lag.renewed_seconds": "Seconds since this server, the owner, renewed its lease; null elsewhere.",
        "Lag.link_seconds": "What the owner took to answer this server; null at the owner, and while it cannot be asked.",
        "Lag.clock_seconds": "How far this server's clock is ahead of the store's; null until they were compared.",
        "Lag.standby_commits": "Commits that the standby has yet to follow; null without one.",
        "Member.name": "The server.",
        "Member.address": "Where the others reach it.",
        "Member.role": "front: it passes on to the owner what it is asked.",
        "Member.asked": "true at the server that answers.",
        "Member.seen_seconds": "Seconds since it said that it is there, which it does once a second.",
    }
    return {name: {"description": text} for name, text in said.items()}


def _renamed(limits: Limits) -> Notes:
    """Where one type means something else by a name."""
    queue = {"description": f"The queue, or up to {limits.dequeue_queues_max} in order of preference."}
    return {
        "DequeueBody.queue": queue,
        "BatchDequeueBody.queue": queue,
        "ExtendBody.lease_seconds": _span(
            "Seconds from now on; without it as long as before.", limits.lease_seconds_min, limits.lease_seconds_max
        ),
        "ExtendItem.lease_seconds": _span(
            "Seconds from now on; without it as long as before.", limits.lease_seconds_min, limits.lease_seconds_max
        ),
        "ReleaseBody.delay": _span("Seconds to wait before the job is queued again, in its old place.", 0, limits.delay_seconds_max),
        "PolicyBody.lease_seconds": _span(
            f"Seconds a lease holds; {limits.lease_seconds_default:g} if not given.", limits.lease_seconds_min, limits.lease_seconds_max
        ),
        "PolicyBody.max_attempts": _span(
            f"Attempts before a failure is final; {limits.max_attempts_default} if not given.", 1, limits.max_attempts_max
        ),
        "PolicyBody.backoff": {"description": "How long to wait before the next attempt."},
        "QueueView.keys": {"description": "Keys that the queue keeps count of; 0 where its policy minds none."},
        "KeyView.key": {"description": "The key."},
        "KeyView.paused": {"description": "Whether somebody has paused the key."},
        "ReasonView.key": {"description": "The job's key, where it is the key's doing."},
        "ReasonView.worker": {"description": "Who has the job that the key waits for."},
        "RateBody.limit": _span("Jobs in `per` seconds.", 1, 1_000_000),
        "Rate.limit": _span("Jobs in `per` seconds.", 1, 1_000_000),
        "PerKeyBody.concurrency": _span("The most jobs of a key that may be in progress; null for no limit; 1 with an order.", 1, 10_000),
        "PerKey.concurrency": _span("The most jobs of a key that may be in progress; null for no limit; 1 with an order.", 1, 10_000),
        "PerKeyBody.rate": {"description": "How many jobs of a key may be handed out in a time; null for no limit."},
        "PerKey.rate": {"description": "How many jobs of a key may be handed out in a time; null for no limit."},
        "PerKeyBody.max_jobs": _span("Live jobs a key may have; null for the queue's bound alone.", 1, limits.jobs_max),
        "PerKey.max_jobs": _span("Live jobs a key may have; null for the queue's bound alone.", 1, limits.jobs_max),
        "PolicyPatch.lease_seconds": _span("Seconds a lease holds.", limits.lease_seconds_min, limits.lease_seconds_max),
        "PolicyPatch.max_attempts": _span("Attempts before a failure is final.", 1, limits.max_attempts_max),
        "PolicyPatch.backoff": {"description": "How long to wait before the next attempt."},
        "KeysQuery.limit": _span(f"Keys on a page; {limits.page_jobs_default} if not given.", 1, limits.page_jobs_max),
        "KeysQuery.cursor": {"description": "The `cursor` of the page before."},
        "KeysView.cursor": {"description": "Asks for the next page; null at the end."},
        "KeysView.keys": {"description": "The keys."},
        "ListQuery.key": {"description": "Only jobs of this key."},
        "ListQuery.waiting_for": {"description": "true shows of each job what it waits for."},
        "WaitQuery.wait": _span("Seconds to wait for the job's conclusion; 0 answers at once.", 0, limits.wait_seconds_max),
        "ListQuery.queue": {"description": "Only jobs of this queue."},
        "ListQuery.type": {"description": "Only jobs of this type."},
        "ListQuery.status": {"description": "Only jobs of this status."},
        "ListQuery.outcome": {"description": "Only jobs that ended so."},
        "QueuesQuery.limit": _span(f"Queues on a page; {limits.page_queues_max} if not given.", 1, limits.page_queues_max),
        "QueuesQuery.cursor": {"description": "The `cursor` of the page before. Without it from the first queue on."},
        "QueuesView.cursor": {"description": "Asks for the next page; null at the end. A page may be short and still have a next one."},
        "ListQuery.limit": _span(f"Jobs on a page; {limits.page_jobs_default} if not given.", 1, limits.page_jobs_max),
        "EventsQuery.queue": {"description": "Only events of these queues and their jobs."},
        "EventsQuery.type": {"description": "Only events of jobs of these types; of no queue then."},
        "EventsQuery.event": {"description": "Only these events."},
        "ConcludeBody.outcome": {"description": "How the attempt ended."},
        "ConcludeItem.outcome": {"description": "How the attempt ended."},
        "TokenView.name": {"description": "What logs call the token; null where the server asks nobody for one."},
        "TokenView.scopes": {"description": "What it may do. admin includes the others, which are then listed too."},
        "TokenView.queues": {"description": "Patterns of the names of queues it holds for, as in a shell; `*` fits all."},
        **_stats(),
        "LeaseView.token": {"description": "Proves the holder; 128 random bits."},
        "JobView.run_at": _time("When a delayed job or its next attempt was or will be due, or when it was retried."),
        "JobView.past": {"description": f"The last {limits.past_attempts_max} attempts that failed or whose lease ran out, oldest first."},
        "AttemptView.attempt": {"description": "Which attempt it was, from 1."},
        "AttemptView.started_at": _time("When it was handed out."),
        "AttemptView.ended_at": _time("When it failed or its lease ran out."),
        "AttemptView.ended": {"description": "How it ended: its worker said failed, or its lease ran out."},
        "AttemptView.error": {
            "description": f"What its worker said went wrong; null where it said nothing, or more than {limits.past_error_bytes_max} bytes."
        },
        "EnqueuedView.run_at": _time("When a delayed job is due."),
        "ConcludedView.run_at": _time("When the next attempt is due, after a failure that is retried; else as the job has it."),
        "Problem.type": {"description": "urn:jobqueue:problem: and the code."},
        "Problem.status": {"description": "The HTTP status, here also for an item of a batch."},
    }


OPERATIONS: dict[str, str] = {
    "POST /jobs/enqueue": "Repeating it with the same id and content answers the job that exists, whatever became of it since.",
    "POST /jobs/dequeue": "Held until there is a job or the wait has passed. Parameters go into the body or into the query, not both.",
    "POST /jobs/{id}/conclude": "A failure is retried after a backoff while attempts are left; the answer says how the job stands. "
    "Repeating it with the same lease and content answers the same again.",
    "POST /jobs/{id}/extend": "A heartbeat: it may carry progress, and its answer may ask the worker to stop.",
    "POST /jobs/{id}/release": "The attempt does not count. The job goes to its old place, ahead of all that never left; with a delay, "
    "when that is over.",
    "POST /jobs/{id}/cancel": "A job that waits is concluded at once. One in progress is marked, and its worker told at its next extend. A "
    "failed one that halts its key is given up: it stays failed, and the key goes on.",
    "POST /jobs/{id}/retry": "The job joins the back of its queue with no attempts, past ones neither, and without its old expiry; "
    "run_at is now. One that halts its key goes to its old place.",
    "GET /jobs/{id}": "With a wait, held until the job is concluded or the wait has passed.",
    "GET /jobs": "A page may be short, or empty, and still have a cursor; the listing ends where the cursor is null.",
    "POST /batch/enqueue": "Each item is as the body of its single twin. One that fails carries its error and harms no other.",
    "POST /batch/dequeue": "Answers as soon as one job is there, with as many as are there then.",
    "POST /batch/conclude": "Each item is as the body of its single twin, with the job's id.",
    "POST /batch/extend": "Each item is as the body of its single twin, with the job's id.",
    "PUT /queues/{name}": "Sets the whole policy: what is not given becomes the server's default.",
    "PATCH /queues/{name}": "What is not given stays as it is. Where null is a value, it takes the limit away.",
    "GET /queues/{name}/keys": "Only keys with live jobs, and those that are paused, halted or under a rate; none where the policy minds "
    "no keys. A page is of its own moment.",
    "POST /queues/{name}/keys/{key}/pause": "Jobs of the key are still accepted. The key may have no jobs yet.",
    "POST /queues/{name}/keys/{key}/resume": "A key that a failed job halts goes on too, and that job stays failed.",
    "DELETE /queues/{name}": "Only a queue without live jobs; its concluded jobs stay in history.",
    "POST /queues/{name}/pause": "Jobs are still accepted; workers wait.",
    "POST /queues/{name}/purge": "Every job that was queued or scheduled when it began; those in progress go on.",
    "POST /queues/{name}/retry": "Oldest first, while there is room.",
    "GET /events": "Server-sent events, as the HTML standard has them. Last-Event-ID goes on after that event; when it is not known any "
    "more, the first event is `reset`: read again what you show. A line is sent after 15 s of silence.",
    "GET /stats": "Each server tells its own view, also while no server owns the queue. A token that holds for some queues may not ask.",
    "GET /metrics": "The Prometheus text format, or OpenMetrics when Accept asks for it.",
}
"""What an operation does beyond its summary."""
