"""What a handler is told of its job's headers."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

from jobqueue import Header
from jobqueue.client.header_types import shown
from jobqueue.model import Header as Stored
from jobqueue.model import JobSpec, Want
from jobqueue.worker.running import Leased, RunningJob
from jobqueue.worker.sources import BackendSource

from .rig import Rig

HEADERS = (Stored("blob", b"\x00", "Binary"), Stored("n", b"5", "Number.int"), Stored("tenant", "ä".encode()))
SHOWN = {"blob": Header.binary(b"\x00"), "n": Header("Number.int", "5"), "tenant": "ä"}


async def test_a_handler_sees_them() -> None:
    """As a client is shown them, whichever way the job came, and in another process too."""
    rig = Rig()
    await rig.backend.enqueue(JobSpec(payload=b"1", headers=HEADERS))
    await rig.backend.enqueue(JobSpec(payload=b"2"))
    first, second = await BackendSource(rig.backend).take(Want(limit=2), 0)
    job: RunningJob[int] = RunningJob(pickle.loads(pickle.dumps(first)), "w", 1.0)
    assert job.headers == SHOWN == shown(HEADERS)
    assert RunningJob(second, "w", 1.0).headers == {}
    await rig.close()


def test_a_job_without_any_has_none() -> None:
    """An empty dict of its own."""
    leased = [Leased(id="j", token="t", queue="q", payload=b"1", attempts=1, created_at=datetime(2027, 1, 1, tzinfo=UTC)) for _ in range(2)]
    leased[0].headers["x"] = "y"
    assert leased[1].headers == {}
