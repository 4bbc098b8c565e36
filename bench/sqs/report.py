"""What was found, as tables in Markdown."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain

from bench.report import machine
from bench.scale import table
from bench.sqs.measure import BOTO, RAW, STANDS_SECONDS, WAIT_SECONDS, WAYS, Found, Plan, Way, middle
from bench.sqs.servers import OURS, PEERS, Peer, has_boto

TRIPS_MAX = 3.0
"""Round trips within which a held receive is to be answered."""

HOW = """\
`python -m bench sqs` starts each server itself, on loopback, with its defaults: messages are in memory unless a table says that they are
on disk. MiniStack and roto-aws are installed in a separate environment (`python -m venv apart; apart/bin/pip install ministack==1.5.33
roto-aws==0.10.1`, and `BENCH_SQS_VENV=apart`), since MiniStack pins another botocore; npm packages are in the folder that `BENCH_NODE`
names, in which `npm install fauxqs@2.4.1 local-aws-sqs@2.0.2 node@22.23.3` was run. A session is a new server and new clients; the
servers take turns, and the order is reversed with every round. No process is pinned to a core. Figures are medians of {rounds} rounds,
with the smallest and the largest value. Messages have {size} bytes.

- **Raw**: one process, {connections} connections, on each connection one request after another, for {seconds:g} s: SendMessage,
  ReceiveMessage, DeleteMessage; or SendMessageBatch of 10, ReceiveMessage of up to 10, DeleteMessageBatch. JSON protocol, with the
  headers that botocore sends and no valid signature, which none of these servers requires. FIFO: each connection has a message group,
  each message a deduplication id. The client is a Python program with its own core. If a server needs less CPU than the client, the
  client limits the rate.
- **boto3**: a process that sends and one that receives and deletes, one call at a time each. Both need far more CPU than most of the
  servers do, and share the cores with them, so the rates are mostly limited by boto3.
- **Server CPU** is user and system time from the clocks of the server's processes, for each message that was sent, received and deleted.
- **Memory** is the growth of the server's `Pss` by {messages:,} messages, with their {size} bytes, or as many as could be sent in
  {fill_seconds:g} s.
- **Pickup**: one receive held with WaitTimeSeconds {wait}, which has waited for {stands:g} ms by then; from the first byte of a
  SendMessage on another connection to the whole answer of the receive; p50. A round trip is one to a bare aiohttp handler
  (`bench/bare.py`) after a pause of the same length, one after each pickup. "After a long hold" is one more receive, which has waited for
  {held:g} s.

Not measured: ElasticMQ (Java, with no package in PyPI, npm or Debian), goaws and SmoothMQ (Go, also in none of these), LocalStack
(`localstack-core` 2026.3.0 and 4.14.0 of PyPI do not start: "No component plugins found"), `sqslite` 2.1.1 of npm (answers the JSON
protocol, which boto3 speaks, with 415), `pyawsmock` and `fakecloud` of PyPI (a mock inside the process, and a client: not servers)."""


def _ways(found: Found, peers: Sequence[Peer], names: Sequence[str], cell: Callable[[Way], float], ours: str) -> str:
    base = found.ways.get(ours, {})
    rows = []
    for peer in peers:
        cells = [peer.name]
        for name in names:
            ways = found.ways.get(peer.key, {}).get(name)
            if not ways:
                cells.append("–")
                continue
            values = [cell(way) for way in ways]
            at = middle(values)
            text = f"{at:,.0f}" + (f" ({min(values):,.0f} to {max(values):,.0f})" if len(values) > 1 else "")
            if peer.key != ours and base.get(name):
                text += f", {at / middle([cell(way) for way in base[name]]):.2f} ×"
            cells.append(text)
        rows.append(cells)
    return table(["", *names], rows)


def _waits(found: Found, peers: Sequence[Peer]) -> str:
    rows = []
    for peer in peers:
        pickups, late = found.pickups.get(peer.key), found.late.get(peer.key)
        weight = found.memory.get(peer.key)
        rows.append(
            [
                peer.name,
                f"{middle(pickups) / 1_000:.2f} ms, {found.in_trips(peer.key):.1f} ×" if pickups else "–",
                f"{late[0] / 1_000:.1f} ms" if late else "–",
                f"{middle(found.trips[peer.key]) / 1_000:.2f} ms" if found.trips.get(peer.key) else "–",
                f"{weight[0]:,.0f} bytes ({weight[1]:,} messages)" if weight else "–",
            ]
        )
    return table(["", "pickup, in round trips", "after a long hold", "a SendMessage alone", "memory of a message"], rows)


def _said(found: Found) -> str:
    lines = []
    for key in OURS:
        if found.pickups.get(key):
            trips = found.in_trips(key)
            name = next(peer.name for peer in PEERS if peer.key == key)
            met = "met" if trips < TRIPS_MAX else "**not met**" + (": it waits for a commit on disk" if key != "jobqueue" else "")
            lines.append(f"- A held receive of {name} is answered in under {TRIPS_MAX:g} round trips: {trips:.1f}, {met}.")
    lines += [
        f"- {peer.name} was not measured{'' if found.ways.get(peer.key) else ' at all'}: {found.failures[peer.key]}"
        for peer in PEERS
        if peer.key in found.failures
    ]
    return "\n".join(lines)


def markdown(found: Found, plan: Plan, peers: Sequence[Peer]) -> str:
    """Their part of results.md."""
    here = [peer for peer in peers if found.ways.get(peer.key)]
    memory, disk = [peer for peer in here if not peer.disk], [peer for peer in here if peer.disk]
    boto = f"boto3 {importlib.metadata.version('boto3')}" if has_boto() else "no boto3, so without it"
    versions = ", ".join(dict.fromkeys(f"{peer.name} {peer.version()}" for peer in memory))
    names = WAYS if has_boto() else tuple(name for name, *_ in RAW)
    how = HOW.format(
        rounds=plan.rounds, size=200, connections=plan.connections, seconds=plan.seconds, messages=plan.messages,
        fill_seconds=plan.fill_seconds, wait=WAIT_SECONDS, stands=STANDS_SECONDS * 1_000, held=plan.held_seconds,
    )  # fmt: skip
    parts = [
        "# Amazon SQS's API beside other servers",
        f"{datetime.now(UTC):%Y-%m-%d}. {machine()}. {versions}; {boto}. A ratio (×) is to ours in the same table.",
    ]
    for title, several, ours in (("In memory", memory, OURS[0]), ("On disk", disk, OURS[1])):
        if several:
            parts += [f"## {title}: messages a second, end to end", _ways(found, several, names, lambda way: way.rate, ours)]
            if any(peer.disk for peer in several):
                told = "; ".join(f"{peer.name}: {peer.disk}" for peer in several)
                parts.append(f"What is on disk when a change is acknowledged: {told}.")
            parts += [f"## {title}: server CPU, µs a message", _ways(found, several, names, lambda way: way.server_us, ours)]
    parts += [
        "## Pickup and memory",
        f"A round trip to the bare handler took {middle(list(chain(*found.bare.values()))) / 1_000:.2f} ms.",
        _waits(found, here),
        _said(found),
        "## How",
        how,
    ]
    assert len(WAYS) == len(RAW) + len(BOTO)
    return "\n\n".join(part for part in parts if part) + "\n"
