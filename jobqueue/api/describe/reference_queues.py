"""Notes on headers, and on a queue's jobs, state and totals; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.api.describe import reference_history
from jobqueue.limits import HEADER_NAME, Limits

Notes = dict[str, dict[str, Any]]

OPERATIONS = reference_history.OPERATIONS


def _time(text: str) -> dict[str, Any]:
    return {"description": f"{text} RFC 3339, UTC, milliseconds.", "format": "date-time"}


def notes(limits: Limits) -> Notes:
    """Fields of jobs' headers, and of queues."""
    said = "Metadata beside the payload, by name: a string, or an object if the type is not String."
    sent = {
        "description": f"{said} Names are 1 to 256 of `A-Z a-z 0-9 . _ -`. Together with the payload at most {limits.payload_bytes_max} "
        "bytes.",
        "maxProperties": limits.headers_max,
        "propertyNames": {"pattern": f"^{HEADER_NAME.pattern}$"},
        "default": {},
    }
    return {
        "headers": sent,
        **{f"{kind}.headers": {"description": said} for kind in ("JobView", "DequeuedView")},
        "DequeuedView.max_attempts": {"description": "The most attempts of the job; left out if there is no limit."},
        "HeaderBody.type": {
            "description": "`String`, `Number` or `Binary`, optionally with a dot and a label after it. The server does not parse numbers.",
            "maxLength": 256,
        },
        "HeaderBody.value": {"description": "Text, or base64 if the type is Binary. Not empty.", "minLength": 1},
        **_policies(limits),
        "QueueView.created_at": _time("When the queue was created; null if an older server created it."),
        **_failures(),
        **reference_history.notes(),
        "paused_at": _time("When it was paused; null if it is not paused, or an older server paused it."),
        "paused_by": {"description": "The name of the token that paused it; null if it is not paused, or the server requires no token."},
        "modified_at": _time("When its policy was last changed, or it was created; null if an older server created it."),
    }


def listing() -> Notes:
    """What a list of queues is asked for beside a page, and what it answers then."""
    since = "Only queues that have changed or were deleted since the answer that had this value as `changes`; 0 for every queue."
    return {
        "QueuesQuery.changed_since": {"description": since},
        "QueuesView.gone": {
            "description": "Names of queues that were deleted since. Present only with `changed_since`, like `whole` and `changes`."
        },
        "QueuesView.whole": {"description": "true: these are all queues, not only changes; forget the queues that you knew before."},
        "QueuesView.changes": {
            "description": "What to send as `changed_since` next time. If there are several pages, keep the value of the first one."
        },
    }


def _failures() -> Notes:
    """Recent failures."""
    said = {
        "failures": "Recent failures. The counts start at zero when the server starts.",
        "Failures.retrying": "Jobs that wait for their next attempt: scheduled, and attempted before.",
    }
    for minutes in (1, 5, 60):
        lately = "in the last minute" if minutes == 1 else f"in the last {minutes} minutes"
        said[f"Failures.jobs_{minutes}m"] = f"Jobs that failed for good {lately}, or a time up to a twelfth longer."
        said[f"Failures.attempts_{minutes}m"] = f"Attempts that failed or whose lease ran out {lately}, or a time up to a twelfth longer."
    return {name: {"description": text} for name, text in said.items()}


def _policies(limits: Limits) -> Notes:
    delay = {
        "description": "The delay in seconds of new jobs that have neither delay nor run_at; null for none.",
        "minimum": 0,
        "maximum": limits.delay_seconds_max,
    }
    expires_in = {
        "description": "Seconds after its creation at which a job that waits here expires, or up to a minute later. It applies to "
        "existing jobs too, in addition to their own expires_in. null for never.",
        "minimum": 1,
        "maximum": limits.expires_seconds_max,
    }
    tags = {
        "description": "Your own labels for the queue: names of 1 to 128 characters, values of up to 256.",
        "maxProperties": limits.queue_tags_max,
    }
    attributes = {
        "description": "Data that a dialect keeps for the queue; the server does not use it otherwise. Names of 1 to 64 characters; all "
        f"together at most {limits.attributes_bytes_max} bytes.",
        "maxProperties": limits.attributes_max,
    }
    fields = {"delay": delay, "expires_in": expires_in, "tags": tags, "attributes": attributes}
    return {f"{kind}.{name}": said for kind in ("PolicyBody", "PolicyPatch", "QueuePolicy") for name, said in fields.items()}
