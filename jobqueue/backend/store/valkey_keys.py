"""The keys of a store in Valkey. What is in braces decides the slot of a key, so all keys of one partition are in one slot."""

from __future__ import annotations

from typing import NamedTuple


class Keys(NamedTuple):
    """The keys of one store. name: what they all begin with, after the brace."""

    name: str

    @property
    def meta(self) -> str:
        """A hash: `format` and `usable_from` of the rows, and `partitions`, how many there are."""
        return f"{{{self.name}}}:meta"

    @property
    def members(self) -> str:
        """The servers: see valkey.lua."""
        return f"{{{self.name}}}:members"

    def of(self, index: int) -> str:
        """What all keys of a partition begin with."""
        return f"{{{self.name}{index}}}:"

    def owner(self, index: int) -> str:
        """A partition's owner: see valkey.lua."""
        return f"{self.of(index)}o"

    def attempt(self, index: int) -> str:
        """A key of a partition that nothing else uses, to try what the user can do."""
        return f"{self.of(index)}try"

    def meta_of(self, index: int, count: int) -> str:
        """The hash from which the next owner of a partition, one of `count`, learns the format. Each of several partitions has its own, so
        that it needs no primary but its own.
        """
        return self.meta if count == 1 else f"{self.of(index)}meta"
