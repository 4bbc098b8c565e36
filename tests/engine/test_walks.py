"""What is left when a queue minds keys no more, or is gone: nothing, however soon one of its name is there again."""

from __future__ import annotations

import pytest

from jobqueue.policy import PerKey, Rate

from .test_flow_traps import DONE, FINAL, HALT, NOW, change, dequeue, drain_ids, end, engine_with, enqueue, ticked


def test_a_queue_made_anew_does_not_stand_still_for_failures_of_the_one_before() -> None:
    """A queue is deleted and made anew before the ticker has given up what halted its keys: all of that is given up."""
    engine = engine_with(per_key=HALT)
    for n in range(3):
        enqueue(engine, id=f"bad{n}", key=str(n))
        end(engine, dequeue(engine), FINAL)
    engine.delete_queue("default")
    engine.put_policy("default", engine_with(per_key=HALT).queues["default"].policy)
    enqueue(engine, id="next", key="2")
    ticked(engine, NOW)
    assert (drain_ids(engine), len(engine.pinned)) == (["next"], 0)


@pytest.mark.parametrize("leave", ["delete", "plain"])
def test_keys_that_are_minded_no_more_wait_for_no_rate(leave: str) -> None:
    """A queue is deleted, or minds keys no more: nothing remembers for a day what they had of their rate."""
    engine = engine_with(per_key=PerKey(rate=Rate(1, 86_400.0)))
    for n in range(5):
        enqueue(engine, key=str(n))
        end(engine, dequeue(engine), DONE)
    assert len(engine.deadlines) == 5
    if leave == "delete":
        engine.delete_queue("default")
    else:
        change(engine, per_key=None)
    ticked(engine, NOW)
    assert len(engine.deadlines) == 0
