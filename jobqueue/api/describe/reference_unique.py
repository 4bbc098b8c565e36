"""Notes on unique jobs; see reference.py."""

from __future__ import annotations

from typing import Any

from jobqueue.limits import Limits

Notes = dict[str, dict[str, Any]]


def notes(limits: Limits) -> Notes:
    """Fields about unique keys."""
    return {
        "unique": {"description": "Allows only one of the jobs of a queue with the same `unique.key`. Shown only for jobs that have it."},
        **{f"{kind}.{field}": note for kind in ("UniqueBody", "UniqueView") for field, note in _terms(limits).items()},
        "UniqueView.holds": {
            "description": "Whether this job is live and holds the key now. The key can also be held without it, until held_until."
        },
        "UniqueView.held_until": {
            "description": "Until when the key is held whatever happens to the job; null for no such time. RFC 3339, UTC, milliseconds.",
            "format": "date-time",
        },
        "Problem.job_id": {"description": "With `duplicate`: the job that holds the unique key."},
    }


def _terms(limits: Limits) -> Notes:
    """The settings that a producer gives."""
    return {
        "key": {
            "description": "The unique key. Only one job of the queue can hold it. No control characters.",
            "minLength": 1,
            "maxLength": limits.key_chars_max,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
        },
        "until": {
            "description": "How long the job holds the key. `started`: until it is first handed to a worker. `concluded`: until it is "
            "concluded. `enqueued`: exactly for the seconds of `for` after its enqueue, whatever happens to it."
        },
        "for": {
            "description": "Seconds after the enqueue for which the key is held, whatever happens to the job; null for none. Required "
            "with `enqueued`.",
            "minimum": 0.001,
            "maximum": limits.unique_seconds_max,
        },
        "on_conflict": {
            "description": "What happens to this enqueue if another job holds the key. `keep`: the answer is that job. `replace`: that "
            "job gets this payload and this time; but if a worker has it, as `follow`. `follow`: if a worker has that job, this one waits "
            "for its end, and takes the place of an earlier one that waits; otherwise as `keep`. `refuse`: 409 `duplicate`."
        },
        "max_wait": {
            "description": "With `replace`: this many seconds after the creation of the job that holds the key, it is not delayed any "
            "further; null for no bound.",
            "minimum": 0,
            "maximum": limits.delay_seconds_max,
        },
    }
