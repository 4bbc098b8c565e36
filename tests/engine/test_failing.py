"""The counters of what failed lately: exact at their edges, and of one size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.engine.failing import Failing, Window
from jobqueue.past import Failures


@given(st.integers(1, 60), st.lists(st.floats(0, 2000), max_size=40), st.floats(0, 5000))
def test_a_window_counts_what_it_should(minutes: int, steps: list[float], wait: float) -> None:
    """All of its minutes are counted, nothing that is a twelfth older, and memory does not grow."""
    window, now, times = Window(minutes), 1e9, list[float]()
    for step in steps:
        now += step
        times.append(now)
        window.add(now)
    now += wait
    seconds = minutes * 60
    assert sum(now - at <= seconds for at in times) <= window.count(now) <= sum(now - at <= seconds * 13 / 12 for at in times)
    assert len(window.counts) == 13


def test_a_clock_that_goes_back_loses_nothing() -> None:
    """What fails while the clock is behind counts as of the newest time that was seen."""
    window = Window(1)
    window.add(1000.0)
    window.add(900.0)
    assert window.count(1000.0) == window.count(900.0) == 2


@pytest.mark.parametrize("last", [False, True])
def test_a_failed_attempt_is_a_failed_job_only_if_it_was_the_last(last: bool) -> None:
    """Jobs and attempts are counted by themselves."""
    failing = Failing()
    failing.attempt(1000.0, last)
    jobs = int(last)
    assert failing.seen(1000.0) == Failures(0, jobs, jobs, jobs, 1, 1, 1)
