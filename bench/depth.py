"""What depth costs: the same requests on a server with many jobs queued and on one with few, and the memory of a queued job."""

from __future__ import annotations

import contextlib
import json
import statistics

from bench.load import Load, load_on
from bench.plan import Plan
from bench.process import BenchError, Server, ours
from bench.report import Row, micros
from bench.requests import BATCH_ENQUEUE, DEQUEUE, ENQUEUE
from bench.wire import PAYLOAD, Blocking, request

KEYS = ("depth", "memory")
SHALLOW = 1_000
FILL = 1_000
RATIO_MAX = 1.2
JOB_BYTES_MAX = 200

FILL_REQUEST = request("POST", "/batch/enqueue", {"jobs": [{"payload": PAYLOAD}] * FILL})
EMPTY_REQUEST = request("POST", "/batch/dequeue", {"queue": "default", "limit": FILL, "wait": 0})


async def _conclude(load: Load, jobs: list[dict[str, object]]) -> None:
    items = [{"id": job["id"], "lease": job["lease"]["token"], "outcome": "succeeded"} for job in jobs]  # type: ignore[index]
    batches = [items[start : start + FILL] for start in range(0, len(items), FILL)]
    await load.send([request("POST", "/batch/conclude", {"jobs": batch}) for batch in batches], 200)


async def _fill(load: Load, jobs: int) -> float:
    """Queue so many jobs; bytes of memory for each, beyond its payload."""
    # Once through everything first, so that what is measured is jobs, not the first use of the code.
    await load.send([BATCH_ENQUEUE], 200)
    await _conclude(load, json.loads((await load.send([EMPTY_REQUEST], 200))[0])["jobs"])
    before = load.server.rss_bytes()
    await load.send([FILL_REQUEST] * (jobs // FILL), 200)
    grown = load.server.rss_bytes() - before
    queued = _queued(load.server)
    if queued != jobs:
        raise BenchError(f"{queued} jobs are queued, not {jobs}")
    return grown / jobs - len(json.dumps(PAYLOAD))


def _queued(server: Server) -> int:
    connection = Blocking(server.port)
    number: int = json.loads(connection.ask(request("GET", "/queues/default"), 200).body)["queued"]
    connection.close()
    return number


async def _round(load: Load, requests: int) -> tuple[float, float]:
    """Nanoseconds of CPU for an enqueue and for a dequeue; as deep afterwards as before."""
    enqueue, _ = await load.cost([ENQUEUE] * requests, 201)
    dequeue, bodies = await load.cost([DEQUEUE] * requests, 200)
    await _conclude(load, [json.loads(body) for body in bodies])
    return enqueue, dequeue


def _depth_row(plan: Plan, what: str, shallow: list[float], deep: list[float]) -> Row:
    ratios = [below / above for below, above in zip(deep, shallow, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        "depth",
        f"{what} at {plan.deep:,} queued jobs, against {SHALLOW:,}",
        f"≤ {RATIO_MAX} ×",
        f"{micros(statistics.median(deep))}, against {micros(statistics.median(shallow))}",
        "",
        f"{ratio:.2f} ×",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        ratio <= RATIO_MAX,
    )


async def rows(plan: Plan) -> list[Row]:
    """The rows of this file."""
    costs: dict[str, list[tuple[float, float]]] = {"shallow": [], "deep": []}
    async with contextlib.AsyncExitStack() as stack:
        loads = {name: await stack.enter_async_context(load_on(stack.enter_context(ours()))) for name in costs}
        await _fill(loads["shallow"], SHALLOW)
        job_bytes = await _fill(loads["deep"], plan.deep)
        for number in range(plan.depth_rounds + 1):
            for name in sorted(costs, reverse=number % 2 == 0):
                cost = await _round(loads[name], plan.depth_requests)
                if number:
                    costs[name].append(cost)
    shallow, deep = costs["shallow"], costs["deep"]
    return [
        _depth_row(plan, "enqueue", [enqueue for enqueue, _ in shallow], [enqueue for enqueue, _ in deep]),
        _depth_row(plan, "dequeue", [dequeue for _, dequeue in shallow], [dequeue for _, dequeue in deep]),
        Row(
            "memory", f"memory of a queued job beyond its payload, at {plan.deep:,}", f"≤ {JOB_BYTES_MAX} bytes", f"{job_bytes:.0f} bytes",
            "", "", "", job_bytes <= JOB_BYTES_MAX,
        ),
    ]  # fmt: skip
