"""Held requests, whose tokens are checked again whenever the tokens change.

A request is admitted once. If it then waits or streams, it would continue with a token that has been revoked. So while it is suspended it
is registered here. When the tokens are read again, requests whose token no longer permits what they do are ended: as if the client had
disconnected, which every handler must tolerate at any time, and with the error that they would get now. An answer that is already being
handed over is not withdrawn: `Request.answering` shows that.
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
    """A held request. grant: the permissions with which it was admitted; scope: the scope that it needs."""

    __slots__ = ("_refusal", "_waits_for", "grant", "request", "scope")

    def __init__(self, request: Request, grant: Grant, scope: Scope) -> None:
        self.request = request
        self.grant = grant
        self.scope = scope
        self._refusal: QueueError | None = None
        self._waits_for: Any = None

    def ask(self, grant: Grant | None) -> None:
        """Let the request continue if its token, which now has `grant`, still permits it; otherwise end it."""
        refusal = self._refused(grant)
        if refusal is None or self._refusal is not None or self.request.answering:
            return
        self._refusal, self.request.revoked = refusal, True
        # If it is already being ended, the exception is thrown when the request continues.
        self._waits_for.cancel()

    def _refused(self, grant: Grant | None) -> QueueError | None:
        if grant is None:
            return Unauthorized("the server no longer knows this token")
        if self.scope not in grant.scopes:
            return Forbidden(f"the token {grant.name} no longer has the scope {self.scope}")
        if grant.queues == self.grant.queues or not grant.queues:
            return None
        queues = self.request.queues
        if queues is None or not all(map(grant.sees, queues)):
            return Forbidden(f"the token {grant.name} no longer gives access to every queue of this request")
        return None

    @types.coroutine
    def over(self, work: Awaitable[T], held: set[Hold]) -> Generator[Any, Any, T]:
        """Run `work`, a coroutine, and register it in `held` while it is suspended. If it was ended here, raises Unauthorized or Forbidden
        instead.
        """
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
                    # Storing the exception here would create a reference cycle with this frame.
                    del given
        except asyncio.CancelledError:
            if self._refusal is None:
                raise
            raise self._refusal from None
        finally:
            held.discard(self)
            self._waits_for = None
