"""Notes on `after` and groups; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.limits import NAME, Limits

Notes = dict[str, dict[str, Any]]


def notes(limits: Limits) -> Notes:
    """Fields of jobs that are after others, and of groups."""
    return _jobs(limits) | _groups(limits)


def _jobs(limits: Limits) -> Notes:
    return {
        "after": {
            "description": "Ids of jobs that must have ended before this one is queued: existing jobs, or earlier items of the same batch.",
            "maxItems": limits.parents_max,
            "default": [],
        },
        "after_failure": {
            "description": "What happens to the job if one of those in `after` does not succeed: `cancel`: it is cancelled; `run`: it "
            "runs nevertheless; `hold`: it waits until that one has succeeded."
        },
        "group": {"description": "The id of the group that the job joins.", "pattern": f"^{NAME.pattern}$"},
        "parent": {
            "description": "Only jobs that are after the job with this id.",
            "minLength": 1,
            "maxLength": limits.id_chars_max,
        },
        "parents": {"description": "The jobs that this one is after, and how they ended; present only if there are any."},
        "jobs": {"description": "The jobs of the page. With the reason `jobs`: the ids of the jobs that it waits for."},
        "ParentView.id": {"description": "The job's id."},
        "ParentView.outcome": {"description": "How it ended; null if it is live, or no longer known."},
        "ParentView.result": {"description": "Its result; null if it has none."},
        "ParentView.left_out": {"description": "true: there is a result, but no room for it in the answer. Read it from the job."},
        "ListQuery.group": {"description": "Only members of this group.", "pattern": f"^{NAME.pattern}$"},
    }


def _groups(limits: Limits) -> Notes:
    callback = "the body of an enqueue, without id, run_at, after, group and unique; null for none."
    return {
        "GroupBody.id": {"description": "The group's id; without one the server makes one.", "pattern": f"^{NAME.pattern}$"},
        "GroupBody.queue": {
            "description": "The queue that the group belongs to: a token with access to it can see, close and cancel the group, and let "
            "jobs join. Members can be in any queue.",
            "pattern": f"^{NAME.pattern}$",
        },
        "GroupBody.on_concluded": {"description": f"Enqueued once all members have ended: {callback}"},
        "GroupBody.on_succeeded": {"description": f"Enqueued once all members have succeeded: {callback}"},
        "GroupQuery.wait": {
            "description": "Seconds to wait until the group has concluded.",
            "minimum": 0,
            "maximum": limits.wait_seconds_max,
        },
        "GroupsQuery.cursor": {"description": "The `cursor` of the page before."},
        "GroupsQuery.limit": {"description": "Groups on a page; 100 if not given.", "minimum": 1, "maximum": limits.page_queues_max},
        "GroupsView.groups": {"description": "The groups."},
        "GroupsView.cursor": {"description": "The cursor of the next page; null at the end."},
        "GroupView.id": {"description": "The group's id."},
        "GroupView.queue": {"description": "The queue that the group belongs to."},
        "GroupView.created_at": {"description": "When it was created. RFC 3339, UTC, milliseconds.", "format": "date-time"},
        "GroupView.closed": {"description": "Whether it is closed: no more jobs can join."},
        "GroupView.concluded": {"description": "Whether it is closed and all members have ended."},
        "GroupView.cancel_requested": {"description": "Whether it was cancelled."},
        "GroupView.members": {"description": "How many members it has had so far."},
        "GroupView.live": {"description": "Members that have not ended."},
        "GroupView.succeeded": {"description": "Members that have succeeded."},
        "GroupView.failed": {"description": "Members that have failed for good."},
        "GroupView.cancelled": {"description": "Members that were cancelled."},
        "GroupView.expired": {"description": "Members that have expired."},
        "GroupView.on_concluded": {"description": "The state of the job that is enqueued when all members have ended; null for none."},
        "GroupView.on_succeeded": {"description": "The state of the job that is enqueued when all members have succeeded; null for none."},
        "CallbackView.state": {
            "description": "`waits`: it waits for the members; `owed`: there was no room for it yet; `made`: it was enqueued."
        },
        "CallbackView.queue": {"description": "The queue of that job."},
        "CallbackView.job": {"description": "The id of that job, once it is made."},
        "CallbackView.problem": {"description": "Why it is owed. The server tries again every second."},
    }


OPERATIONS: dict[str, str] = {
    "POST /groups": "A repeated request is answered with the existing group. Room for the jobs that the group will enqueue is reserved "
    "now.",
    "GET /groups/{id}": "With a wait, the request is held until the group is closed and all members have ended.",
    "POST /groups/{id}/close": "If all members have ended, or there are none, the group's jobs are enqueued in this same step. Closing "
    "twice is the same as once.",
    "POST /groups/{id}/cancel": "Also closes the group. Waiting members are cancelled soon after the answer; the workers of the others "
    "are asked to stop.",
}
