"""GET /openapi.json: the HTTP API as an OpenAPI 3.1 document, generated from the route table, the msgspec types and `reference.py`.

Each fact has one source: paths, types and error codes come from the table, limits from the server's `Limits`, examples from `examples.py`.
The document is made on the first request and kept as bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

import msgspec

from jobqueue import __version__
from jobqueue.api.describe.examples import STORY, STREAM
from jobqueue.api.describe.failures import examples_of, examples_of_actions, waits
from jobqueue.api.describe.reference import OPERATIONS, Notes, notes
from jobqueue.api.native import views
from jobqueue.api.problems import PROBLEMS, Problem
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.limits import Limits

_REFS = "#/components/schemas/{name}"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_UNCONFIRMED = "If the problem has `unconfirmed`, the change may have been made, or may be made later; repeat the request to find out."

DIALECT = "dialect: "
"""The prefix of the tags of operations that are not of the server's own API."""

_ANYWHERE = ("internal_error", "http_version")
"""Codes with which any request can be answered, whatever the operation: the document's default answers."""

_ABOUT = """A long-polling job queue. Producers enqueue jobs; a worker's dequeue waits until there is a job.

Bodies are JSON objects in UTF-8, sent as application/json; unknown fields are refused. Durations are in
seconds; times are RFC 3339 in UTC with milliseconds. Every error is an RFC 9457 problem with a stable `code`. Answers with status 429
or 503 have a Retry-After header: the seconds after which to try again. A request that failed has changed nothing, unless its problem
has `unconfirmed` or its status is 500; then the change may have been made.
docs/protocol.md describes every answer and its cause."""


class Document:
    """One server's document. routes: those to describe, read when the document is first requested."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._bytes: bytes | None = None

    async def get(self, site: Site, request: Request, _: str) -> Answer:
        """GET /openapi.json."""
        if self._bytes is None:
            self._bytes = msgspec.json.encode(document(self._routes, site.limits, secured=site.secured))
        return Answer(200, self._bytes)


def document(routes: Sequence[Route], limits: Limits, *, secured: bool) -> dict[str, Any]:
    """The whole document; secured: whether the server requires a token."""
    schemas = _schemas(routes, limits)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, limits, secured)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobqueue", "version": __version__, "description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": "/", "description": "This server"}],
        "tags": _tags(routes),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {
                "Location": {"description": "The path of the job.", "schema": {"type": "string"}},
                "RetryAfter": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
                "Allow": {"description": "The methods that this path supports.", "schema": {"type": "string"}},
                "WWWAuthenticate": {"description": "The required scheme: Bearer.", "schema": {"type": "string"}},
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token, if the server requires one."}},
        },
    }


# Types.


def _types(routes: Iterable[Route]) -> list[Any]:
    """Every type that a document of these routes refers to."""
    types: dict[Any, None] = {Problem: None, views.FailedItem: None, views.DoneItem: None}
    for route in routes:
        for given in (route.body, route.query, route.error, *route.answers.values()):
            kind = get_args(given)[0] if get_origin(given) in (list, tuple) else given
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                types[kind] = None
    return list(types)


def _schemas(routes: Iterable[Route], limits: Limits) -> dict[str, Any]:
    """The types as JSON Schema, with the descriptions of their fields from `reference.py`."""
    _, schemas = msgspec.json.schema_components(_types(routes), ref_template=_REFS)
    known = notes(limits)
    for name, schema in schemas.items():
        if "properties" in schema:
            schema["properties"] = {field: _noted(name, field, given, known) for field, given in schema["properties"].items()}
    schemas["Problem"]["properties"]["code"]["enum"] = list(PROBLEMS)
    return schemas


def _noted(name: str, field: str, given: dict[str, Any], known: Notes) -> dict[str, Any]:
    """One field: its type, its meaning, its bounds. A default of null is left out: it means that the field was not given."""
    note = known.get(f"{name}.{field}") or known.get(field) or {}
    choices = [_bare(choice) for choice in given.get("anyOf", [given])]
    noted: dict[str, Any] = {"anyOf": choices} if len(choices) > 1 else dict(choices[0])
    if given.get("default") not in (None, []):
        noted["default"] = given["default"]
    if "$ref" in noted and note:
        # The bounds of a field with a type of its own are in that type.
        return {**noted, "description": note["description"]}
    return {**noted, **note}


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A type without the decoder's own bounds on integers, which only keep them within 64 bits, and without its default."""
    return {key: value for key, value in schema.items() if key not in ("minimum", "maximum", "default")}


def _schema(kind: Any, failing: bool = False, limits: Limits | None = None) -> dict[str, Any]:
    """An operation's request or answer. A list is a batch: an object with its items under `jobs`; failing: each item can be an error."""
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if get_origin(kind) is list:
        item = _schema(get_args(kind)[0])
        if failing:
            item = {"anyOf": [item, {"$ref": _REFS.format(name="FailedItem")}]}
        jobs: dict[str, Any] = {"type": "array", "items": item}
        if limits is not None:
            jobs["maxItems"] = limits.batch_jobs_max
        return {"type": "object", "properties": {"jobs": jobs}, "required": ["jobs"], "additionalProperties": False}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {"$ref": _REFS.format(name=kind.__name__)}
    return msgspec.json.schema(kind)


