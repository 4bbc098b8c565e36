"""An event loop that runs one turn at a time and knows when nothing is left to run."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any


class TurnLoop(asyncio.SelectorEventLoop):
    """A real event loop, driven by hand. It has no timers: time is a ManualClock's, advanced in callbacks of its own.

    errors: what callbacks and forgotten tasks raised.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self._calls_soon = 0
        self.set_exception_handler(lambda _, context: self.errors.append(f"{context['message']}: {context.get('exception')!r}"))

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        """See asyncio; counts."""
        self._calls_soon += 1
        return super().call_soon(callback, *args, context=context)

    def turn(self) -> bool:
        """Run everything that is scheduled now, and nothing that this schedules; whether something is left."""
        before = self._calls_soon
        super().call_soon(self.stop)
        self.run_forever()
        return self._calls_soon > before

    def idle(self) -> None:
        """Run turns until nothing is left."""
        while self.turn():
            pass
