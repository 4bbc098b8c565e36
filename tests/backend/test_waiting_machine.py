"""Runs the property test of held dequeues."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .waiting_machine import Waiting

BOUNDED = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_no_interleaving_loses_a_job_a_wake_up_or_a_place() -> None:
    """Whatever meets in one turn of the loop, no job is lost or leased twice, nobody is passed over, and nobody waits before a job."""
    run_state_machine_as_test(Waiting, settings=BOUNDED)
