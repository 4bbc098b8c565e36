"""What a handler is told of the jobs that its own is after."""

from __future__ import annotations

from datetime import UTC, datetime

from jobqueue.model import Outcome, Parent
from jobqueue.worker.running import Leased, RunningJob


def test_a_handler_sees_how_parents_ended() -> None:
    """With their results as plain objects; one that was left out says so."""
    parents = (Parent("a", Outcome.SUCCEEDED, b'{"n":1}'), Parent("b", None), Parent("c", Outcome.SUCCEEDED, None, left_out=True))
    leased = Leased(
        id="j", token="t", queue="q", payload=b"1", attempts=1, created_at=datetime(2027, 1, 1, tzinfo=UTC), group="g", parents=parents
    )
    job: RunningJob[int] = RunningJob(leased, "w", 1.0)
    assert [(each.id, each.outcome, each.result, each.left_out) for each in job.parents] == [
        ("a", "succeeded", {"n": 1}, False),
        ("b", None, None, False),
        ("c", "succeeded", None, True),
    ]
    assert job.group == "g"
