"""What is put to the test: servers and the store beneath them, each a process of its own, and what can be done to them."""

from __future__ import annotations

import abc
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from jobqueue import Client, Retrying
from jobqueue.errors import QueueError
from tests.faults.process import Process, go_on, stop
from tests.postgres import PostgresServer
from tests.valkey import Node, cluster, free_port

SERVERS = 3
LEASE_SECONDS = 5.0
"""`--owner-lease`, its default."""
NODE_TIMEOUT_MS = 1_000
ASKING_SECONDS = 1.0
CALM_SECONDS = 40.0
"""Long enough for partitions to move after a change of servers: they begin to after 30 s."""

Strike = Callable[[Random], None]
"""One fault, from its beginning to its end: whoever was killed runs again, whoever stood still goes on."""


def restart_pause(luck: Random) -> float:
    """Seconds until somebody starts a process again that was killed."""
    return luck.uniform(0.2, 4.0)


def stop_seconds(luck: Random) -> float:
    """How long a process stands still."""
    return luck.uniform(1.0, 8.0)


class Server:
    """`jobqueue serve` at the same addresses each time it is started."""

    def __init__(self, store: list[str]) -> None:
        self.port, peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # History as large as the run, so that each job can be asked for in the end.
        bounds = ("--history-jobs", "1000000", "--history-bytes", "1GiB")
        self._flags = ("--port", str(self.port), "--peer-port", str(peer), "--owner-lease", f"{LEASE_SECONDS:g}s", *store, *bounds)
        self.log = ""
        self.restart()

    @property
    def pid(self) -> int:
        """Of its process now."""
        return self.process.process.pid

    def kill(self) -> None:
        """kill -9."""
        self.process.signal(signal.SIGKILL)
        self.process.wait()
        self.close()

    def restart(self) -> None:
        """Start it, anew if it ran before."""
        self.process, self.running = Process(*self._flags), True

    def close(self) -> None:
        """End it, and keep what it logged."""
        if self.running:
            self.running = False
            self.log += self.process.log()
            self.process.close()

    def terminate(self) -> None:
        """SIGTERM, until it has ended."""
        self.process.signal(signal.SIGTERM)
        self.process.wait()
        self.close()

    def owns(self) -> int:
        """How many partitions it owns. Raises QueueError when it does not answer."""
        with Client(self.url, timeout=ASKING_SECONDS, retrying=Retrying(tries=1)) as asking:
            told = asking.stats().cluster
        if told is None:
            return 0
        owners = [partition.owner for partition in told.partitions] or [told.owner]
        return sum(owner is not None and owner.name == told.name for owner in owners)

    def sees(self) -> int:
        """How many servers are there in its eyes, of which some own all partitions and answer; 0 if a partition has no owner."""
        with contextlib.suppress(QueueError), Client(self.url, timeout=ASKING_SECONDS, retrying=Retrying(tries=1)) as asking:
            told = asking.stats()
            if told.cluster is not None and told.unavailable is None:
                owners = [partition.owner for partition in told.cluster.partitions] or [told.cluster.owner]
                if None not in owners:
                    return sum(member.seen_seconds < 3.0 for member in told.cluster.members)
        return 0


class Stand(abc.ABC):
    """Three servers on a store of so many partitions. cases: what can be done to it, by name. With several partitions, "the owner" is the
    server that owns most of them, and "a server that does not own" another one.
    """

    def __init__(self, store: list[str], partitions: int) -> None:
        self.store = store
        self.partitions = partitions
        self.servers: list[Server] = []
        self.cases: dict[str, Strike] = {
            "kill -9 of a server that does not own": lambda luck: self._kill_server(luck.choice(self._fronts()), luck),
            "kill -9 of the owner": lambda luck: self._kill_server(self.owner(), luck),
            "SIGSTOP of a server that does not own": lambda luck: _stop(luck.choice(self._fronts()).pid, luck),
            "SIGSTOP of the owner": lambda luck: _stop(self.owner().pid, luck),
        }
        if partitions > 1:
            self.cases["SIGTERM of the owner"] = lambda luck: self._stop_server(self.owner(), luck)
            self.cases["a time of calm, in which partitions move"] = lambda luck: time.sleep(CALM_SECONDS)

    def start(self) -> None:
        """Start the servers."""
        for _ in range(SERVERS):
            self.servers.append(Server([*self.store, "--partitions", str(self.partitions)]))

    def close(self) -> None:
        """End all."""
        for server in self.servers:
            server.close()

    def owner(self) -> Server:
        """The server that owns the queue, or most partitions."""
        deadline = time.monotonic() + 60.0
        while True:
            owned: dict[Server, int] = {}
            for server in self.servers:
                with contextlib.suppress(QueueError):
                    owned[server] = server.owns()
            if any(owned.values()):
                return max(owned, key=owned.__getitem__)
            assert time.monotonic() < deadline, "nobody owns the queue"

    def _fronts(self) -> list[Server]:
        owner = self.owner()
        return [server for server in self.servers if server is not owner]

    @staticmethod
    def _kill_server(server: Server, luck: Random) -> None:
        server.kill()
        time.sleep(restart_pause(luck))
        server.restart()

    @staticmethod
    def _stop_server(server: Server, luck: Random) -> None:
        server.terminate()
        time.sleep(restart_pause(luck))
        server.restart()

    def whole(self) -> bool:
        """Whether all that was struck is as it was, so that the next fault is one alone again."""
        if not self.store_whole():
            return False
        # One who no longer answers at its old name is seen for a while.
        return all(server.sees() >= SERVERS for server in self.servers)

    @abc.abstractmethod
    def store_whole(self) -> bool:
        """The same of the store."""

    @abc.abstractmethod
    def told(self) -> str:
        """How the store is, for whoever asks why it is not whole."""

    def checked(self) -> str:
        """What `jobqueue check` says of the store; AssertionError if it is not whole."""
        command = [sys.executable, "-m", "jobqueue", "check", *self.store]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout


