"""Time: the clock tests turn by hand, and the machine's, which no step of the wall clock moves."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue import clock
from jobqueue.clock import SKEW_READ_SECONDS, SKEW_STEP_SECONDS, Clock, ManualClock, SystemClock
from tests.factories import NOW


def test_manual_clock_stands_still_until_it_is_advanced() -> None:
    """It starts where the tests' NOW is and moves by what it is told."""
    hand: Clock = ManualClock()
    assert hand.now() == hand.now() == NOW
    assert isinstance(hand, ManualClock)
    hand.advance(2.5)
    assert hand.now() == NOW + 2.5
    assert ManualClock(10.0).now() == 10.0


def test_manual_timers_run_in_order_of_their_time_each_at_its_time() -> None:
    """Advancing stops at every timer on the way; ties run as they were set; what is not due waits."""
    hand, ran = ManualClock(0.0), list[tuple[str, float]]()
    for when, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (2.0, "b2"), (9.0, "late")):
        hand.call_at(when, lambda name=name: ran.append((name, hand.now())))  # type: ignore[misc]
    assert ran == []
    hand.advance(3.0)
    assert ran == [("a", 1.0), ("b", 2.0), ("b2", 2.0), ("c", 3.0)]
    hand.advance(6.0)
    assert ran[-1] == ("late", 9.0)


def test_manual_timer_for_the_past_runs_at_the_next_advance() -> None:
    """Never before call_at returns, and time does not run back for it."""
    hand, ran = ManualClock(10.0), list[float]()
    hand.call_at(5.0, lambda: ran.append(hand.now()))
    assert ran == []
    hand.advance(0.0)
    assert ran == [10.0]


def test_manual_timer_set_by_a_timer_runs_on_the_way() -> None:
    """A chain of timers, as a ticker sets them, runs within one advance."""
    hand, ran = ManualClock(0.0), list[float]()

    def again() -> None:
        ran.append(hand.now())
        hand.call_at(hand.now() + 1.0, again)

    hand.call_at(1.0, again)
    hand.advance(3.5)
    assert ran == [1.0, 2.0, 3.0]
    assert hand.now() == 3.5


def test_cancelled_manual_timer_does_not_run() -> None:
    """Cancelling before, twice, or after it ran is harmless."""
    hand, ran = ManualClock(0.0), list[str]()
    never, once = hand.call_at(1.0, lambda: ran.append("never")), hand.call_at(1.0, lambda: ran.append("once"))
    never.cancel()
    never.cancel()
    hand.advance(1.0)
    once.cancel()
    hand.advance(1.0)
    assert ran == ["once"]


def test_manual_wall_clock_steps_without_engine_time() -> None:
    """A step changes the skew alone, and steps add up."""
    hand = ManualClock(0.0)
    hand.step_wall_clock(86_400.0)
    hand.step_wall_clock(-400.0)
    assert (hand.now(), hand.skew()) == (0.0, 86_000.0)


class FakeTime:
    """Stands in for the time module."""

    def __init__(self) -> None:
        self.wall, self.steady = NOW, 500.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    faked = FakeTime()
    monkeypatch.setattr(clock, "time", faked)
    return faked


def test_engine_time_reads_like_utc_and_runs_with_the_monotonic_clock(fake: FakeTime) -> None:
    """It starts at the wall clock's time, and no step of that, forth or back, moves it."""
    system = SystemClock()
    assert system.now() == NOW
    fake.passes(10.0)
    fake.wall += 86_400.0
    assert system.now() == NOW + 10.0
    fake.wall -= 2 * 86_400.0
    assert system.now() == NOW + 10.0


@pytest.mark.parametrize("step", [86_400.0, -86_400.0, SKEW_STEP_SECONDS + 0.01, -SKEW_STEP_SECONDS - 0.01])
def test_skew_is_how_far_the_wall_clock_was_stepped(fake: FakeTime, step: float) -> None:
    """Nothing until it is stepped; then, at the next reading, the step, until the next; engine time plus skew is UTC."""
    system = SystemClock()
    fake.passes(100.0)
    assert system.skew() == 0.0
    fake.wall += step
    fake.passes(2 * SKEW_READ_SECONDS)
    assert system.skew() == pytest.approx(step, abs=1e-3)
    assert system.now() + system.skew() == pytest.approx(fake.wall, abs=1e-3)
    fake.wall -= step
    fake.passes(2 * SKEW_READ_SECONDS)
    assert system.skew() == pytest.approx(0.0, abs=1e-3)


def test_skew_ignores_jitter(fake: FakeTime) -> None:
    """Readings that differ by less than half a second leave the skew exactly as it was, so that times do not flicker."""
    system = SystemClock()
    for jitter in (0.4, -0.8, 0.401):
        fake.passes(2 * SKEW_READ_SECONDS)
        fake.wall += jitter
        assert system.skew() == 0.0
    fake.wall += 100.0
    fake.passes(2 * SKEW_READ_SECONDS)
    stepped = system.skew()
    assert stepped == pytest.approx(100.0, abs=0.5)
    fake.wall += 0.4
    fake.passes(2 * SKEW_READ_SECONDS)
    assert system.skew() == stepped


async def test_system_timer_runs_on_the_loop_and_not_within_the_call() -> None:
    """A time that has passed is soon, not now; a cancelled one is never."""
    system, ran = SystemClock(), asyncio.Event()
    system.call_at(system.now() - 100.0, ran.set)
    cancelled = system.call_at(system.now() - 100.0, lambda: pytest.fail("it was cancelled"))
    cancelled.cancel()
    assert not ran.is_set()
    await ran.wait()
