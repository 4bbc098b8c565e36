"""The native API as a table: paths, scopes, types, errors. The router, the metrics and the OpenAPI document are built from it."""

from __future__ import annotations

from jobqueue.api.native import (
    batches,
    bulk,
    errors,
    events,
    groups,
    history,
    logs,
    longpoll,
    native,
    policies,
    purging,
    schedules,
    stats,
    token,
    views,
    wire,
    workers,
)
from jobqueue.api.routes import Route, Scope

_LEASE_ERRORS = ("unknown_job", "lease_lost", "not_in_progress")
_ROOM_ERRORS = ("queue_full", "too_many_queues")
_CLOSED = ("draining",)
_APART = ("unsupported",)
"""Of what joins queues, which can be in different partitions."""


def unmatched_route() -> Route:
    """What requests that match no route are counted under. It is in no router."""
    return Route("", "(unmatched)", native.nowhere, Scope.PUBLIC, "Requests that match no route")


def listening(route: Route) -> Route:
    """Mark a route that answers with a stream of events."""
    route.media = (events.MEDIA,)
    return route


def whole(route: Route) -> Route:
    """Mark a route whose answer covers all queues."""
    route.whole = True
    return route


def shortening(route: Route) -> Route:
    """Mark a batch that has a short form of its answer."""
    route.shortens = True
    return route