# Operations.


def _tags(routes: Iterable[Route]) -> list[dict[str, str]]:
    """The API's tags by topic, then the server itself, then the dialects."""
    tags = dict.fromkeys(sorted((_tag(route) for route in routes), key=lambda tag: (tag.startswith(DIALECT), tag == "server")))
    about = "The API of another system, for the same queues. See docs/dialects.md."
    return [{"name": name, "description": about} if name.startswith(DIALECT) else {"name": name} for name in tags]


def _tag(route: Route) -> str:
    if route.api != "native":
        return DIALECT + route.api
    first = route.template.split("/")[1]
    return first if first in ("jobs", "batch", "queues", "schedules", "groups") else "server"


def _operation_id(method: str, template: str, api: str = "") -> str:
    # Made from the API's name, not its prefix: unique, and the same wherever the API is mounted.
    words: list[str] = re.findall(r"[a-z]+", f"{method.lower()} {api} {template}")
    return words[0] + "".join(word.title() for word in words[1:]) + ("Page" if template.endswith("/") else "")


def _operation(route: Route, schemas: dict[str, Any], limits: Limits, secured: bool) -> dict[str, Any]:
    native = route.api == "native"
    operation: dict[str, Any] = {
        "operationId": _operation_id(route.method, route.template, "" if native else f"{route.api} {'root' if route.guest else ''}"),
        "tags": [_tag(route)],
        "summary": route.summary,
        "parameters": [*_path_parameters(route, limits), *_query_parameters(route, schemas)],
        "responses": _answers(route) | _failures(route, limits, secured) | {"default": _failure(route, _ANYWHERE, limits)},
        "security": [{"token": []}] if secured and route.scope is not Scope.PUBLIC else [],
    }
    if route.actions is not None:
        operation |= _of_many(route)
    description = OPERATIONS.get(f"{route.method} {route.template}") if native else route.about
    if description:
        operation["description"] = description
    if route.body is not None:
        examples = {
            example.name: {"value": example.body}
            for example in STORY
            if native and (example.method, example.template) == (route.method, route.template) and example.body is not None
        }
        content = {"application/json": _content(_schema(route.body, limits=limits), examples)}
        operation["requestBody"] = {"required": route.query is None, "content": content}
    return operation


def _of_many(route: Route) -> dict[str, Any]:
    """The description of a path with several operations: the protocols for requests and answers, without the operations."""
    spoken = {"application/x-amz-json-1.0": _content({"type": "object"}, {}), "text/xml": _content({"type": "string"}, {})}
    shapes = {**spoken, route.shape.content_type.decode(): _content({"$ref": _REFS.format(name=route.error.__name__)}, {})}
    failed = {media: _content(content["schema"], examples_of_actions(media)) for media, content in shapes.items()}
    told: dict[str, Any] = {
        "responses": {
            "200": {"description": "The action's result, in the protocol of the request.", "content": spoken},
            "default": {"description": "An error with the API's own codes, in the protocol of the request.", "content": failed},
        }
    }
    if route.method == "POST":
        asked = dict.fromkeys(("application/x-amz-json-1.0", "application/x-www-form-urlencoded"), _content({"type": "object"}, {}))
        told["requestBody"] = {"required": True, "content": asked}
    return told


def _content(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema, **({"examples": examples} if examples else {})}


def _path_parameters(route: Route, limits: Limits) -> list[dict[str, Any]]:
    known = notes(limits)
    said = {
        "id": {
            **known["id"],
            "description": "The job's id, percent-encoded if necessary; or `-`, with the id in the query parameter `id`, which proxies "
            "do not change.",
        },
        "name": {**known["queue"], "description": "The queue's name; or `-`, with the name in the query parameter `name`."},
        "key": {**known["key"], "description": "The key, percent-encoded if necessary; or `-`, with the key in the query parameter `key`."},
        "number": {"description": "The job's number.", "minimum": 1},
        "account": {"description": "An account number. Any value is accepted.", "maxLength": 64},
        "queue": {**known["queue"], "description": "The queue's name."},
    }
    if "/groups/" in route.template:
        said["id"] = {**known["queue"], "description": "The group's id."}
    if "/schedules/" in route.template:
        said["name"] = {**known["queue"], "description": "The schedule's name, made of the same characters as a queue's name."}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": said[name]["description"],
            "schema": {
                "type": "integer" if name == "number" else "string",
                **{key: value for key, value in said[name].items() if key != "description"},
            },
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]


