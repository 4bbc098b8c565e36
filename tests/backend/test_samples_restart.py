"""What becomes of samples when a server ends and another goes on from its file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from jobqueue.backend import group_journal
from jobqueue.backend.requests.samples import GetHistory
from jobqueue.backend.rows import BadRow
from jobqueue.backend.things import decode_named, encode_named
from jobqueue.engine.engine import Engine
from jobqueue.engine.samples import DAY, KIND, ROW_BYTES
from jobqueue.limits import Limits
from tests.backend.restarting import started_anew
from tests.conformance.durable import DurableRig
from tests.conformance.rig import spec


@pytest.fixture
async def rig() -> AsyncIterator[DurableRig]:
    """A server on a file."""
    made = await DurableRig(Limits()).opened()
    yield made
    await made.close()


async def day(rig: DurableRig, column: str, count: int, queue: str | None = None) -> list[Any]:
    """The last samples of a day."""
    return (await rig.backend.ask(GetHistory(span="day", queue=queue))).columns[column][-count:]


async def test_a_day_goes_on_after_a_restart(rig: DurableRig) -> None:
    """Samples of before are there, and the totals that were stored are counted in no step again."""
    await rig.put_all("a", "b", queue="mail")
    await rig.advance(301)
    await started_anew(rig)
    await rig.put_all("c", queue="mail")
    await rig.advance(300)
    assert await day(rig, "enqueued", 2) == await day(rig, "enqueued", 2, "mail") == [2, 1]
    assert await day(rig, "queued", 2, "mail") == [2, 3]


async def test_what_a_server_was_away_for_is_not_known(rig: DurableRig) -> None:
    """Where jobs were left, it is null; where there were none, nothing can have happened."""
    await rig.put("a")
    await rig.advance(301)
    await rig.local.close()
    rig.clock.advance(900)
    rig.backend = rig.local = await rig.start()
    await rig.backend.cancel("a")
    await rig.advance(300)
    assert await day(rig, "queued", 5) == [1, None, None, None, 0]
    await rig.local.close()
    rig.clock.advance(900)
    rig.backend = rig.local = await rig.start()
    assert await day(rig, "queued", 4) == [0, 0, 0, 0]


async def test_a_row_is_written_at_most_every_five_minutes(rig: DurableRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with the samples of all queues; none where nothing was there; and those that are older than a day are deleted."""
    made: list[str] = []
    encode = group_journal.encode_named

    def noted(engine: Engine, name: str, offset: float = 0.0) -> bytes | None:
        row = encode(engine, name, offset)
        if name.startswith(KIND):
            made.append("" if row is None else name)
        return row

    monkeypatch.setattr(group_journal, "encode_named", noted)
    await rig.put_all("a", queue="mail")
    await rig.put_all("b", queue="sms")
    await rig.advance(1_501)
    assert len(made) == len(set(made)) == 5
    assert "" not in made
    for job_id in ("a", "b"):
        await rig.backend.cancel(job_id)
    await rig.advance(1_500)
    assert len(made) == 6
    await rig.advance(86_400)
    assert made.count("") == 6
    assert len(made) == 12
    assert rig.local.engine.samples.stored == set()


async def test_a_row_that_is_damaged_is_found_out() -> None:
    """A sample of another step or length is refused by name; so is a row that is none."""
    number = DAY.ended(1_800_000_000.0)
    sample = number.to_bytes(4, "little") + bytes(ROW_BYTES - 4)
    rows = {"": sample, "mail": sample}
    assert decode_named([(f"{KIND}{number}", msgspec.msgpack.encode(rows))]).samples == {number: rows}
    for name, wrong in (
        (f"{KIND}{number + 1}", rows),
        (f"{KIND}{number}", {"": sample[:-1]}),
        (f"{KIND}x", rows),
        (f"{KIND}{number}", [1]),
    ):
        with pytest.raises(BadRow, match=KIND):
            decode_named([(name, msgspec.msgpack.encode(wrong))])


async def test_what_was_restored_is_stored_as_it_was(rig: DurableRig) -> None:
    """The rows of the server that goes on are those of the one before."""
    await rig.backend.enqueue_batch([spec("a", queue="mail"), spec("b", queue="sms")])
    await rig.advance(601)
    before = {name: encode_named(rig.local.engine, f"{KIND}{name}") for name in rig.local.engine.samples.stored}
    assert len(before) == 2
    await started_anew(rig)
    assert {name: encode_named(rig.local.engine, f"{KIND}{name}") for name in rig.local.engine.samples.stored} == before
