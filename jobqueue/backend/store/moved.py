"""The error between servers by which a request finds its way to the owner of the moment."""

from __future__ import annotations

from jobqueue.errors import StorageUnavailable


class Moved(StorageUnavailable):
    """Whoever was asked does not serve the queue now, or cannot be reached, and has changed nothing: ask whoever owns it.

    A server raises it that is not the owner, or not yet, or not any more; a RemoteBackend too, when its link is not there or breaks
    before the request was sent, and for whatever changes nothing (reads, held dequeues, waits, listeners) when it breaks later. A client
    that sees it all the same is told that the storage is unavailable.
    """
