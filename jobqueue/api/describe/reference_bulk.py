"""Notes on bulk operations, redrives and tasks; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.api.describe import reference_errors
from jobqueue.limits import REDRIVE_RATE_MAX, REDRIVE_RATE_MIN, Limits


def notes(limits: Limits) -> dict[str, dict[str, Any]]:
    """Their fields."""
    said = {
        "BulkBody.action": "What is done to each job, as by the operation on one job. `forget` removes concluded jobs from history.",
        "BulkBody.filter": "Which jobs: those that match all its fields and for which the action is possible. It must not be empty.",
        "BulkBody.edit": "For `edit`: what to change, as for one job.",
        "BulkBody.dry_run": "true: only count the matching jobs.",
        "BulkBody.cursor": "Where to continue: the `cursor` of the answer before. All other fields must be the same as in that request.",
        "BulkView.matched": "Jobs of this part that match.",
        "BulkView.done": "How many of these were changed; 0 in a dry run.",
        "BulkView.refused": "How many were left unchanged, by error code. `pinned`: not forgotten, since the job halts its key or other "
        "jobs wait for it.",
        "BulkView.cursor": "The cursor of the next part; null at the end.",
        "BulkFilter.outcome": "Only jobs with this outcome.",
        "ListQuery.retrying": f"Only jobs {RETRYING}.",
        "TasksView.tasks": "Tasks that run, and the most recent that ended.",
        "RedriveBody.to": "The queue to move them to; without it, each goes back to the queue where it failed.",
        "RedriveBody.filter": "Only dead letters that match; without it, all.",
        "RedriveBody.dry_run": "true: only count them, in `total`, and move none.",
        "RedriveBody.as_new": "true: make each a new job, with a new id and number, created when it is moved. A job that a group, a "
        "schedule or another job knows by its id keeps it.",
        "TaskView.id": "The task's id; empty for a dry run, which starts no task.",
        "TaskView.kind": "What the task does.",
        "TaskView.queue": "The queue whose jobs it moves.",
        "TaskView.to": "The queue that they go to; null: each goes back to the queue where it failed.",
        "TaskView.rate": "Jobs per second; null for no limit.",
        "TaskView.state": "`running`, or how it ended.",
        "TaskView.total": "How many jobs it covers: those that were there when it began.",
        "TaskView.done": "How many of them are done. At the end, the others were no longer there, or there was no room for them.",
        "TaskView.error": "Why it failed; null if it did not.",
    }
    only = {
        "status": "of this status",
        "queue": "of this queue",
        "worker": "that this worker has, or had last",
        "retrying": RETRYING,
        **_SOME,
    }
    for name, text in only.items():
        said[f"BulkFilter.{name}"] = f"Only jobs {text}."
    for name, text in _SOME.items():
        said[f"LetterFilter.{name}"] = f"Only jobs {text}."
    shown: dict[str, dict[str, Any]] = {name: {"description": text} for name, text in said.items()}
    for name, text in (("started_at", "When it began."), ("ended_at", "When it ended; null while it runs.")):
        shown[f"TaskView.{name}"] = {"description": f"{text} RFC 3339, UTC, milliseconds.", "format": "date-time"}
    shown["RedriveBody.rate"] = {
        "description": "Jobs per second; null for no limit.",
        "minimum": REDRIVE_RATE_MIN,
        "maximum": REDRIVE_RATE_MAX,
    }
    return {**shown, **reference_errors.notes(limits)}


RETRYING = "that were attempted and wait for their next attempt; with false, only the others"

_SOME = {
    "type": "of this type",
    "key": "of this key",
    "tag": "that have this tag",
    "error": "whose last error contains this in its JSON; case-sensitive",
    "created_after": "created at this time or later: RFC 3339 with an offset",
    "created_before": "created before this time: RFC 3339 with an offset",
}

OPERATIONS: dict[str, str] = {
    "POST /jobs/{id}/forget": "The payload, result, errors and log are removed too, in one commit. The id can be used again. This cannot "
    "be undone. The answer is the job as it was. A job that halts its key, or that waiting jobs are after, is refused.",
    "POST /jobs/bulk": "Examines a bounded number of jobs, in the order of their creation, and answers with the cursor of the next part. "
    "Repeat the request with it until it is null. Jobs created after the first request are not examined. A token limited to some queues "
    "must name one.",
    "POST /queues/{name}/redrive": "Moves, as a task, the dead letters that wait in the queue when it begins. Each starts again, as after "
    "a retry; those for which there is no room stay. A token that is limited to some queues must give `to`.",
    "GET /tasks": "With a data file or a store, a task continues after a restart and after a takeover.",
    "DELETE /tasks/{id}": "What it has done is not undone. A task that has ended stays as it is.",
}
