"""The stores of many servers, each started on loopback as docs/scale-out.md says, and several servers on one of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.peers.servers import START_SECONDS, _free_port, _wait_for, cpu_ns, running, valkey_binary
from bench.process import CORES, STOP_SECONDS, BenchError, Server, ours
from bench.wire import Blocking, request

STATS = request("GET", "/stats")
SECRET = "bench-" + "s" * 26


class Store(NamedTuple):
    """A store that runs. flags: by which a server is told of it; cpu_ns: what it has used, its replicas not counted; port: of a Valkey."""

    name: str
    flags: tuple[str, ...]
    cpu_ns: Callable[[], int]
    port: int = 0


@contextlib.contextmanager
def _valkey_node(folder: Path, *more: str) -> Iterator[tuple[int, int]]:
    """One Valkey server; its process and port."""
    folder.mkdir()
    port = _free_port()
    settings = {
        "bind": "127.0.0.1", "port": port, "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "everysec",
        "maxmemory-policy": "noeviction", "min-replicas-to-write": 1, "min-replicas-max-lag": 2, "repl-diskless-sync-delay": 0,
    }  # fmt: skip
    command = [valkey_binary(), *(part for name, value in settings.items() for part in (f"--{name}", str(value))), *more]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_for(process, port, log)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_SECONDS)


@contextlib.contextmanager
def valkey() -> Iterator[Store]:
    """A primary with one replica, which has each change before it is acknowledged. Raises BenchError."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-valkey-")))
        pid, port = stack.enter_context(_valkey_node(folder / "primary"))
        stack.enter_context(_valkey_node(folder / "replica", "--replicaof", f"127.0.0.1 {port}"))
        deadline = time.monotonic() + START_SECONDS
        while "state=online" not in valkey_info(port, "replication"):
            if time.monotonic() > deadline:
                raise BenchError("the replica does not follow")
            time.sleep(0.05)
        yield Store("Valkey, WAIT 1", ("--store", f"valkey://127.0.0.1:{port}", "--acknowledge", "1"), lambda: cpu_ns(pid), port)


def valkey_info(port: int, section: str) -> str:
    """What a Valkey says of itself."""
    connection = Blocking(port)
    connection.send(f"INFO {section}\r\n".encode())
    told = connection.receive_some().decode()
    connection.close()
    return told


@contextlib.contextmanager
def postgres() -> Iterator[Store]:
    """One database that syncs each commit. Raises BenchError."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-postgres-") as folder,
        running("postgres", Path(folder, "server"), durable=True) as started,
    ):
        deadline = time.monotonic() + START_SECONDS
        while not _takes_connections(started.address):
            if time.monotonic() > deadline:
                raise BenchError("PostgreSQL takes no connections")
            time.sleep(0.05)
        yield Store("PostgreSQL, fsync", ("--store", started.address), lambda: cpu_ns(started.pid))


def _takes_connections(address: str) -> bool:
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(address, connect_timeout=2).close()
        return True
    return False


STORES: tuple[Callable[[], contextlib.AbstractContextManager[Store]], ...] = (valkey, postgres)


@contextlib.contextmanager
def servers_on(store: Store, count: int) -> Iterator[list[Server]]:
    """So many servers on a store, the first of which owns the queue, and the last of which follows it. They may use every core."""
    with contextlib.ExitStack() as stack:
        started: list[Server] = []
        for number in range(count):
            follows = () if number == count - 1 else ("--no-standby",)
            server = stack.enter_context(ours(*store.flags, "--peer-port", "0", "--peer-secret", SECRET, *follows))
            os.sched_setaffinity(server.process.pid, CORES)
            started.append(server)
            _wait_until(server, owns=number == 0)
        yield started


def _wait_until(server: Server, owns: bool) -> None:
    """Wait until a server owns the queue, or sees who does."""
    connection = Blocking(server.port)
    deadline = time.monotonic() + START_SECONDS
    while True:
        told = json.loads(connection.ask(STATS).body).get("cluster") or {}
        owner = told.get("owner")
        if owner is not None and (owner["name"] == told["name"]) == owns:
            break
        if time.monotonic() > deadline:
            raise BenchError("a server does not find its place on the store")
        time.sleep(0.05)
    connection.close()


@contextlib.contextmanager
def partitioned_on(store: Store, count: int, partitions: int, *, standby: bool = False) -> Iterator[list[Server]]:
    """So many servers on a new store with so many partitions, with standbys or without. At first, the first server owns all partitions."""
    flags = ["--partitions", str(partitions), "--peer-port", "0", "--peer-secret", SECRET, *([] if standby else ["--no-standby"])]
    with contextlib.ExitStack() as stack:
        started: list[Server] = []
        for _ in range(count):
            # Nobody uses the store afterwards, so nothing has to be handed over.
            server = stack.enter_context(ours(*store.flags, *flags, quiet=True, end=signal.SIGKILL))
            os.sched_setaffinity(server.process.pid, CORES)
            started.append(server)
            wait_until(lambda: set(owners(started, partitions)) == {0}, "the first server does not own all partitions")
        yield started


def wait_until(true: Callable[[], bool], otherwise: str, seconds: float = START_SECONDS) -> None:
    """Ask again and again. Raises BenchError with what is wrong otherwise."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise BenchError(otherwise)
        time.sleep(0.1)


def owners(servers: Sequence[Server], partitions: int) -> list[int | None]:
    """For each partition, which of the servers owns it, as all of them say; None if they do not agree yet."""
    views = []
    names = []
    for server in servers:
        connection = Blocking(server.port)
        told = json.loads(connection.ask(STATS).body).get("cluster") or {}
        connection.close()
        names.append(told.get("name"))
        named = {each["index"]: each["owner"] for each in told.get("partitions") or ()} if partitions > 1 else {0: told.get("owner")}
        views.append([(named.get(index) or {}).get("name") for index in range(partitions)])
    agreed = [each[0] if len(set(each)) == 1 else None for each in zip(*views, strict=True)]
    return [names.index(name) if name in names and name is not None else None for name in agreed]
