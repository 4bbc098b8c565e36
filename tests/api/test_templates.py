"""Answers written from templates: byte for byte what the encoder makes of the views."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.api.native import templates, views
from jobqueue.model import PLAIN, SUCCEEDED, Conclusion, Details, Extra, Job, Lease, Outcome, Status
from jobqueue.reason import Reason

TIMES = st.floats(0, 4e9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PAYLOADS = st.sampled_from([b"null", b'{"a": [1, "\xc3\xa9%"]}', b'"%b"'])
LEASES = st.builds(
    Lease,
    token=TEXTS,
    expires_at=TIMES,
    seconds=TIMES,
    started_at=TIMES,
    worker=st.none() | TEXTS,
    progress=st.none() | st.floats(0, 1),
    message=st.none() | TEXTS,
    cancel_requested=st.booleans(),
    limited=st.booleans(),
    attempts_max=st.none() | st.integers(1, 1000),
)
ENDS = st.builds(
    Conclusion,
    outcome=st.sampled_from(Outcome),
    concluded_at=TIMES,
    result=st.none() | PAYLOADS,
    token=st.none() | TEXTS,
    said=st.none() | st.just(SUCCEEDED),
    worker=st.none() | TEXTS,
    started_at=st.none() | TIMES,
    halts=st.booleans(),
)
DETAILS = st.just(PLAIN) | st.sampled_from(
    [
        Details(),
        Details(description="d"),
        Details(error=b'{"a":1}', key="k", expires_at=5.5),
        Details(run_at=7.25, seq=0, max_attempts=3),
        Details(traceparent="t", extra=Extra(tags=("a", "b"), group="g")),
    ]
)
REASONS = st.lists(st.builds(Reason, kind=st.sampled_from(["workers", "line"]), ahead=st.none() | st.integers(0, 9)), max_size=2)


def jobs(holds: st.SearchStrategy[Any], statuses: st.SearchStrategy[Status]) -> st.SearchStrategy[Job]:
    """Jobs of any shape."""
    return st.builds(
        Job,
        id=TEXTS,
        number=st.integers(1, 2**63),
        queue=TEXTS,
        priority=st.integers(0, 9),
        payload=PAYLOADS,
        created_at=TIMES,
        status=statuses,
        type=st.none() | TEXTS,
        details=DETAILS,
        attempts=st.integers(0, 10_000),
        hold=holds,
    )


@given(jobs(st.none(), st.sampled_from(Status)), st.booleans())
def test_an_enqueue_is_answered_as_its_view(job: Job, created: bool) -> None:
    """Whatever the job is by the time of its answer."""
    assert templates.enqueued(job, created) == views.encode(views.enqueued(job, created))


@given(jobs(LEASES, st.just(Status.IN_PROGRESS)))
def test_a_dequeue_is_answered_as_its_view(job: Job) -> None:
    """Names and texts of any characters, payloads as they are."""
    assert templates.dequeued(job) == views.encode(views.dequeued(job))


@given(jobs(st.none() | ENDS, st.sampled_from(Status)))
def test_a_conclude_is_answered_as_its_view(job: Job) -> None:
    """Whether it ended the job, or there is another attempt."""
    assert templates.concluded(job) == views.encode(views.concluded(job))


@given(jobs(st.none() | LEASES | ENDS, st.sampled_from(Status)), REASONS)
def test_a_look_is_answered_as_its_view(job: Job, reasons: list[Reason]) -> None:
    """Waiting, in progress or ended, with what it waits for."""
    assert templates.whole(job, reasons) == views.encode(views.job_view(job, whole=True, reasons=reasons))


def test_names_that_are_known_are_bounded() -> None:
    """None is one of them at any time."""
    for number in range(templates.NAMES_MAX * 2):
        assert templates.enqueued(Job("a", 1, f"q{number}", 5, b"1", 0.0, Status.QUEUED), True).startswith(b'{"id":"a","queue":"q')
    assert len(templates._names) <= templates.NAMES_MAX
    assert b'"type":null' in templates.enqueued(Job("a", 1, "b", 5, b"1", 0.0, Status.QUEUED), True)
