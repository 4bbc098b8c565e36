"""How much is measured: the whole, or a quick look that shows that the measuring itself works."""

from __future__ import annotations

from typing import NamedTuple


class Plan(NamedTuple):
    """Sizes of a run.

    rounds and requests: of each kind of request, requests in a round; batches: in a round, 100 jobs each; held: dequeues held at once;
    pickups: measured hand-outs; herds: how many waits end together, herd_rounds times each; deep: jobs queued, depth_rounds of
    depth_requests each.
    """

    rounds: int
    requests: int
    batches: int
    held: int
    pickups: int
    herds: tuple[int, ...]
    herd_rounds: int
    deep: int
    depth_rounds: int
    depth_requests: int


FULL = Plan(
    rounds=15,
    requests=3_000,
    batches=50,
    held=10_000,
    pickups=2_000,
    herds=(2_500, 5_000, 10_000),
    herd_rounds=3,
    deep=990_000,
    depth_rounds=15,
    depth_requests=2_000,
)
QUICK = Plan(
    rounds=5,
    requests=640,
    batches=10,
    held=1_000,
    pickups=300,
    herds=(500, 1_500),
    herd_rounds=1,
    deep=20_000,
    depth_rounds=5,
    depth_requests=640,
)
