"""Notes on the history of numbers; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.api.native.history import STEPS_MAX

Notes = dict[str, dict[str, Any]]

_SAID = {
    "span": "`hour`: steps of 10 s; `day`: steps of 5 min.",
    "queue": "The queue; null: all queues together.",
    "step_seconds": "The length of a step.",
    "enqueued": "Jobs enqueued in each step.",
    "concluded": "Jobs concluded in each step, whatever their outcome.",
    "failed": "How many of these failed for good.",
    "attempts_failed": "Attempts that failed or whose lease ran out in each step, including the last attempt of a job.",
    "queued": "Jobs queued at the end of each step.",
    "in_progress": "Jobs in progress at the end of each step.",
    "oldest_seconds": "How long the next job to be handed out had waited at the end of each step; null if none was queued.",
    "pickup_p50_seconds": "The median time that jobs waited before their first hand-out, for the hand-outs in each step; null if there "
    "were none.",
    "pickup_p95_seconds": "The 95th percentile of the same.",
    "duration_p50_seconds": "The median duration of the attempts that a worker ended in each step; null if there were none.",
    "duration_p95_seconds": "The 95th percentile of the same.",
}


def notes() -> Notes:
    """Fields of the history of numbers."""
    found = {f"HistoryView.{name}": {"description": said} for name, said in _SAID.items()}
    return {
        **found,
        "begins_at": {"description": "When the first step began. RFC 3339, UTC, milliseconds.", "format": "date-time"},
        "HistoryQuery.span": {"description": f"{_SAID['span']} `hour` if not given.", "default": "hour"},
        "HistoryQuery.limit": {"description": "Only this many of the last steps.", "minimum": 1, "maximum": STEPS_MAX},
    }


OPERATIONS = {
    "GET /history": "Each list has one value per step, null where the server took no sample. For a token that is limited to some queues, "
    "the values are the sums over these queues, and the percentiles the largest of theirs.",
    "GET /queues/{name}/history": "The server keeps the history of 500 active queues. If more are active at once, every value of the "
    "others is null.",
}
