"""simplequeue: each row of its table, as one conversation."""

from __future__ import annotations

from .dialogue import Speaker


async def test_a_job_goes_from_submit_to_complete(simplequeue: Speaker) -> None:
    """The whole life of a job, in the words of the system it comes from."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "a", "description": "first", "data": {"n": 1}}
        < 201 {"jobId": "a", "state": "submitted", "description": "first", "data": {"n": 1}}
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "submitted", "description": "first", "data": {"n": 1}}
        > GET /jobs/next
        < 200 {"jobId": "a", "state": "running", "description": "first", "data": {"n": 1}}
        > GET /jobs
        < 200 [{"jobId": "a", "state": "running", "description": "first", "data": {"n": 1}}]
        > POST /jobs/complete {"jobId": "a", "status": "succeeded"}
        < 200 {"jobId": "a", "state": "succeeded", "description": "first", "data": {"n": 1}}
        > GET /jobs/a
        < 200 {"jobId": "a", "state": "succeeded", "description": "first", "data": {"n": 1}}
        > GET /jobs/next
        < 204
    """)
