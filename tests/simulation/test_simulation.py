"""The simulation in CI: a fixed set of seeds, that a seed repeats itself, and that planted bugs are found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from . import run
from .cluster import cluster_plan_of, simulate_cluster
from .plants import PLANTS, ROOT, Plant, hunt
from .troubles import TROUBLES
from .world import Plan, World, plan_of, simulate

SEEDS = 80
"""About 30 s on two slow cores, in all chunks together."""

CHUNKS = 6
REPEATED = 12
"""A seed whose world has a disk, restarts and kills."""

CLUSTER_SEEDS = 80
"""Worlds of several servers: about 40 s on two slow cores, in all chunks together."""

CLUSTER_CHUNKS = 8
CLUSTER_REPEATED = 8

PARTITIONS = 3
PARTITIONS_SEEDS = 50
"""Worlds of several servers on a store of three partitions, beside those among the others: about 100 s on two slow cores."""

PARTITIONS_CHUNKS = 25

HUNT_SEEDS = 200
"""In how many worlds a planted bug is looked for. Each was found in its first; a change of the server gives seeds other worlds."""
HUNT_SECONDS = 600.0
"""Only ends a hunt that hangs."""


@pytest.mark.parametrize("chunk", [0, *(pytest.param(chunk, marks=pytest.mark.long) for chunk in range(1, CHUNKS))])
def test_no_seed_finds_a_fault(chunk: int) -> None:
    """In none of a fixed set of worlds does the server break a promise; one that does names the command that shows it again."""
    for seed in range(chunk, SEEDS, CHUNKS):
        assert run.report(simulate(seed)) == ""


@pytest.mark.parametrize(
    "chunk", [0, *(pytest.param(chunk, marks=pytest.mark.long) for chunk in range(1, CLUSTER_CHUNKS))], ids=lambda chunk: f"cluster-{chunk}"
)
def test_no_seed_of_several_servers_finds_a_fault(chunk: int) -> None:
    """Nor do several servers on one store, whatever befalls them, the store, and what lies between any two of them."""
    for seed in range(chunk, CLUSTER_SEEDS, CLUSTER_CHUNKS):
        assert run.report(simulate_cluster(seed)) == ""


@pytest.mark.parametrize(
    "chunk",
    [0, *(pytest.param(chunk, marks=pytest.mark.long) for chunk in range(1, PARTITIONS_CHUNKS))],
    ids=lambda chunk: f"partitions-{chunk}",
)
def test_no_seed_of_several_partitions_finds_a_fault(chunk: int) -> None:
    """Nor do they on a store of several partitions, whose ids are claimed across them, and which move from server to server."""
    for seed in range(chunk, PARTITIONS_SEEDS, PARTITIONS_CHUNKS):
        assert run.report(simulate_cluster(seed, PARTITIONS)) == ""


@pytest.mark.parametrize(
    ("how", "live", "seed"),
    [
        ((), simulate, REPEATED),
        (("--cluster",), simulate_cluster, CLUSTER_REPEATED),
        (("--cluster", "--partitions", str(PARTITIONS)), partial(simulate_cluster, partitions=PARTITIONS), CLUSTER_REPEATED),
    ],
    ids=["one", "cluster", "partitions"],
)
def test_a_seed_tells_the_same_story_each_time(how: tuple[str, ...], live: Callable[[int], World], seed: int) -> None:
    """A history is the same byte for byte when its seed is run again, in this process or in one that hashes strings in another way."""
    again = [sys.executable, "-m", "tests.simulation", *how, "--seed", str(seed), "--digest"]
    environment = {**os.environ, "PYTHONHASHSEED": "42", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    first, second = live(seed), live(seed)
    assert first.history.lines == second.history.lines
    assert ran.stdout.strip() == first.history.digest()


def test_worlds_differ() -> None:
    """The seeds of CI make worlds with and without a disk, and every kind of trouble in some of them."""
    plans: list[Plan] = [plan_of(seed) for seed in range(SEEDS)]
    assert {plan.durable for plan in plans} == {True, False}
    assert {trouble for plan in plans for trouble in plan.troubles} == {"restart", "kill", "stall", "clock", "full", "broken", "busy"}


def test_worlds_of_several_servers_differ() -> None:
    """The seeds of CI make worlds with every kind of trouble, with and without a standby, and with each way to acknowledge."""
    plans = [cluster_plan_of(seed) for seed in range(CLUSTER_SEEDS)]
    assert {trouble for plan in plans for trouble in plan.troubles} == {*TROUBLES, "trap"}
    assert {plan.standby for plan in plans} == {True, False}
    assert {plan.acknowledge for plan in plans} == {0, 1, 2}
    assert {len(plan.offsets) for plan in plans} == {2, 3}
    assert {(plan.partitions, plan.shards) for plan in plans} == {(1, False), (3, False), (3, True)}


def test_a_failing_seed_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fault prints ends with the command that replays its seed, and the exit code is 1."""

    def with_a_fault(seed: int) -> World:
        world = World(seed)
        world.history.fault("something is wrong")
        world.loop.close()
        return world

    monkeypatch.setattr(run, "simulate", with_a_fault)
    assert run.many([7], seconds=1) == 1
    shown = capsys.readouterr().out
    assert "something is wrong" in shown
    assert f"replay: {run.COMMAND} --seed 7" in shown


@pytest.mark.long
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name.replace(" ", "-"))
def test_a_planted_bug_is_found(plant: Plant) -> None:
    """Each of a list of plausible mistakes, made in a copy of the server, is found."""
    result = hunt(plant, "--first", str(plant.first), "--seeds", str(HUNT_SEEDS), "--seconds", str(HUNT_SECONDS))
    assert result.returncode == 1, result.stdout + result.stderr
    assert "replay: " in result.stdout
