"""What `Client` can ask a server. Made from `async_server.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

from typing import Any

from jobqueue.client import error_types, history_types, reading
from jobqueue.client.error_types import ErrorGroup
from jobqueue.client.history_types import History
from jobqueue.client.sending import once, place, query
from jobqueue.client.sync_transport import SyncTransport
from jobqueue.client.types import Stats, Token


class SyncServer(SyncTransport):
    """Operations on the server itself. AsyncClient describes what is common to all operations."""

    def token(self) -> Token:
        """The permissions of this client's token. Every valid token can use this.

        Returns Token.
        """
        return self._run(once("GET", "/token", reading.token))

    def stats(self) -> Stats:
        """What the server holds in total, the state of its storage, and, with a store, its view of the other servers. Works also while
        there is no owner. Raises Forbidden for a token that is limited to some queues.

        Returns Stats.
        """
        return self._run(once("GET", "/stats", reading.stats))

    def history(self, queue: str | None = None, *, span: str = "hour", limit: int | None = None) -> History:
        """What a queue counted and held over the last hour or day, or without a name all queues together that the token may see.

        span: "hour", in steps of 10 s, or "day", in steps of 5 min; limit: int, only so many of the last steps.

        Returns History. Raises UnknownQueue.
        """
        path = "/history" if queue is None else place("queues", queue, "/history")
        return self._run(once("GET", query(path, span=None if span == "hour" else span, limit=limit), history_types.history))

    def errors(self, *, queue: str | None = None, limit: int | None = None) -> list[ErrorGroup]:
        """Failed attempts, counted by what went wrong: by type of error and first line. Those first that were met last.

        queue: str, only those of this queue. limit: int from 1 to 1000, groups at most; without it 100.

        Returns a list of ErrorGroup. Raises UnknownQueue.
        """
        return self._run(once("GET", query("/errors", queue=queue, limit=limit), error_types.errors))

    def metrics(self) -> str:
        """The server's counts in the text format of Prometheus.

        Returns str.
        """
        return self._run(once("GET", "/metrics", reading.text))

    def openapi(self) -> dict[str, Any]:
        """The server's OpenAPI 3.1 document, with its bounds.

        Returns a dict.
        """
        return self._run(once("GET", "/openapi.json", reading.document))

    def healthy(self) -> bool:
        """Whether the server is alive. Sent once; needs no token. With several servers: whether one of them is.

        Returns bool; False also when no answer came.
        """
        return self._asks(once("GET", "/healthz", reading.yes, idempotent=False))

    def ready(self) -> bool:
        """Whether the server accepts new work. Sent once; needs no token. With several servers: whether one of them does.

        Returns bool; False while it shuts down, and when no answer came.
        """
        return self._asks(once("GET", "/readyz", reading.yes, idempotent=False))