def _stop(pid: int, luck: Random) -> None:
    stop(pid)
    time.sleep(stop_seconds(luck))
    go_on(pid)


class ValkeyStand(Stand):
    """Three primaries with two replicas each, set up as docs/scale-out.md says."""

    def __init__(self, partitions: int) -> None:
        self.nodes = cluster(
            replicas=2,
            primaries=3,
            cluster_node_timeout=NODE_TIMEOUT_MS,
            min_replicas_to_write=1,
            min_replicas_max_lag=2,
            appendonly="yes",
            appendfsync="everysec",
        )
        addresses = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        super().__init__(["--store", f"valkey://{addresses}", "--acknowledge", "1"], partitions)
        self._slot = int(self.nodes[0].tell("CLUSTER", "KEYSLOT", "{jq0}:o"))
        for name, choose in (
            ("the primary", self.primary),
            ("another primary", self._other_primary),
            ("a replica of the primary", self._replica),
        ):
            self.cases[f"kill -9 of {name}"] = lambda luck, choose=choose: _kill_node(choose(luck), luck)  # type: ignore[misc]
            self.cases[f"SIGSTOP of {name}"] = lambda luck, choose=choose: _stop(choose(luck).process.pid, luck)  # type: ignore[misc]

    def close(self) -> None:
        super().close()
        for node in self.nodes:
            node.remove()

    def _shards(self) -> list[tuple[bool, Node, list[Node]]]:
        """Each primary with its replicas, and whether the queue's slot is its own."""
        rows = [line.split() for line in self.nodes[0].tell("CLUSTER", "NODES").decode().splitlines()]
        nodes = {node.port: node for node in self.nodes}
        by_name = {row[0]: nodes[int(row[1].partition("@")[0].rpartition(":")[2])] for row in rows}
        shards = []
        for row in rows:
            if "master" in row[2] and row[8:]:
                ranges = [part.partition("-") for part in row[8:] if not part.startswith("[")]
                holds = any(int(first) <= self._slot <= int(last or first) for first, _, last in ranges)
                shards.append((holds, by_name[row[0]], [by_name[other[0]] for other in rows if other[3] == row[0]]))
        return shards

    def primary(self, _luck: Random) -> Node:
        """The one that holds the queue."""
        return next(primary for holds, primary, _ in self._shards() if holds)

    def _other_primary(self, luck: Random) -> Node:
        return luck.choice([primary for holds, primary, _ in self._shards() if not holds])

    def _replica(self, luck: Random) -> Node:
        return luck.choice(next(replicas for holds, _, replicas in self._shards() if holds))

    def store_whole(self) -> bool:
        try:
            return all(_well(node, len(self.nodes)) for node in self.nodes) and all(_followed(shard[1]) for shard in self._shards())
        except (OSError, KeyError):
            return False

    def told(self) -> str:
        told = []
        for node in self.nodes:
            with contextlib.suppress(OSError):
                told += [f"{node.port} says:", node.tell("CLUSTER", "NODES").decode(), node.info("replication")]
        return "\n".join(told)


def _well(node: Node, count: int) -> bool:
    """Whether a node serves, and thinks well of all others."""
    nodes = node.tell("CLUSTER", "NODES").decode().splitlines()
    flags = [flag for line in nodes for flag in line.split()[2].split(",")]
    sane = len(nodes) == count and not {"fail", "fail?", "noaddr", "handshake"}.intersection(flags)
    return sane and "cluster_state:ok" in node.tell("CLUSTER", "INFO").decode()


def _followed(primary: Node) -> bool:
    """Whether two replicas have all but the last second of it."""
    lines = [line for line in primary.info("replication").splitlines() if line.startswith("slave")]
    return sum("state=online" in line and ("lag=0" in line or "lag=1" in line) for line in lines) == 2


def _kill_node(node: Node, luck: Random) -> None:
    node.kill()
    time.sleep(restart_pause(luck))
    node.start()


# Committed to the disk, as a server asks for before it starts.
POSTGRES_SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 60
log_min_messages = fatal
"""


class PostgresStand(Stand):
    """One database."""

    def __init__(self, partitions: int) -> None:
        self.postgres = PostgresServer(POSTGRES_SETTINGS)
        super().__init__(["--store", self.postgres.url()], partitions)
        self.cases["restart -m immediate of the database"] = self._restart
        self.cases["SIGSTOP of the database"] = self._stop_database

    def _restart(self, luck: Random) -> None:
        self.postgres.restart_immediately()

    def _stop_database(self, luck: Random) -> None:
        with self.postgres.stopped():
            time.sleep(stop_seconds(luck))

    def close(self) -> None:
        super().close()
        self.postgres.close()

    def store_whole(self) -> bool:
        return self.postgres.sql("SELECT 1") == [(1,)]

    def told(self) -> str:
        return (self.postgres.folder / "log").read_text()[-2_000:]


STANDS: dict[str, type[ValkeyStand] | type[PostgresStand]] = {"valkey": ValkeyStand, "postgres": PostgresStand}


@contextlib.contextmanager
def stand_on(store: str, logs: Path | None = None, partitions: int = 1) -> Iterator[Stand]:
    """A stand that serves. store: valkey or postgres; logs: a folder in which to leave what the servers logged."""
    stand = STANDS[store](partitions)
    try:
        stand.start()
        yield stand
    finally:
        stand.close()
        for number, server in enumerate(stand.servers if logs is not None else ()):
            Path(logs or "", f"server-{number}.log").write_text(server.log)
