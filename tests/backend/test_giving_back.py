"""Jobs that were handed out again under their attempt_id. A restart forgets that they were, so this is no test of every backend."""

from __future__ import annotations

from jobqueue.backend.local import LocalBackend
from jobqueue.model import Outcome
from tests.conformance.rig import SUCCEEDED, spec, token, want


async def test_a_job_that_was_handed_out_again_is_not_given_back() -> None:
    """A repeat of the attempt_id may have reached the worker: its lease stays."""
    backend = LocalBackend()
    await backend.enqueue(spec("j"))
    taking = backend.dequeue(want(attempt_id="mine"), 0)
    async with taking as jobs:
        taking.delivered()
    async with backend.dequeue(want(attempt_id="mine"), 0) as again:
        assert [token(job) for job in again] == [token(job) for job in jobs]
    assert not await backend.give_back("j", token(jobs[0]))
    assert (await backend.conclude("j", token(jobs[0]), SUCCEEDED)).outcome is Outcome.SUCCEEDED
    await backend.close()
