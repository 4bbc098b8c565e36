"""The dialect's entry point: which action a request asks for, in which protocol, with which token.

All actions have the same path. The action is in a header (JSON) or among the parameters (Query), for which the body must be read first.
Each action has its own Route, so scopes, rates and metrics are by action, as in the other APIs.

**Tokens.** SDKs sign requests: they send an access key id, a session token if they have one, and a signature, but never the secret. The
session token, or else the access key id, is used as the server's token. The signature is not checked: that would need the secrets
themselves, while the server stores only hashes. Credentials in a URL or a form are refused, since URLs end up in logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import msgspec
from multidict import istr

from jobqueue.api.dialects.base import Dialect, Ignored
from jobqueue.api.dialects.sqs import json, query
from jobqueue.api.dialects.sqs.call import ACCOUNT, Call, Speech, Spoken, name_of, new_id
from jobqueue.api.dialects.sqs.errors import SqsError, denied, invalid_action, missing, no_credentials, translated
from jobqueue.api.dialects.sqs.table import ACTIONS, Action
from jobqueue.api.problems import MethodNotAllowed, Problem, Shape
from jobqueue.api.routes import BETWEEN, Handler, Route, Scope
from jobqueue.api.site import Site
from jobqueue.errors import QueueError, Unauthorized
from jobqueue.http.answers import Answer
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.heads import CONTENT_TYPE, Fields
from jobqueue.http.request import Request

NAME = "sqs"

_TARGET = istr("X-Amz-Target")
_SESSION = istr("X-Amz-Security-Token")
_INVOCATION = istr("amz-sdk-invocation-id")
_INVOCATION_ID = re.compile("[!-~]{1,128}")
_FORM = "application/x-www-form-urlencoded"
_SCOPE_SEGMENTS = 4
"""The parts of a credential after the access key id: date, region, service, and its purpose."""

_IN_THE_OPEN = frozenset({"X-Amz-Credential", "X-Amz-Signature", "X-Amz-Security-Token", "AWSAccessKeyId", "Signature", "SecurityToken"})
"""Parameters that contain credentials: presigned URLs, and signatures of version 2."""

_ABOUT = "Actions of Amazon SQS, in its JSON or its Query protocol. docs/dialects.md lists the actions and what each does on this server."


def _token(fields: Fields) -> str | None:
    """The token in a request's credentials, None if it has none or uses Bearer."""
    given = fields.authorization
    if given is None or not given.startswith("AWS4-"):
        return None
    session = fields.headers.get(_SESSION)
    if session:
        return session
    _, _, credential = given.partition("Credential=")
    return credential.partition(",")[0].strip().rsplit("/", _SCOPE_SEGMENTS)[0]


def _protocol(request: Request) -> Speech:
    """The protocol in which to answer a request."""
    headers = request.head.fields.headers
    if request.head.method != "POST":
        return "query"
    kind = headers.get(CONTENT_TYPE, "")
    if "json" in kind:
        return "json"
    # A form can have an X-Amz-Target header of another service's form (Amazon::SQS::Simple); and a body declared as a form can be JSON
    # (curl -d).
    target = headers.get(_TARGET, "")
    return "json" if target.startswith(json.TARGET) or (target and not kind.startswith(_FORM)) else "query"


def _spoken(request: Request) -> Spoken:
    """The recorded properties of a request."""
    found = request.spoken
    if found is None:
        fields = request.head.fields
        invocation = fields.headers.get(_INVOCATION)
        if invocation is not None and _INVOCATION_ID.fullmatch(invocation) is None:
            invocation = None
        found = request.spoken = Spoken(
            _protocol(request),
            request.id or new_id(),
            # It may not be UTF-8; then any host will do.
            (fields.host or "localhost").encode("utf-8", "replace").decode(),
            signed=fields.authorization is not None,
            invocation=invocation,
        )
    return found  # type: ignore[no-any-return] # other dialects store other objects


async def _body(site: Site, request: Request) -> bytes:
    """A request's body, of any declared type: its origin was checked before."""
    bytes_max = site.limits.body_bytes_max
    body = body_at_once(request, bytes_max, any_type=True)
    return await read_body(request, bytes_max, any_type=True) if body is None else body


