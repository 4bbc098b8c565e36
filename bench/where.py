"""`python -m bench where`: where the server's CPU of one enqueue goes.

py-spy samples the server, C code included, while enqueues come over 32 connections. Each sample counts for the owner of its innermost
frame: a library's C code for that library, the interpreter's own for whoever's Python code called it. The kernel's share is what the kernel
itself says: system time beside user time. py-spy is in the extra `bench`, and needs to be allowed to look at its own user's processes.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import uvloop

from bench.load import load_on
from bench.peers.report import table
from bench.peers.servers import program
from bench.process import BenchError, Server, ours, prepare
from bench.report import machine
from bench.requests import ENQUEUE

OWNERS = (
    ("kernel", "system calls: reading, writing, polling", ()),
    (
        "jobqueue: engine",
        "the queue itself: rings, waiters, the table of jobs",
        ("jobqueue/engine", "jobqueue/model", "jobqueue/ids", "jobqueue/clock"),
    ),
    ("jobqueue: backend", "limits, events, handing out", ("jobqueue/backend",)),
    ("jobqueue: web", "routes, checks, the answer's bytes", ("jobqueue/",)),
    ("msgspec", "JSON to objects and back", ("msgspec",)),
    (
        "aiohttp",
        "the parser of heads, requests, connections",
        ("aiohttp", "yarl", "multidict", "propcache", "llhttp", "_http_parser", "(api.c", "(hashtable.h", "frozenlist", "aiosignal"),
    ),
    ("uvloop and asyncio", "the event loop, sockets, tasks", ("uvloop", "asyncio", "libuv", "(loop.c", "(core.c", "(stream.c", "(linux.c")),
)
"""In this order the first whose path or library a frame's file names."""
OTHER = "the interpreter and the rest"
SYSCALLS = frozenset(
    ("write", "writev", "read", "recv", "send", "sendmsg", "recvmsg", "epoll_wait", "epoll_pwait", "syscall", "accept4", "close")
)
"""Of the C library. Samples within them are left out: the kernel's own figure stands for them."""


def owner(stack: str) -> str:
    """Whose a sample is. stack: frames from the outermost, with semicolons between, as `py-spy record --format raw` writes them."""
    for frame in reversed(stack.split(";")):
        for name, _, signs in OWNERS:
            if any(sign in frame for sign in signs):
                return name
    return OTHER


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Of all samples, how much each owner has: lines of a stack and a count."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        innermost = stack.rpartition(";")[2].partition(" ")[0]
        if stack and innermost not in SYSCALLS:
            counts[owner(stack)] += int(count)
    total = counts.total()
    if not total:
        raise BenchError("py-spy took no samples")
    return {name: count / total for name, count in counts.items()}


def _system_and_user(server: Server) -> tuple[int, int]:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[12]), int(fields[11])


async def measure(seconds: float) -> tuple[float, float, dict[str, float]]:
    """Microseconds of CPU for an enqueue, the kernel's share of it, and the shares of the rest."""
    with tempfile.TemporaryDirectory() as folder, ours("--max-jobs", "5000000", "--max-payload-total-bytes", "4GiB") as server:
        async with load_on(server) as load:
            await load.send([ENQUEUE] * 2_000, 201)

            async def until(ended: asyncio.Event | None) -> tuple[int, int]:
                count, before, stop = 0, server.cpu_ns(), time.monotonic() + seconds
                while time.monotonic() < stop if ended is None else not ended.is_set():
                    await load.send([ENQUEUE] * 500, 201)
                    count += 500
                return count, server.cpu_ns() - before

            system, user = _system_and_user(server)
            # Unwatched first: the sampler stops the server for each sample.
            count, cpu = await until(None)
            system_after, user_after = _system_and_user(server)
            samples = Path(folder, "samples")
            command = [program("py-spy", "py-spy"), "record", "--native", "--format", "raw", "--rate", "200"]
            command += ["--duration", str(max(1, round(seconds))), "--output", str(samples), "--pid", str(server.process.pid)]
            ended = asyncio.Event()

            async def spy() -> tuple[int, bytes]:
                process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                _, errors = await process.communicate()
                ended.set()
                return process.returncode or 0, errors

            (code, errors), _ = await asyncio.gather(spy(), until(ended))
            if code:
                raise BenchError(f"py-spy: {errors.decode(errors='replace').strip()[-300:]}")
            lines = await asyncio.to_thread(samples.read_text)
            found = shares(lines.splitlines())
    used = system_after - system + user_after - user
    return cpu / count / 1_000, (system_after - system) / used, found


def told(micros: float, kernel: float, found: dict[str, float]) -> str:
    """The table, as docs/performance.md has it."""
    what = {name: text for name, text, _ in OWNERS}
    rows = [["kernel", what["kernel"], f"{kernel:.0%}", f"{micros * kernel:.0f}"]]
    for name, share in sorted(found.items(), key=lambda item: -item[1]):
        rows.append(
            [name, what.get(name, "what no Python code called"), f"{share * (1 - kernel):.0%}", f"{micros * share * (1 - kernel):.0f}"]
        )
    rows.append(["all", "", "100%", f"{micros:.0f}"])
    return table(("who", "what", "share", "µs"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench where", description="Where the server's CPU of one enqueue goes.")
    parser.add_argument("--quick", action="store_true", help="two seconds instead of ten")
    options = parser.parse_args(arguments)
    prepare()
    try:
        text = told(*uvloop.run(measure(2.0 if options.quick else 10.0)))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(f"{machine()}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
