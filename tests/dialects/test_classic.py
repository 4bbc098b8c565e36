"""classic: each row of its table, as one conversation."""

from __future__ import annotations

from .dialogue import Speaker


async def test_a_job_goes_from_enqueue_to_conclude(classic: Speaker) -> None:
    """The whole life of a job, in the words of the system it comes from."""
    await classic.talk("""
        > POST /jobs/enqueue {"Type": "TIME_CRITICAL"}
        < 200 {"ID": 1}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "QUEUED"}
        > GET /jobs/dequeue
          QUEUE_CONSUMER: 7
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "IN_PROGRESS"}
        > POST /jobs/1/conclude
          QUEUE_CONSUMER: 7
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
        > GET /jobs/1
        < 200 {"ID": 1, "Type": "TIME_CRITICAL", "Status": "CONCLUDED"}
        > GET /jobs/dequeue
        < 404 {"Error": "Not Found", "message": "no job is queued"}
    """)
