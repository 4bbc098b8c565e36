"""GET /openapi.json: the document says what the server does, and its examples are what the server answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec
import pytest
from openapi_spec_validator import validate

from jobqueue.api.describe.examples import STORY, Example
from jobqueue.api.describe.openapi import codes, document
from jobqueue.api.describe.reference import OPERATIONS, notes
from jobqueue.api.mounts import Mounts, server_routes
from jobqueue.api.native import wire
from jobqueue.api.native.events import MEDIA
from jobqueue.api.native.table import native_routes
from jobqueue.api.problems import PROBLEMS
from jobqueue.api.routes import Route, Scope
from jobqueue.errors import QueueError
from jobqueue.limits import Limits
from tests.contract.links import LINKS, linked

from .conftest import Serve
from .harness import Api, assert_problem

ROUTES = native_routes("") + server_routes((), ())
DOCUMENT = document(ROUTES, Limits(), secured=True)
TOKEN = re.compile(r"\b[0-9a-f]{32}\b")


def repr_of(route: Route) -> str:
    return f"{route.method} {route.path}"


by_route = pytest.mark.parametrize("route", ROUTES, ids=[f"{route.method} {route.path}" for route in ROUTES])


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a JSON value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def operation(route: Route) -> Any:
    return DOCUMENT["paths"][route.path][route.method.lower()]


# The document.


def test_it_is_valid() -> None:
    """The document is OpenAPI 3.1."""
    assert DOCUMENT["openapi"] == "3.1.0"
    validate(DOCUMENT)


async def test_it_is_served(api: Api) -> None:
    """The server answers the document of its own routes and bounds, the same bytes every time."""
    first, second = await api.get("/openapi.json"), await api.get("/openapi.json")

    assert (first.status, first.headers["content-type"]) == (200, "application/json")
    assert first.body == second.body
    assert first.json == json.loads(json.dumps(document(api.app.mounts.routes(), api.app.site.limits, secured=False)))


async def test_anyone_may_read_it(serve: Serve) -> None:
    """The document needs no token, and says which operations do."""
    api = await serve(token="secret", send_token=False)

    served = (await api.get("/openapi.json")).json

    assert served["paths"]["/jobs"]["get"]["security"] == [{"token": []}]
    assert served["paths"]["/healthz"]["get"]["security"] == []


def test_without_a_token_nothing_is_secured() -> None:
    """A server that asks for no token says so."""
    open_to_all = document(ROUTES, Limits(), secured=False)

    assert {tuple(node["security"]) for node in nodes(open_to_all["paths"]) if "responses" in node} == {()}
    assert "unauthorized" not in json.dumps(open_to_all["paths"])


def test_it_has_the_operations_of_the_route_table() -> None:
    """Paths and methods of the document are those of the route table, all of them and no more."""
    told = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}

    assert told == {(route.method, route.path) for route in ROUTES}
    assert len({operation(route)["operationId"] for route in ROUTES}) == len(ROUTES)


def test_every_reference_resolves() -> None:
    """Whatever a $ref names is there."""
    references = [node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node]

    assert len(references) > 100
    for reference in references:
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_every_schema_is_used() -> None:
    """No type stands in the document that no operation leads to."""
    text = json.dumps(DOCUMENT)

    queries = {route.query.__name__ for route in ROUTES if route.query is not None}
    unused = [name for name in DOCUMENT["components"]["schemas"] if f'schemas/{name}"' not in text and name not in queries]
    assert unused == []


def test_every_field_is_described() -> None:
    """Each field of each type has a sentence that says what it means."""
    schemas = DOCUMENT["components"]["schemas"]

    silent = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, said in schema.get("properties", {}).items()
        if not said.get("description") and field not in ("jobs", "queues", "name", "token")
    ]
    assert silent == []


def test_no_remark_is_left_over() -> None:
    """Every remark of the reference is about a field or an operation that exists."""
    schemas = DOCUMENT["components"]["schemas"]
    fields = {field for schema in schemas.values() for field in schema.get("properties", {})}

    for remark in notes(Limits()):
        name, _, field = remark.rpartition(".")
        assert field in (schemas[name]["properties"] if name else fields), remark
    assert set(OPERATIONS) <= {f"{route.method} {route.path}" for route in ROUTES}


def test_bounds_are_the_servers_own() -> None:
    """A server with other bounds documents those."""
    limits = Limits(wait_seconds_max=7, wait_seconds_default=5, batch_jobs_max=9, max_attempts_max=11)
    schemas = document(ROUTES, limits, secured=True)["components"]["schemas"]

    assert schemas["BatchDequeueBody"]["properties"]["wait"]["maximum"] == 7
    assert schemas["BatchDequeueBody"]["properties"]["limit"]["maximum"] == 9
    assert schemas["EnqueueBody"]["properties"]["max_attempts"]["maximum"] == 11


# What it says of failures.


@by_route
def test_every_code_is_told_under_its_status(route: Route) -> None:
    """An operation's codes stand under the statuses they have, with Retry-After where it is sent."""
    told: dict[str, str] = {}
    for status, answer in operation(route)["responses"].items():
        for node in nodes(answer.get("content", {}).get("application/problem+json", {}).get("schema")):
            for code in node.get("code", {}).get("enum", ()):
                told[code] = status
        assert ("Retry-After" in answer.get("headers", {})) is (status in ("429", "503"))

    defaults = {code for code, status in told.items() if status == "default"}
    assert defaults == {"internal_error", "http_version"}
    assert {code: status for code, status in told.items() if code not in defaults} == {
        code: str(PROBLEMS[code].status) for code in codes(route)
    }
    assert set(route.errors) <= set(told)


