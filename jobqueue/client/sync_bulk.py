"""What `Client` can do with many jobs. Made from `async_bulk.py` by `python -m tests.client.generate`: change that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jobqueue.client import tasks
from jobqueue.client.sending import encoded, once, place
from jobqueue.client.sync_transport import SyncTransport
from jobqueue.client.tasks import Bulk, BulkAsked, Redrive, Task, Wanted, edit_of
from jobqueue.model import Outcome, Status


class SyncBulk(SyncTransport):
    """Operations on many jobs. AsyncClient describes what is common to all operations."""

    def bulk(
        self,
        action: str,
        *,
        status: Status | str | None = None,
        outcome: Outcome | str | None = None,
        queue: str | None = None,
        type: str | None = None,
        key: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        error: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        retrying: bool | None = None,
        error_group: str | None = None,
        edit: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        progress: Callable[[Bulk], object] | None = None,
    ) -> Bulk:
        """Do one operation on every job that matches all given filters and exists when this begins. At least one filter is required.

        action: str, `cancel`, `retry`, `edit` or `forget`, each as for one job, on jobs for which it is possible; `forget` removes
        concluded jobs from history.
        status, outcome, queue, type, key, tag, worker, error, error_group, created_after, created_before, retrying: which jobs, as for
        `jobs`.
        edit: for edit, a dict of what to change, by the parameters of `edit`: {"priority": 1}.
        dry_run: bool, whether to only count the matching jobs.
        progress: called with the totals so far after each request, of about a thousand jobs.

        Returns Bulk. Changes that were made before an error are not undone. Raises TooLarge.
        """
        wanted = Wanted(
            status=status,
            outcome=outcome,
            queue=queue,
            type=type,
            key=key,
            tag=tag,
            worker=worker,
            error=error,
            created_after=created_after,
            created_before=created_before,
            retrying=retrying,
            error_group=error_group,
        )
        change, cursor = edit_of(edit), None
        found = Bulk(matched=0, done=0, refused={})
        while True:
            body = encoded(BulkAsked(action, wanted, change, dry_run, cursor))
            part = self._run(once("POST", "/jobs/bulk", tasks.bulk_part, body, idempotent=dry_run))
            found, cursor = part.added(found), part.cursor
            if progress is not None:
                progress(found)
            if cursor is None:
                return found

    def redrive(
        self,
        name: str,
        *,
        to: str | None = None,
        rate: float | None = None,
        type: str | None = None,
        key: str | None = None,
        tag: str | None = None,
        error: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        error_group: str | None = None,
        dry_run: bool = False,
        as_new: bool = False,
    ) -> Task:
        """Start to move the dead letters that wait in this queue back to the queues where they failed. Each starts again, as after a
        retry.

        to: str, another queue to move all of them to. Jobs for which there is no room stay.
        rate: float, jobs per second; without it, as fast as possible.
        type, key, tag, error, error_group, created_after, created_before: filters, as for `jobs`.
        dry_run: bool, whether to only count them, in `total`.
        as_new: bool, whether each becomes a new job, with a new id and age, unless it belongs to a group, a schedule or another job.

        Returns Task, which runs in the server: `task` returns its progress. Raises UnknownQueue, TooManyTasks.
        """
        wanted = Wanted(
            type=type,
            key=key,
            tag=tag,
            error=error,
            created_after=created_after,
            created_before=created_before,
            error_group=error_group,
        )
        body = encoded(Redrive(to, rate, wanted, dry_run, as_new))
        return self._run(once("POST", place("queues", name, "/redrive"), tasks.task, body, idempotent=dry_run))

    def tasks(self) -> list[Task]:
        """Every task that runs, and the most recent that ended, newest first.

        Returns a list of Task.
        """
        return self._run(once("GET", "/tasks", tasks.tasks))

    def task(self, task_id: str) -> Task:
        """Return a task. task_id: its id.

        Returns Task. Raises UnknownTask.
        """
        return self._run(once("GET", place("tasks", task_id), tasks.task))

    def cancel_task(self, task_id: str) -> Task:
        """End a task. What it has done is not undone; a task that has ended stays as it is. task_id: its id.

        Returns Task. Raises UnknownTask.
        """
        return self._run(once("DELETE", place("tasks", task_id), tasks.task))
