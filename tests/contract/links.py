"""What an answer of the native API leads to: links for the OpenAPI document, which schemathesis follows to test whole lives of jobs.

They are no part of the document that the server serves: only this test has a use for them. Values are runtime expressions of OpenAPI
(3.1, section 4.8.20.4).
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Link(NamedTuple):
    """One way on. operation: method and template of where it leads; at: the id or name, an expression; body: what to send there."""

    name: str
    operation: str
    at: str
    body: Any = None

    @property
    def parameter(self) -> str:
        """The variable of the operation's path."""
        return "name" if "{name}" in self.operation else "id"


_ID, _NAME, _TOKEN = "$response.body#/id", "$response.body#/name", "$response.body#/lease/token"
_FIRST = "$response.body#/jobs/0"

_LOOK = Link("look", "GET /jobs/{id}", _ID)
_CANCEL = Link("cancel", "POST /jobs/{id}/cancel", _ID)
_RETRY = Link("retry", "POST /jobs/{id}/retry", _ID)


def _working(job_id: str, token: str) -> tuple[Link, ...]:
    return (
        Link("extend", "POST /jobs/{id}/extend", job_id, {"lease": token, "progress": 0.5}),
        Link("release", "POST /jobs/{id}/release", job_id, {"lease": token}),
        Link("succeed", "POST /jobs/{id}/conclude", job_id, {"lease": token, "outcome": "succeeded"}),
        Link("fail", "POST /jobs/{id}/conclude", job_id, {"lease": token, "outcome": "failed", "retry": False}),
    )


_QUEUE = (
    Link("look", "GET /queues/{name}", _NAME),
    Link("pause", "POST /queues/{name}/pause", _NAME),
    Link("resume", "POST /queues/{name}/resume", _NAME),
    Link("purge", "POST /queues/{name}/purge", _NAME),
    Link("redrive", "POST /queues/{name}/retry", _NAME),
    Link("delete", "DELETE /queues/{name}", _NAME),
)

LINKS: dict[tuple[str, int], tuple[Link, ...]] = {
    ("POST /jobs/enqueue", 201): (_LOOK, _CANCEL),
    ("POST /jobs/enqueue", 200): (_LOOK,),
    ("POST /jobs/dequeue", 200): (_LOOK, _CANCEL, *_working(_ID, _TOKEN)),
    ("POST /batch/dequeue", 200): _working(f"{_FIRST}/id", f"{_FIRST}/lease/token"),
    ("POST /batch/enqueue", 200): (
        Link("look", "GET /jobs/{id}", f"{_FIRST}/id"),
        Link("cancel", "POST /jobs/{id}/cancel", f"{_FIRST}/id"),
    ),
    ("POST /jobs/{id}/extend", 200): (_LOOK, _CANCEL),
    ("POST /jobs/{id}/release", 200): (_LOOK, _CANCEL),
    ("POST /jobs/{id}/conclude", 200): (_LOOK, _RETRY),
    ("POST /jobs/{id}/cancel", 200): (_LOOK, _RETRY),
    ("POST /jobs/{id}/retry", 200): (_LOOK, _CANCEL),
    ("GET /jobs", 200): (Link("look", "GET /jobs/{id}", f"{_FIRST}/id"),),
    ("PUT /queues/{name}", 200): _QUEUE,
    ("GET /queues", 200): (Link("look", "GET /queues/{name}", "$response.body#/queues/0/name"),),
}
"""By operation and status."""


def linked(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the links at its answers. The native API must stand at the root."""
    operations = {f"{method.upper()} {path}": told for path, item in document["paths"].items() for method, told in item.items()}
    for (source, status), ways in LINKS.items():
        links = operations[source]["responses"][str(status)]["links"] = {}
        for way in ways:
            link = {"operationId": operations[way.operation]["operationId"], "parameters": {way.parameter: way.at}}
            links[way.name] = link if way.body is None else {**link, "requestBody": way.body}
    return document