class Mount:
    """The dialect behind one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.actions = {action.name: _route(prefix, action) for action in ACTIONS}
        self.targets = {json.TARGET + name: route for name, route in self.actions.items()}

    def routes(self) -> list[Route]:
        """The paths of the dialect."""
        places = [self.prefix or "/", *([f"{self.prefix}/"] if self.prefix else []), f"{self.prefix}/{{account}}/{{queue}}"]
        return [self._place(method, place) for place in places for method in ("POST", "GET")]

    def _place(self, method: str, path: str) -> Route:
        route = _place(method, path)
        route.beneath = tuple(self.actions.values())
        route.actions = partial(self._choose, route)
        return route

    async def _choose(self, place: Route, site: Site, request: Request, argument: str) -> Route | None:
        """The route of the action that a request asks for. If it asks for none, the path's own route, with the refusal recorded; None if
        the path does not exist. Raises SqsError.
        """
        method, fields = request.head.method, request.head.fields
        spoken = _spoken(request)
        if argument:
            account, between, queue = argument.rpartition(BETWEEN)
            if between and not (account.isascii() and account.isdigit()):
                # At the root it can be any path of two segments.
                return None
            spoken.queue = queue
        if method == "GET" and fields.authorization is None:
            # A page could make a browser send this, as the address of an image.
            raise no_credentials()
        if site.secured:
            token = _token(fields)
            if token is not None:
                request.head = msgspec.structs.replace(
                    request.head, fields=msgspec.structs.replace(fields, authorization=f"Bearer {token}")
                )
        if spoken.protocol == "json":
            target = fields.headers.get(_TARGET, "")
            route = self.targets.get(target)
            if route is None:
                spoken.refusal = invalid_action(f"The action {target[:100]} is not valid for this endpoint.")
            return route or place
        return await self._by_parameters(site, request, spoken) or place

    async def _by_parameters(self, site: Site, request: Request, spoken: Spoken) -> Route | None:
        head = request.head
        if site.secured:
            try:
                site.grant_of(request)
            except Unauthorized:
                # Requests with an unknown token are refused before the body is read, where all others are refused.
                return None
        pairs: Sequence[tuple[str, str]] = []
        try:
            if "?" in head.path:
                pairs = query.pairs_of(head.path.partition("?")[2])
            if head.method == "POST":
                body = await _body(site, request)
                # Values that are still needed after a request that waits has released its headers.
                request.head = head
                pairs = [*pairs, *query.pairs_of(body.decode())]
        except SqsError as error:
            spoken.refusal = error
            return None
        spoken.pairs = pairs
        name = ""
        for parameter, value in pairs:
            if parameter == "Action":
                name = value
            elif parameter in _IN_THE_OPEN and not (parameter == "AWSAccessKeyId" and spoken.signed):
                # A name alone is ignored if there are credentials in a header.
                spoken.refusal = denied("Credentials are taken from headers alone, neither from a URL nor from a form.")
                return None
        if not name:
            spoken.refusal = missing("Action")
            return None
        route = self.actions.get(name)
        if route is None:
            spoken.refusal = invalid_action(f"The action {name[:100]} is not valid for this endpoint.")
        return route


async def _refuse(site: Site, request: Request, argument: str) -> Answer:
    """Answer a request that asks for no action."""
    raise _spoken(request).refusal or invalid_action("The request asks for no action.")


def _route(prefix: str, action: Action) -> Route:
    route = Route("POST", f"{prefix or '/'} {action.name}", _handler(action), action.scope, action.name, query=Ignored)
    route.held = action.held
    return route


@cache
def _handler(action: Action) -> Handler:
    from_json, from_query = json.Decoder(action.given), query.Decoder(action.given)
    names_queue = "QueueUrl" in action.given.__struct_fields__
    handle, xml = action.handler, partial(query.answer, action.name)

    async def serve(site: Site, request: Request, argument: str) -> Answer:
        spoken: Spoken = request.spoken
        written: Callable[[Any, Spoken], Answer]
        if spoken.protocol == "json":
            given, written = from_json(await _body(site, request)), json.answer
        else:
            given, written = from_query(spoken.pairs), xml
        if names_queue and given.QueueUrl:
            spoken.queue = name_of(given.QueueUrl)
        result = await handle(Call(site, request, spoken, written), given)
        return result if isinstance(result, Answer) else written(result, spoken)

    return serve


def _failed(error: QueueError, request: Request) -> Answer:
    """The answer to a request that failed, in the request's protocol."""
    spoken = _spoken(request)
    # The properties may only be recorded now, since the request failed early.
    spoken.id = request.id or spoken.id
    said = no_credentials() if isinstance(error, Unauthorized) and not spoken.signed else translated(error)
    answer = json.failure(said, spoken) if spoken.protocol == "json" else query.failure(said, spoken)
    if said.retry_after is not None:
        answer.add_header(b"Retry-After: %d\r\n" % said.retry_after)
    if isinstance(error, MethodNotAllowed):
        answer.add_header(f"Allow: {', '.join(error.allow)}\r\n".encode())
    answer.close = said.status in (408, 505)
    return answer


def _place(method: str, path: str) -> Route:
    route = Route(method, path, _refuse, Scope.KNOWN, "Call an action of the Amazon SQS API", query=Ignored, answers={200: dict[str, Any]})
    route.about = _ABOUT
    return route


def _routes(prefix: str) -> list[Route]:
    return Mount(prefix).routes()


def _at_the_root(routes: Sequence[Route]) -> list[Route]:
    """Additional paths at the root, for clients that are configured with a host only, or that keep only the host of a QueueUrl."""
    found = [_place("POST", "/"), _place("POST", f"/{ACCOUNT}/{{queue}}")]
    for route in found:
        route.guest = True
        route.actions, route.beneath = routes[0].actions, routes[0].beneath
    return found


def _encode(problem: Problem) -> bytes:
    """For the API's document only: errors are written by `_failed`."""
    return msgspec.json.encode(json.JsonError(f"com.amazonaws.sqs#{problem.code}", problem.detail))


SQS = Dialect(NAME, _routes, Shape(_encode, json.MEDIA, _failed), json.JsonError, _at_the_root)
