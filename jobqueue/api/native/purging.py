"""Purging and deleting queues in the native API."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from jobqueue.api.native import views, wire
from jobqueue.api.native.native import read_nothing
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.backend.requests.queues import DeleteQueue, PurgeAll
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request


class PurgeQuery(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """POST /queues/{name}/purge."""

    all: bool = False


class DeleteQuery(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """DELETE /queues/{name}."""

    force: bool = False


def _purged(name: str, count: int) -> Answer:
    return Answer(200, views.encode(views.PurgedView(name, count)))


async def purge(site: Site, request: Request, name: str) -> Answer:
    """POST /queues/{name}/purge: cancels the jobs that wait, or all live jobs."""
    asked = PurgeQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), PurgeQuery)
    await read_nothing(site, request)
    return _purged(name, await (site.backend.ask(PurgeAll(name=name)) if asked.all else site.backend.purge(name)))


async def delete_queue(site: Site, request: Request, name: str) -> Answer:
    """DELETE /queues/{name}: deletes an empty queue, or a queue with all its live jobs."""
    asked = DeleteQuery()
    if "?" in request.head.path:
        asked = wire.decode_query(wire.query_of(request.head.path), DeleteQuery)
    await read_nothing(site, request)
    if asked.force:
        return _purged(name, await site.backend.ask(DeleteQueue(name=name)))
    await site.backend.delete_queue(name)
    return Answer(204, content_type=b"")


def routes(route: Callable[..., Route]) -> list[Route]:
    """The routes. route: makes a Route, with its path behind the API's prefix."""
    return [
        route("DELETE", "/queues/{name}", delete_queue, Scope.ADMIN, "Delete a queue", query=DeleteQuery,
              answers={204: None, 200: views.PurgedView}, errors=("unknown_queue", "queue_not_empty", "draining")),
        route("POST", "/queues/{name}/purge", purge, Scope.ADMIN, "Cancel a queue's waiting jobs, or all its live jobs", query=PurgeQuery,
              answers={200: views.PurgedView}, errors=("unknown_queue", "draining")),
    ]  # fmt: skip
