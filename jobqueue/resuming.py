"""Continues a coroutine in a task that was started outside one."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


@types.coroutine
def resumed(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Continue, in a task, a coroutine that was run to its first suspension outside one. `waits_for` is what it yielded there.

    Before that suspension, the coroutine must not have used the current task. The type does not say what it returns, since type checkers
    disagree about a variable that `types.coroutine` passes on.
    """
    while True:
        try:
            value = yield waits_for
        except BaseException as error:
            step: Callable[[Any], Any] = begun.throw
            given: Any = error
        else:
            step, given = begun.send, value
        try:
            waits_for = step(given)
        except StopIteration as stop:
            return stop.value
        finally:
            # An exception kept here would hold this frame, which holds the exception: a cycle for every client that disconnects.
            del given
