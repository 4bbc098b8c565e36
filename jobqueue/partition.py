"""Which partition a queue is in, and which one decides who has an id.

A store can be divided into partitions. Each has an engine, an owner and rows of its own; together they are one queue server to clients.
Queues whose names are the same up to the first colon are in the same partition, so that what must be together can be named so: `mail`,
`mail:dead`, `mail:high`. The home of a job's id is the partition that decides which job has it. Both follow from the name, or the id, and
the number of partitions alone, so they are the same in every server and every version; with one partition, both are 0.
"""

from __future__ import annotations

import re
from binascii import crc_hqx

import msgspec

from jobqueue.errors import StorageUnavailable

PARTITIONS_MAX = 128

NODE_MASK = 0x3FFF
"""The fourteen bits of an id that we make which name its partition: those after the variant."""


class Place(msgspec.Struct, frozen=True):
    """Which partition an engine runs, and of how many: `index` is from 0 to `count` - 1."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> int:
        """The first number that this partition gives out; the others follow in steps of `count`."""
        return self.index + 1

    def number_from(self, least: int) -> int:
        """The least number of this partition that is not below `least`."""
        return least + (self.first - least) % self.count


ALONE = Place()

_OURS = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def crc16(text: bytes) -> int:
    """CRC-16/XMODEM, with which Valkey Cluster hashes keys, too."""
    return crc_hqx(text, 0)


def slot_of(queue: str) -> int:
    """The slot of a queue, from 0 to 16,383: the one that its name up to the first colon has as a key in a Valkey Cluster.

    An id that has this slot in its fourteen bits has the queue's partition as its home, however many partitions there are.
    """
    return crc16(queue.partition(":")[0].encode("utf-8", "surrogatepass")) & NODE_MASK


def partition_of(queue: str, count: int) -> int:
    """The partition of a queue, of `count`."""
    return slot_of(queue) % count


def is_ours(job_id: str) -> bool:
    """Whether an id looks like one that we make."""
    return len(job_id) == 36 and _OURS.fullmatch(job_id) is not None


def home_of(job_id: str, count: int) -> int:
    """The partition that decides which job has this id, of `count`. The ids that a partition makes have it as their home.

    Whatever looks like such an id is treated as one: a client can choose an id so that a certain partition is its home, which harms nobody.
    """
    if is_ours(job_id):
        return (int(job_id[19:23], 16) & NODE_MASK) % count
    return crc16(job_id.encode("utf-8", "surrogatepass")) % count


def partition_of_number(number: int, count: int) -> int:
    """The partition that gave out this number, of `count`; in a store that was moved from another count, a guess."""
    return (number - 1) % count


class ClaimVoid(StorageUnavailable):
    """Between servers: another partition may have this id, so no job was made. The server that sent the enqueue finds out, and enqueues
    again; only if that keeps failing does a client see this, as a StorageUnavailable.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"which job has the id {job_id!r} is being decided; nothing was changed, try again")
