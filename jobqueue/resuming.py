"""How a request that was begun outside a task is carried on with in one."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from jobqueue.http.answers import Answer

Serving = Coroutine[Any, Any, Answer]
"""A handler at work."""


@types.coroutine
def resumed(serving: Serving, waits_for: Any) -> Generator[Any, Any, Answer]:
    """Carry on, in a task, with a coroutine that was run to its first suspension outside one. `waits_for` is what it yielded there.

    Such a coroutine must not have asked for the current task before.
    """
    while True:
        try:
            value = yield waits_for
        except BaseException as error:
            step: Callable[[Any], Any] = serving.throw
            given: Any = error
        else:
            step, given = serving.send, value
        try:
            waits_for = step(given)
        except StopIteration as stop:
            return cast(Answer, stop.value)
        finally:
            # An exception kept here would hold this frame, which holds the exception: a cycle for every client that hangs up.
            del given
