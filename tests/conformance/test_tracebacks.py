"""Tracebacks of attempts, on every backend and over its restart."""

from __future__ import annotations

import msgspec

from .rig import FAILED, FAILED_FOR_GOOD, Rig, token


async def test_each_attempt_keeps_its_traceback(rig: Rig) -> None:
    """The one that ends the job too, and one without has none."""
    await rig.put("j")
    for verdict, text in ((FAILED, "first\n😀"), (FAILED, None), (FAILED_FOR_GOOD, "last")):
        job = await rig.take()
        said = msgspec.structs.replace(verdict, traceback=text, retry_delay=None if verdict is FAILED_FOR_GOOD else 0.0)
        await rig.backend.conclude("j", token(job), said)
        await rig.advance(1)
    assert [one.traceback for one in (await rig.backend.job("j")).past] == ["first\n😀", None, "last"]
