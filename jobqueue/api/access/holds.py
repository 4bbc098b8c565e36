"""Requests that are held open, which are asked for their token again whenever the tokens change.

A request is let in once. One that then waits, or streams, would go on with a token that is gone. So while it is suspended it is noted
here, and when the tokens are read anew those whose token no longer allows what they do are ended: as if their client had hung up, which
every handler can stand at any time, and with the answer that they would get now. What is being handed over already is not taken back:
`Request.answering` says so.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from jobqueue.api.access.grants import Grant, Scope
from jobqueue.errors import Forbidden, QueueError, Unauthorized
from jobqueue.http.request import Request

T = TypeVar("T")


class Hold:
    """A held request. grant: what it was let in with; scope: what it needs."""

    __slots__ = ("_refusal", "_waits_for", "grant", "request", "scope")

    def __init__(self, request: Request, grant: Grant, scope: Scope) -> None:
        self.request = request
        self.grant = grant
        self.scope = scope
        self._refusal: QueueError | None = None
        self._waits_for: Any = None

    def ask(self, grant: Grant | None) -> None:
        """Go on if the request's token, which now allows `grant`, allows it still; else end it."""
        refusal = self._refused(grant)
        if refusal is None or self._refusal is not None or self.request.answering:
            return
        self._refusal, self.request.revoked = refusal, True
        # Where that is done already, the exception is thrown when the request goes on.
        self._waits_for.cancel()

    def _refused(self, grant: Grant | None) -> QueueError | None:
        if grant is None:
            return Unauthorized("the server does not know this token any more")
        if self.scope not in grant.scopes:
            return Forbidden(f"the token {grant.name} does not have the scope {self.scope} any more")
        if grant.queues == self.grant.queues or not grant.queues:
            return None
        queues = self.request.queues
        if queues is None or not all(map(grant.sees, queues)):
            return Forbidden(f"the token {grant.name} may not use every queue of this request any more")
        return None

    @types.coroutine
    def over(self, work: Awaitable[T], held: set[Hold]) -> Generator[Any, Any, T]:
        """Run `work`, a coroutine, in `held` while it is suspended. Raises Unauthorized and Forbidden in the place of what ended it."""
        running: Any = work
        try:
            self._waits_for = running.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return] # what the coroutine returns
        held.add(self)
        try:
            while True:
                step = running.throw
                try:
                    given = yield self._waits_for
                except BaseException as error:
                    given = error
                else:
                    if self._refusal is None:
                        step = running.send
                    else:
                        given = asyncio.CancelledError()
                try:
                    self._waits_for = step(given)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return] # as above
                finally:
                    # Kept here, an exception would hold this frame, which holds it.
                    del given
        except asyncio.CancelledError:
            if self._refusal is None:
                raise
            raise self._refusal from None
        finally:
            held.discard(self)
            self._waits_for = None
