"""Work that the ticker does in slices, since it would take too long in one step."""

from __future__ import annotations

from collections.abc import Iterator


class Chore:
    """Long work that the ticker does in slices. work: yields how much each slice looked at; queue: the queue whose jobs may be available
    when it is done.
    """

    __slots__ = ("queue", "work")

    def __init__(self, work: Iterator[int], queue: str | None) -> None:
        self.work = work
        self.queue = queue
