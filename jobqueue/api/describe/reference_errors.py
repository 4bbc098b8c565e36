"""Notes on errors in groups; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.limits import NAME, Limits


def notes(limits: Limits) -> dict[str, dict[str, Any]]:
    """Their fields."""
    said = {
        "ErrorsView.errors": "The groups, most recent failure first.",
        "ErrorGroupView.id": "The group's id, for the `error_group` of other operations. The same type and line have the same id in every "
        "queue.",
        "ErrorGroupView.queue": "The queue in which the attempts failed.",
        "ErrorGroupView.type": "The type of the error; null if it has none.",
        "ErrorGroupView.line": "The first line of the error's message, with `<n>` for numbers, `<id>` for ids and `<email>` for addresses; "
        "null if there is none.",
        "ErrorGroupView.attempts": "How many attempts failed with this error, since the server started; failed attempts that its jobs "
        "still had then are included.",
        "ErrorGroupView.jobs": "How many jobs failed for good with it.",
        "ErrorGroupView.last_job": "The id of the last job that failed with it.",
        "ListQuery.error_group": "Only jobs whose last error is in this group of errors: its `id`.",
        "ListQuery.order": "`created`: newest first. `concluded`: only concluded jobs, the last to end first.",
        "BulkFilter.error_group": "Only jobs whose last error is in this group of errors.",
        "LetterFilter.error_group": "Only jobs whose last error is in this group of errors.",
    }
    shown: dict[str, dict[str, Any]] = {name: {"description": text} for name, text in said.items()}
    for name, text in (("first_at", "When an attempt first failed with it."), ("last_at", "When an attempt last failed with it.")):
        shown[f"ErrorGroupView.{name}"] = {"description": f"{text} RFC 3339, UTC, milliseconds.", "format": "date-time"}
    shown["ErrorsQuery.queue"] = {"description": "Only groups of this queue.", "pattern": f"^{NAME.pattern}$"}
    most = f"The most groups to return; {limits.page_jobs_default} if not given."
    shown["ErrorsQuery.limit"] = {"description": most, "minimum": 1, "maximum": limits.page_jobs_max}
    return shown
