"""The native API as a table: paths, scopes, types, errors. The router, the metrics and the OpenAPI document are made from it."""

from __future__ import annotations

from jobqueue.api.native import events, longpoll, native, stats, token, views, wire
from jobqueue.api.routes import Route, Scope

_LEASE_ERRORS = ("unknown_job", "lease_lost", "not_in_progress")
_ROOM_ERRORS = ("queue_full", "too_many_queues")
_CLOSED = ("draining",)


def unmatched_route() -> Route:
    """What requests that match no route are counted under. It is in no router."""
    return Route("", "(unmatched)", native.healthz, Scope.PUBLIC, "Requests for which there is no route")


def listening(route: Route) -> Route:
    """A route that answers with a stream of events."""
    route.media = (events.MEDIA,)
    return route


def whole(route: Route) -> Route:
    """A route that tells of every queue."""
    route.whole = True
    return route


def native_routes(prefix: str) -> list[Route]:
    """Every native operation, its path behind `prefix`."""

    def route(method: str, path: str, *rest: object, **more: object) -> Route:
        return Route(method, prefix + path, *rest, **more)  # type: ignore[arg-type] # passed through as they are

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
            errors=("id_conflict", "too_large", *_ROOM_ERRORS, *_CLOSED),
        ),
        route(
            "POST",
            "/jobs/dequeue",
            longpoll.dequeue,
            D,
            "Take a job, waiting for one",
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
            "Push a lease's expiry out",
            body=wire.ExtendBody,
            answers={200: views.ExtendedView},
            errors=_LEASE_ERRORS,
        ),
        route(
            "POST",
            "/jobs/{id}/release",
            native.release,
            D,
            "Give a job back",
            body=wire.ReleaseBody,
            answers={200: job},
            errors=_LEASE_ERRORS,
        ),
        route(
            "POST",
            "/jobs/{id}/cancel",
            native.cancel,
            E,
            "Stop a job",
            answers={200: job},
            errors=("unknown_job", "not_in_progress", *_CLOSED),
        ),
        route(
            "POST",
            "/jobs/{id}/retry",
            native.retry,
            E,
            "Queue a failed, cancelled or expired job again",
            answers={200: job},
            errors=("unknown_job", "not_retryable", *_ROOM_ERRORS, *_CLOSED),
        ),
        route(
            "POST",
            "/batch/enqueue",
            native.batch_enqueue,
            E,
            "Submit many jobs",
            body=list[wire.EnqueueBody],
            answers={200: list[views.EnqueuedView]},
            errors=_CLOSED,
        ),
        route(
            "POST",
            "/batch/dequeue",
            longpoll.batch_dequeue,
            D,
            "Take many jobs, waiting for the first",
            body=wire.BatchDequeueBody,
            query=wire.BatchDequeueBody,
            answers={200: list[views.DequeuedView]},
            errors=("too_many_waiters", *_CLOSED),
        ),
        route(
            "POST",
            "/batch/conclude",
            native.batch_conclude,
            D,
            "Finish many jobs",
            body=list[wire.ConcludeItem],
            answers={200: list[views.ConcludedView]},
        ),
        route(
            "POST",
            "/batch/extend",
            native.batch_extend,
            D,
            "Extend many leases",
            body=list[wire.ExtendItem],
            answers={200: list[views.ExtendedView]},
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
            "Make a queue or set its policy",
            body=wire.PolicyBody,
            answers={200: queue},
            errors=("too_many_queues", *_CLOSED),
        ),
        route(
            "PATCH",
            "/queues/{name}",
            native.patch_queue,
            A,
            "Change some fields of a queue's policy",
            body=wire.PolicyPatch,
            answers={200: queue},
            errors=("unknown_queue", *_CLOSED),
        ),
        route(
            "GET",
            "/queues/{name}/keys",
            native.keys,
            R,
            "List a queue's keys, those that hold most up first",
            query=wire.KeysQuery,
            answers={200: views.KeysView},
            errors=("unknown_queue",),
        ),
        route(
            "POST",
            "/queues/{name}/keys/{key}/pause",
            native.pause_key,
            A,
            "Hand out no job of a key",
            answers={200: views.KeyView},
            errors=("unknown_queue", "queue_full", *_CLOSED),
        ),
        route(
            "POST",
            "/queues/{name}/keys/{key}/resume",
            native.resume_key,
            A,
            "Hand out a key's jobs again",
            answers={200: views.KeyView},
            errors=("unknown_queue", *_CLOSED),
        ),
        route(
            "DELETE",
            "/queues/{name}",
            native.delete_queue,
            A,
            "Delete an empty queue",
            answers={204: None},
            errors=("unknown_queue", "queue_not_empty", *_CLOSED),
        ),
        route(
            "POST", "/queues/{name}/pause", native.pause, A, "Hand out nothing", answers={200: queue}, errors=("unknown_queue", *_CLOSED)
        ),
        route(
            "POST", "/queues/{name}/resume", native.resume, A, "Hand out again", answers={200: queue}, errors=("unknown_queue", *_CLOSED)
        ),
        route(
            "POST",
            "/queues/{name}/purge",
            native.purge,
            A,
            "Cancel every waiting job",
            answers={200: views.PurgedView},
            errors=("unknown_queue", *_CLOSED),
        ),
        route(
            "POST",
            "/queues/{name}/retry",
            native.redrive,
            A,
            "Queue every failed job again",
            answers={200: views.RetriedView},
            errors=("unknown_queue", *_CLOSED),
        ),
        whole(route("GET", "/stats", stats.stats, R, "Look at the server, and at the others on its store", answers={200: stats.StatsView})),
        route("GET", "/token", token.token, Scope.KNOWN, "Read what your token may do", answers={200: token.TokenView}),
    ]
