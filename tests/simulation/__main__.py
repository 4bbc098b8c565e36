"""`python -m tests.simulation`: as long as asked, or one seed again."""

from __future__ import annotations

import itertools
import sys

import click

from .cluster import simulate_cluster
from .run import many
from .world import simulate


@click.command()
@click.option("--seed", type=int, help="Run this one alone; without it, one after the other from --first.")
@click.option("--first", type=int, default=0, show_default=True, help="The first seed of many.")
@click.option("--seeds", type=int, help="How many seeds at most; without it, as many as there is time for.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long to go on, in real time.")
@click.option("--history", is_flag=True, help="Print everything that happened.")
@click.option("--digest", is_flag=True, help="Print only what the history of --seed comes to, the same each time.")
@click.option("--cluster", is_flag=True, help="Several servers on one store.")
@click.option("--partitions", type=click.IntRange(1, 128), help="With --cluster, of so many partitions; without it, as each seed says.")
def main(
    seed: int | None, first: int, seeds: int | None, seconds: float, history: bool, digest: bool, cluster: bool, partitions: int | None
) -> None:
    """Simulate the server with random clients and faults. The exit code is 1 when a fault is found, which is then described."""
    if digest:
        if seed is None:
            raise click.UsageError("--digest wants a --seed")
        print((simulate_cluster(seed, partitions) if cluster else simulate(seed)).history.digest())
        return
    all_seeds = itertools.count(first) if seeds is None else range(first, first + seeds)
    sys.exit(many(all_seeds if seed is None else [seed], seconds, history, cluster, partitions))


if __name__ == "__main__":
    main()
