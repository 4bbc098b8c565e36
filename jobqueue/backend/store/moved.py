"""The error between servers that redirects a request to the current owner."""

from __future__ import annotations

from jobqueue.errors import StorageUnavailable


class Moved(StorageUnavailable):
    """The server that was asked does not serve the queue now, or cannot be reached, and has changed nothing: ask the owner.

    Raised by a server that is not the owner, not yet, or no longer. Also raised by a RemoteBackend, if its link is missing or breaks before
    the request was sent, and, if the link breaks later, for requests that change nothing (reads, held dequeues, waits, listeners). If it
    reaches a client, the client is told that the storage is unavailable.
    """
