"""Which live jobs are after which others, and which of these edges each of them has counted.

Only numbers and ids: a job that is concluded, retried or replaced by another object (follow.py) keeps its edges. An edge exists from the
child's enqueue to the child's end, so that the parent's result is available whenever the child is handed out.

Most parents have one child, so a single child is stored as an int: its number, negative once it has counted the edge. Several are stored as
a dict, by number. An edge costs about 100 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable


class Edges:
    """Edges from parents, by id, to children, by number. count: the number of edges; held: the number of edges that waiting children have
    not counted.
    """

    __slots__ = ("children", "count", "held")

    def __init__(self) -> None:
        self.children: dict[str, int | dict[int, bool]] = {}
        """For each parent: its children, and whether they have counted the edge."""
        self.count = 0
        self.held: dict[int, int] = {}

    def add(self, child: int, parents: Iterable[str]) -> None:
        """Add edges from a job's parents; none of them is counted."""
        for parent in parents:
            known = self.children.get(parent)
            if known is None:
                self.children[parent] = child
            elif isinstance(known, int):
                self.children[parent] = {abs(known): known < 0, child: False}
            else:
                known[child] = False
            self.count += 1

    def drop(self, child: int, parents: Iterable[str]) -> list[str]:
        """Remove the edges of a job that is no longer live; returns the parents that have no child now."""
        alone = []
        self.held.pop(child, None)
        for parent in parents:
            known = self.children.get(parent)
            if known is None:
                continue
            if isinstance(known, int):
                if abs(known) != child:
                    continue
                del self.children[parent]
                alone.append(parent)
            elif known.pop(child, None) is None:
                continue
            elif not known:
                del self.children[parent]
                alone.append(parent)
            self.count -= 1
        return alone

    def of(self, parent: str) -> list[int]:
        """The children of a job, in the order in which they were added."""
        known = self.children.get(parent)
        return [] if known is None else [abs(known)] if isinstance(known, int) else list(known)

    def counted(self, parent: str, child: int) -> bool:
        """Whether a child has counted this edge."""
        known = self.children[parent]
        return known < 0 if isinstance(known, int) else known[child]

    def mark(self, parent: str, child: int, counted: bool) -> None:
        """Mark an edge as counted by the child, or not."""
        known = self.children[parent]
        if isinstance(known, int):
            self.children[parent] = -child if counted else child
        else:
            known[child] = counted
