"""What the clients can do with jobs' logs, for asyncio: each operation, what it takes, sends, answers and raises.

`sync_logs.py` is made from this file by `python -m tests.client.generate`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from jobqueue.client import calls, reading
from jobqueue.client.async_transport import AsyncTransport
from jobqueue.client.log_types import LoggedLine, LogLine, LogPage, LogState
from jobqueue.client.retrying import WAIT_SECONDS
from jobqueue.client.sending import Log, encoded, once, place


class AsyncLogs(AsyncTransport):
    """Operations on jobs' logs. AsyncClient describes what is common to all operations."""

    async def log(self, job_id: str, lease: str, lines: Sequence[str | LogLine], *, offset: int | None = None) -> LogState:
        """Add lines to a job's log. You can also send them with an extend or a conclude.

        job_id, lease: as conclude.
        lines: up to 1000, each a LogLine or a str of up to 4096 characters. If a log exceeds 64 KiB, its oldest lines are dropped.
        offset: int, how many lines were sent under this lease before these: the server ignores lines that it already has. Without it all
        lines are added, and a request whose answer was lost is not sent again.

        Returns LogState. Raises LeaseLost, NotInProgress, UnknownJob, QueueFull (the server's limit of bytes is reached).
        """
        body = encoded(Log(lease, lines, offset))
        return await self._run(once("POST", place("jobs", job_id, "/log"), reading.log_state, body, idempotent=offset is not None))

    async def log_page(self, job_id: str, *, after: int = 0, limit: int | None = None, wait: float = 0.0) -> LogPage:
        """A page of a job's log.

        job_id: the job's id; after: int, only lines after the line with this number; limit: int from 1 to 1000, the most lines. wait: if
        there are no lines, seconds to wait for lines or for the job's end; any length, math.inf for ever.

        Returns LogPage. Raises UnknownJob, TooManyWaiters.
        """
        return await self._run(calls.log_page(job_id, after, limit, wait))

    async def logs(self, job_id: str, *, follow: bool = False, after: int = 0) -> AsyncIterator[LoggedLine]:
        """The lines of a job's log, one by one.

        job_id: the job's id; follow: bool, whether to wait for new lines until the job is concluded; after: int, only lines after the
        line with this number.

        Returns an iterator of LoggedLine (AsyncClient: for `async for`). Raises UnknownJob, TooManyWaiters.
        """
        while True:
            page = await self.log_page(job_id, after=after, wait=WAIT_SECONDS if follow else 0.0)
            for line in page.lines:
                yield line
            after = page.after
            if page.ended or not (page.lines or follow):
                return