def _query_parameters(route: Route, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if route.shortens:
        return [{"name": "Prefer", "in": "header", "description": "`return=minimal` for a short answer.", "schema": {"type": "string"}}]
    if route.query is None:
        return []
    parameters = []
    for name, given in schemas[route.query.__name__].get("properties", {}).items():
        schema = {key: value for key, value in given.items() if key != "description"}
        if "anyOf" in schema:
            # A query cannot contain null; a parameter that can be repeated is an array.
            choices = [choice for choice in schema.pop("anyOf") if choice != {"type": "null"}]
            schema = {**next((choice for choice in choices if choice.get("type") == "array"), choices[0]), **schema}
        parameters.append({"name": name, "in": "query", "description": given.get("description", ""), "schema": schema})
        if schema.get("type") == "array":
            parameters[-1] |= {"style": "form", "explode": True}
            schema.pop("default", None)
    return parameters


# Answers.


def _answers(route: Route) -> dict[str, Any]:
    """The answers of an operation that succeeded."""
    answers: dict[str, Any] = {}
    native = route.api == "native"
    for status, kind in sorted(route.answers.items()):
        examples = {
            example.name: {"value": example.answer}
            for example in STORY
            if native
            and (example.method, example.template, example.status) == (route.method, route.template, status)
            and example.answer is not None
        }
        answer: dict[str, Any] = {"description": _described(route, kind)}
        if kind is str:
            shown = {"a job and a queue": {"value": STREAM}} if _streams(route) else {}
            answer["content"] = {media: _content({"type": "string"}, shown) for media in route.media}
        elif kind is not None:
            answer["content"] = {"application/json": _content(_schema(kind, failing=get_origin(route.body) is list), examples)}
            if route.shortens:
                _shorten(route, answer)
        if native and status in (200, 201) and route.template in ("/jobs/enqueue", "/groups", "/schedules/{name}/run"):
            answer["headers"] = {"Location": {"$ref": "#/components/headers/Location"}}
        answers[str(status)] = answer
    return answers


def _shorten(route: Route, answer: dict[str, Any]) -> None:
    """Describe the short answer."""
    schema = answer["content"]["application/json"]["schema"]
    schema["properties"]["jobs"]["items"]["anyOf"].append({"$ref": _REFS.format(name="DoneItem")})
    if route.template == "/batch/enqueue":
        schema["properties"]["created_at"] = {
            "type": "string",
            "description": "In a short answer: when the jobs that are listed only by id were created.",
        }
    answer["headers"] = {"Preference-Applied": {"description": "`return=minimal` if the answer is short.", "schema": {"type": "string"}}}


def _streams(route: Route) -> bool:
    return route.media == ("text/event-stream",)


def _described(route: Route, kind: Any) -> str:
    if kind is None:
        return "The wait ended without a job." if route.scope is Scope.DEQUEUE else "Done."
    if get_origin(kind) is tuple:
        return "All jobs."
    if get_origin(kind) is list:
        return "One result for each item, in order." if get_origin(route.body) is list else "The jobs; none if the wait ended without one."
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return (kind.__doc__ or "").partition("\n")[0]
    if _streams(route):
        return "A stream of events. It stays open until the client or the server closes it."
    return "OK." if route.scope is Scope.PUBLIC else "The metrics."


def codes(route: Route, secured: bool = True) -> list[str]:
    """Every code with which an operation can fail, except those that any request can get."""
    # An operation that takes no parameters and ignores any given has nothing to refuse.
    takes = route.api == "native" or route.body is not None or "{" in route.path or waits(route)
    found = [*(["bad_request"] if takes else []), *route.errors]
    if route.scope is not Scope.PUBLIC:
        found += ["forbidden", "too_many_connections", "rate_limited", *(["unauthorized"] if secured else [])]
        if route.changes:
            found.append("storage_unavailable")
    if route.method in _WITH_BODY:
        found += ["request_timeout", "too_large", "unsupported_media_type"]
    return [code for code in PROBLEMS if code in found]


def _failures(route: Route, limits: Limits, secured: bool) -> dict[str, Any]:
    """Problems by status, with the codes that have it."""
    by_status: dict[int, list[str]] = {}
    for code in codes(route, secured):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {str(status): _failure(route, found, limits) for status, found in sorted(by_status.items())}


def _may_be_made(route: Route, found: Sequence[str]) -> bool:
    """Whether a failure can hide a change that was made. What a dequeue took is put back, and reading changes nothing."""
    return "storage_unavailable" in found and route.changes and "too_many_waiters" not in route.errors


def _failure(route: Route, found: Sequence[str], limits: Limits) -> dict[str, Any]:
    """An answer to a request that failed, in the format of the route's API; only the native API's has the code."""
    schema: dict[str, Any] = {"$ref": _REFS.format(name=route.error.__name__)}
    if route.error is Problem:
        schema = {"allOf": [schema, {"properties": {"code": {"enum": list(found)}}}]}
    made = _may_be_made(route, found)
    failure: dict[str, Any] = {
        "description": " ".join([f"`{code}`: {PROBLEMS[code].title}." for code in found] + ([_UNCONFIRMED] if made else [])),
        "content": {route.shape.content_type.decode(): _content(schema, examples_of(route, found, limits, may_be_made=made))},
    }
    status = PROBLEMS[found[0]].status
    header = {401: "WWWAuthenticate", 405: "Allow", 429: "RetryAfter", 503: "RetryAfter"}.get(status)
    if header:
        name = {"WWWAuthenticate": "WWW-Authenticate", "RetryAfter": "Retry-After"}.get(header, header)
        failure["headers"] = {name: {"$ref": f"#/components/headers/{header}"}}
    return failure