@pytest.mark.parametrize("route", [*ROUTES, *(route for route in Mounts().routes() if route.api != "native")], ids=repr_of)
def test_a_disk_that_fails_is_told_of_every_change(route: Route) -> None:
    """Whatever changes something, in every API, may be refused for the disk, and says when the change may have been made all the same."""
    found = document([route], Limits(), secured=True)["paths"][route.path][route.method.lower()]
    told = found["responses"].get("503", {"description": ""})["description"]
    assert ("`storage_unavailable`" in told) is (route.changes or "storage_unavailable" in route.errors)
    # What a dequeue took is put back.
    takes = route.scope is Scope.DEQUEUE and "too_many_waiters" in route.errors
    assert ("`unconfirmed`" in told) is (route.changes and not takes)


def target(route: Route) -> str:
    return re.sub(r"{\w+}", "missing", route.path)


def method(route: Route) -> str:
    """A method that comes to an end: a stream of events has none but for HEAD."""
    return "HEAD" if MEDIA in route.media else route.method


def body(route: Route) -> bytes | None:
    """A body that is valid, and does not wait."""
    if route.query is not None and "wait" in route.query.__struct_fields__ and route.method == "POST":
        return b'{"wait":0}'
    for example in STORY:
        if (example.method, example.template) == (route.method, route.path) and example.body is not None:
            return json.dumps(example.body).encode()
    return None


@by_route
async def test_what_is_missing_is_answered_as_told(api: Api, route: Route) -> None:
    """On an empty server an operation on a job or a queue answers 404 with the code it documents, if it documents one."""
    reply = await api.send(method(route), target(route), body(route))

    codes = ("job", "queue", "schedule", "task", "worker", "group")
    # These may name what is unknown, and need not.
    named = route.path not in ("/jobs/enqueue", "/errors")
    expected = {f"unknown_{code}" for code in codes} & set(route.errors) if named else set()
    assert (reply.status == 404) is bool(expected), reply
    if expected:
        assert_problem(reply, 404, expected.pop())


@by_route
async def test_a_draining_server_answers_as_told(api: Api, route: Route) -> None:
    """While the server drains, an operation answers 503 if it documents that, and nothing else does."""
    api.app.drain()

    reply = await api.send(route.method, target(route), body(route))

    if "draining" in route.errors:
        assert_problem(reply, 503, "draining")
    else:
        assert reply.status != 503


@by_route
async def test_tokens_are_asked_for_as_told(serve: Serve, route: Route) -> None:
    """Without the token an operation answers 401 if it documents that, and nothing else does."""
    api = await serve(token="secret", send_token=False)

    reply = await api.send(route.method, target(route), body(route))

    assert (reply.status == 401) is ("unauthorized" in codes(route)) is (route.scope is not Scope.PUBLIC)


@by_route
async def test_a_body_of_another_type_is_answered_as_told(api: Api, route: Route) -> None:
    """An operation that reads a body refuses one that is not JSON, and says so; one that reads none does not care."""
    reply = await api.send(method(route), target(route), b"a=1", {"Content-Type": "application/x-www-form-urlencoded"})

    assert (reply.status == 415) is ("unsupported_media_type" in codes(route))


# The examples.


def learn(told: str, true: str, tokens: dict[str, str]) -> None:
    """Remember which true token stands where the examples have theirs."""
    mine, theirs = TOKEN.findall(told), TOKEN.findall(true)
    assert len(mine) == len(theirs)
    tokens.update(zip(mine, theirs, strict=True))