def native_routes(prefix: str) -> list[Route]:
    """Every native operation, with its path behind `prefix`."""

    def route(method: str, path: str, *rest: object, **more: object) -> Route:
        return Route(method, prefix + path, *rest, **more)  # type: ignore[arg-type] # passed through unchanged

    E, D, R, A = Scope.ENQUEUE, Scope.DEQUEUE, Scope.READ, Scope.ADMIN
    job, queue = views.JobView, views.QueueView
    return [
        route(
            "POST",
            "/jobs/enqueue",
            native.enqueue,
            E,
            "Submit a job",
            body=wire.EnqueueBody,
            answers={201: views.EnqueuedView, 200: views.EnqueuedView},
            errors=(
                *("unknown_job", "unknown_group", "group_closed", "id_conflict", "duplicate", "too_large"),
                *(*_ROOM_ERRORS, *_APART, *_CLOSED),
            ),
        ),
        route(
            "POST",
            "/jobs/dequeue",
            longpoll.dequeue,
            D,
            "Take a job, or wait for one",
            body=wire.DequeueBody,
            query=wire.DequeueBody,
            answers={200: views.DequeuedView, 204: None},
            errors=("too_many_waiters", *_CLOSED),
        ),
        route("GET", "/jobs", native.jobs, R, "List jobs, newest first", query=wire.ListQuery, answers={200: views.PageView}),
        route(
            "GET",
            "/jobs/{id}",
            longpoll.job,
            R,
            "Look at a job, or wait for its result",
            query=wire.WaitQuery,
            answers={200: job},
            errors=("unknown_job", "too_many_waiters", "storage_unavailable"),
        ),
        route(
            "POST",
            "/jobs/{id}/conclude",
            native.conclude,
            D,
            "Finish a job",
            body=wire.ConcludeBody,
            answers={200: views.ConcludedView},
            errors=("too_large", *_LEASE_ERRORS),
        ),
        route(
            "POST",
            "/jobs/{id}/extend",
            native.extend,
            D,
            "Extend a lease",
            body=wire.ExtendBody,
            answers={200: views.ExtendedView},
            errors=_LEASE_ERRORS,
        ),
        route(
            "POST",
            "/jobs/{id}/release",
            native.release,
            D,
            "Return a job to its queue",
            body=wire.ReleaseBody,
            answers={200: job},
            errors=_LEASE_ERRORS,
        ),
        route(
            "POST",
            "/jobs/{id}/cancel",
            native.cancel,
            E,
            "Cancel a job",
            answers={200: job},
            errors=("unknown_job", "not_in_progress", *_CLOSED),
        ),
        route(
            "POST",
            "/jobs/{id}/retry",
            native.retry,
            E,
            "Retry a failed, cancelled or expired job",
            answers={200: job},
            errors=("unknown_job", "duplicate", "not_retryable", *_ROOM_ERRORS, *_CLOSED),
        ),
        route(
            "POST",
            "/jobs/{id}/forget",
            native.forget,
            A,
            "Remove a concluded job from history",
            answers={200: job},
            errors=("unknown_job", "not_forgettable", *_CLOSED),
        ),
        route(
            "PATCH",
            "/jobs/{id}",
            native.edit,
            E,
            "Edit a job that waits",
            body=wire.EditBody,
            answers={200: job},
            errors=("unknown_job", "in_progress", "not_in_progress", "too_large", *_ROOM_ERRORS, *_APART, *_CLOSED),
        ),
        shortening(
            route(
                "POST",
                "/batch/enqueue",
                batches.batch_enqueue,
                E,
                "Submit many jobs",
                body=list[wire.EnqueueBody],
                answers={200: list[views.EnqueuedView]},
                errors=_CLOSED,
            )
        ),
        route(
            "POST",
            "/batch/dequeue",
            longpoll.batch_dequeue,
            D,
            "Take many jobs, or wait for the first",
            body=wire.BatchDequeueBody,
            query=wire.BatchDequeueBody,
            answers={200: list[views.DequeuedView]},
            errors=("too_many_waiters", *_CLOSED),
        ),
        shortening(
            route(
                "POST",
                "/batch/conclude",
                batches.batch_conclude,
                D,
                "Finish many jobs",
                body=list[wire.ConcludeItem],
                answers={200: list[views.ConcludedView]},
            )
        ),
        route(
            "POST",
            "/batch/extend",
            batches.batch_extend,
            D,
            "Extend many leases",
            body=list[wire.ExtendItem],
            answers={200: list[views.ExtendedView]},
        ),
        shortening(
            route(
                "POST",
                "/batch/release",
                batches.batch_release,
                D,
                "Return many jobs to their queues",
                body=list[wire.ReleaseItem],
                answers={200: list[job]},  # type: ignore[valid-type] # a type nevertheless
            )
        ),
        listening(
            route(
                "GET",
                "/events",
                events.listen,
                R,
                "Listen to what happens",
                query=wire.EventsQuery,
                answers={200: str},
                errors=("too_many_listeners", *_CLOSED),
            )
        ),
        route("GET", "/queues", native.queues, R, "List queues, by name", query=wire.QueuesQuery, answers={200: views.QueuesView}),
        route("GET", "/queues/{name}", native.queue, R, "Look at a queue", answers={200: queue}, errors=("unknown_queue",)),
        route(
            "PUT",
            "/queues/{name}",
            native.put_queue,
            A,
            "Create a queue, or set its whole policy",
            body=policies.PolicyBody,
            answers={200: queue},
            errors=("too_many_queues", *_APART, *_CLOSED),
        ),
        route(
            "PATCH",
            "/queues/{name}",
            native.patch_queue,
            A,
            "Change some fields of a queue's policy",
            body=policies.PolicyPatch,
            answers={200: queue},
            errors=("unknown_queue", *_APART, *_CLOSED),
        ),
        route(
            "GET",
            "/queues/{name}/keys",
            native.keys,
            R,
            "List a queue's keys, those that hold back the most jobs first",
            query=wire.KeysQuery,
            answers={200: views.KeysView},
            errors=("unknown_queue",),
        ),
        route(
            "POST",
            "/queues/{name}/keys/{key}/pause",
            native.pause_key,
            A,
            "Pause a key: hand out none of its jobs",
            answers={200: views.KeyView},
            errors=("unknown_queue", "queue_full", *_CLOSED),
        ),
        route(
            "POST",
            "/queues/{name}/keys/{key}/resume",
            native.resume_key,
            A,
            "Resume a key: hand out its jobs again",
            answers={200: views.KeyView},
            errors=("unknown_queue", *_CLOSED),
        ),
        route(
            "POST",
            "/queues/{name}/pause",
            native.pause,
            A,
            "Pause a queue: hand out none of its jobs",
            answers={200: queue},
            errors=("unknown_queue", *_CLOSED),
        ),
        route(
            "POST",
            "/queues/{name}/resume",
            native.resume,
            A,
            "Resume a queue: hand out its jobs again",
            answers={200: queue},
            errors=("unknown_queue", *_CLOSED),
        ),
        *purging.routes(route),
        route(
            "POST",
            "/queues/{name}/retry",
            native.retry_failed,
            A,
            "Retry every failed job of a queue",
            answers={200: views.RetriedView},
            errors=("unknown_queue", *_CLOSED),
        ),
        *bulk.routes(route),
        *errors.routes(route),
        *schedules.routes(route),
        *groups.routes(route),
        whole(
            route(
                "GET",
                "/stats",
                stats.stats,
                R,
                "Read the state of the server, and of the others on its store",
                answers={200: stats.StatsView},
            )
        ),
        *logs.routes(route),
        *history.routes(route),
        *workers.routes(route),
        route("GET", "/token", token.token, Scope.KNOWN, "Read the permissions of your token", answers={200: token.TokenView}),
    ]
