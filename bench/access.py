"""What the access log costs: an enqueue with all of it, with one request in a hundred, and without, on three servers side by side."""

from __future__ import annotations

import contextlib

from bench.load import load_on
from bench.plan import Plan
from bench.process import bare, ours
from bench.report import Row, compared
from bench.requests import ENQUEUE, SLICES

KEYS = ("access",)
LOGS = ("off", "sampled", "on")
BUDGETS = {"off": 0.8, "sampled": 0.9, "on": 2.0}


async def rows(plan: Plan) -> list[Row]:
    """A row for each choice, in slices by turns so that what else the machine does falls on all."""
    spent: dict[str, list[float]] = {name: [] for name in ("bare", *LOGS)}
    async with contextlib.AsyncExitStack() as stack:
        servers = {"bare": stack.enter_context(bare("/jobs/enqueue"))}
        for log in LOGS:
            # JSON at level info, thrown away: writing to a disk is the disk's cost.
            flags = ("--access-log", log, "--log-format", "json", "--log-level", "info")
            servers[log] = stack.enter_context(ours(*flags, quiet=True))
        loads = {name: await stack.enter_async_context(load_on(server)) for name, server in servers.items()}
        for number in range(plan.rounds + 1):
            of_round = dict.fromkeys(loads, 0.0)
            for _ in range(SLICES):
                for name, load in loads.items():
                    ns, _ = await load.cost([ENQUEUE] * (plan.requests // SLICES), 200 if name == "bare" else 201)
                    of_round[name] += ns / SLICES
            # The first only warms up.
            for name, ns in of_round.items() if number else ():
                spent[name].append(ns)
    return [compared("access", f"enqueue, access log {log}", BUDGETS[log], spent[log], spent["bare"]) for log in LOGS]