async def test_the_examples_are_true(api: Api) -> None:
    """The whole session of examples, played on a fresh server, is answered exactly as the document shows."""
    tokens: dict[str, str] = {}

    for example in STORY:
        sent = None if example.body is None else TOKEN.sub(lambda found: tokens[found[0]], json.dumps(example.body)).encode()
        reply = await api.send(example.method, TOKEN.sub(lambda found: tokens[found[0]], example.target), sent)
        told = json.dumps(example.answer)
        learn(told, reply.body.decode(), tokens)
        answer = json.loads(reply.body) if reply.body else None
        if example.target == "/stats":
            # What the machine has, and how long the process has run.
            assert {name: type(value) for name, value in answer["server"].items()} == {
                name: type(value) for name, value in example.answer["server"].items()
            }
            answer["server"] = example.answer["server"]
            # Of connections the bounds are this machine's, too.
            names = [bound["name"] for bound in answer["bounds"]]
            assert names == [bound["name"] for bound in example.answer["bounds"]]
            own = names.index("connections")
            answer["bounds"][own:] = example.answer["bounds"][own:]
        assert (reply.status, answer) == (example.status, json.loads(TOKEN.sub(lambda found: tokens[found[0]], told))), example.name

    assert len(tokens) == 6


def test_every_operation_has_its_examples() -> None:
    """Each operation with a body shows one, and each answer with JSON shows one; the document itself and the counts excepted."""
    shown = {(example.method, example.template, example.status) for example in STORY}

    for route in ROUTES:
        if route.path == "/events":
            assert operation(route)["responses"]["200"]["content"][MEDIA]["examples"]
        elif route.path not in ("/metrics", "/openapi.json"):
            assert {(route.method, route.path, status) for status in route.answers} <= shown
            for status, kind in route.answers.items():
                if kind is not None:
                    assert operation(route)["responses"][str(status)]["content"]["application/json"]["examples"]
        if route.body is not None:
            assert operation(route)["requestBody"]["content"]["application/json"]["examples"]


def test_links_lead_to_operations_with_what_they_take() -> None:
    """Each link stands at an answer that exists, fills the variable of its target's path, and sends a body that the target may take."""
    routes = {f"{route.method} {route.template}": route for route in ROUTES}
    ids = {operation(route)["operationId"]: route for route in ROUTES}
    found = linked(json.loads(json.dumps(DOCUMENT)))
    validate(found)
    operations = {f"{method.upper()} {path}": told for path, item in found["paths"].items() for method, told in item.items()}
    for (source, status), ways in LINKS.items():
        shown = operations[source]["responses"][str(status)]["links"]
        assert set(shown) == {way.name for way in ways}
        for way in ways:
            link, to = shown[way.name], ids[shown[way.name]["operationId"]]
            assert to is routes[way.operation]
            assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", to.template))
            assert "requestBody" not in link or set(link["requestBody"]) <= set(to.body.__struct_fields__)


def examples_with(kind: str) -> list[tuple[Example, Route]]:
    found = [(example, route) for example in STORY for route in ROUTES if (route.method, route.path) == (example.method, example.template)]
    assert len(found) == len(STORY)
    return [(example, route) for example, route in found if getattr(example, kind) is not None]


@pytest.mark.parametrize(("example", "route"), [pytest.param(*pair, id=pair[0].name) for pair in examples_with("body")])
def test_bodies_pass_the_real_decoders(example: Example, route: Route) -> None:
    """A body shown is one that the server's own strict decoder takes."""
    items = example.body["jobs"] if get_origin(route.body) is list else [example.body]
    kind = get_args(route.body)[0] if get_origin(route.body) is list else route.body

    for item in items:
        assert isinstance(wire.Decoder(kind)(json.dumps(item).encode()), kind)
        with pytest.raises(QueueError, match="unknown field"):
            wire.Decoder(kind)(json.dumps({**item, "no_such_field": 1}).encode())


@pytest.mark.parametrize(("example", "route"), [pytest.param(*pair, id=pair[0].name) for pair in examples_with("answer")])
def test_answers_have_the_documented_fields(example: Example, route: Route) -> None:
    """An answer shown has the fields that the document gives its type, no more, and every one that is required."""
    kind = route.answers[example.status]
    if get_origin(kind) is list:
        kind, values = get_args(kind)[0], [item for item in example.answer["jobs"] if set(item) != {"error"}]
    else:
        values = [example.answer]
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return

    schema = DOCUMENT["components"]["schemas"][kind.__name__]
    assert values
    for value in values:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"])
