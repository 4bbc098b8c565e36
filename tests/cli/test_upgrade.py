"""Upgrading one server after another: processes of this version and of a later one, made here, own one queue in turns."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jobqueue
from jobqueue import Client, Retrying
from tests.faults.process import Process
from tests.postgres import PostgresServer, postgres_server
from tests.valkey import Node, needs_valkey

pytestmark = pytest.mark.long

GUARD = 30.0


class Later:
    """A copy of the package, changed as a later version would be."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(Path(jobqueue.__file__).parent, folder / "jobqueue", ignore=shutil.ignore_patterns("__pycache__"))
        self.store = folder / "jobqueue/backend/store"

    def change(self, name: str, *changes: tuple[str, str]) -> None:
        """Replace in one file of the store's room."""
        path = self.store / name
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)

    @property
    def before(self) -> str:
        """What a process runs first to be of this version."""
        return (
            f"import sys; sys.path.insert(0, {str(self._folder)!r}); import jobqueue; assert {str(self._folder)!r} in jobqueue.__file__; "
        )

    def of_valkey(self, kept_out: bool) -> None:
        """A library of its own, in which commits also say `by`, and a later format of rows."""
        for path in self.store.glob("valkey*"):
            path.write_text(re.sub(r"\bjo_", "jo2_", path.read_text()).replace("jqown1", "jqown2"))
        for name in ("valkey.lua", "valkey_functions.py"):
            path = self.store / name
            path.write_text(re.sub(r"REVISION = \d+", "REVISION = 1", path.read_text(), count=1))
        self.change("valkey.lua", ("redis.call('HSET', o, 'change', a[2],", "redis.call('HSET', o, 'by', 'later', 'change', a[2],"))
        self.change("valkey_checks.py", ("FORMAT = 4", "FORMAT = 5"), ("USABLE_FROM = 4", f"USABLE_FROM = {5 if kept_out else 4}"))

    def of_postgres(self, kept_out: bool) -> None:
        """A column more, and a function that fills it beside the one that does not know it."""
        path = self.store / "postgres_schema.py"
        found = re.search(r"CREATE FUNCTION \{schema\}\.commit_1\{part\}\(.*?END \$\$;", path.read_text(), re.DOTALL)
        assert found is not None
        commit = found[0].replace("commit_1", "commit_2").replace("attempt = number_of_try", "attempt = number_of_try, by = 'later'")
        more = f"_SIXTH = {f'ALTER TABLE {{schema}}.owner{{part}} ADD COLUMN by text;{commit}'!r}\n\nMIGRATIONS"
        self.change(
            path.name,
            ("    Migration(_FIFTH, 4),\n", f'    Migration(_FIFTH, 4),\n    Migration("SELECT 1", {6 if kept_out else 4}, _SIXTH),\n'),
            ("\nMIGRATIONS", f"\n{more}"),
        )
        self.change("postgres.py", ("commit_1", "commit_2"))


class Kept:
    """A store, and who committed to it last: a server of the later version, which says so, or of this one, which knows nothing of it."""

    def __init__(self, flags: tuple[str, ...], by: Callable[[], object], forget: Callable[[], object], later: Callable[..., Later]) -> None:
        self.flags = (*flags, "--peer-port", "0", "--owner-lease", "10s")
        self.by = by
        self.forget = forget
        self.later = later


@pytest.fixture(params=["valkey", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """An empty store of each kind."""

    def later(kept_out: bool) -> Later:
        made = Later(tmp_path)
        made.of_valkey(kept_out) if request.param == "valkey" else made.of_postgres(kept_out)
        return made

    with contextlib.ExitStack() as stack:
        yield _valkey(stack, later) if request.param == "valkey" else _postgres(stack, later)


def _valkey(stack: contextlib.ExitStack, later: Callable[..., Later]) -> Kept:
    needs_valkey()
    node = Node()
    stack.callback(node.remove)
    by = lambda: (node.tell("HGET", "{jq0}:o", "by") or b"").decode() or None  # noqa: E731
    return Kept(("--store", node.url, "--acknowledge", "0"), by, lambda: node.tell("HDEL", "{jq0}:o", "by"), later)


def _postgres(stack: contextlib.ExitStack, later: Callable[..., Later]) -> Kept:
    server: PostgresServer = postgres_server()
    drop = "DROP SCHEMA IF EXISTS jobqueue CASCADE"
    server.sql(drop)
    stack.callback(server.sql, drop)
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        stack.enter_context(server.setting(name, "on"))
    by = lambda: server.sql("SELECT by FROM jobqueue.owner")[0][0]  # noqa: E731
    return Kept(("--store", server.url()), by, lambda: server.sql("UPDATE jobqueue.owner SET by = NULL"), later)


def client(server: Process) -> Client:
    return Client(f"http://127.0.0.1:{server.port}", retrying=Retrying(tries=50, cap=1.0))


def test_an_old_server_and_a_new_one_own_a_queue_in_turns(kept: Kept) -> None:
    """Each finds the other's jobs and leases, with what it calls in the store of its own, however often they change."""
    later = kept.later(kept_out=False)
    with contextlib.ExitStack() as stack:

        def start(before: str) -> Process:
            return stack.enter_context(contextlib.closing(Process(*kept.flags, before=before)))

        servers = [start("")]
        with client(servers[0]) as asking:
            asking.enqueue(0, id="j0")
            leased = asking.dequeue(wait=GUARD)
            assert leased is not None
        for turn, (before, by) in enumerate([(later.before, "later"), ("", None), (later.before, "later"), ("", None)], 1):
            servers.append(start(before))
            # Beside an owner of the other version, which does what it is asked for over their link.
            with client(servers[-1]) as asking:
                asking.enqueue(turn, id=f"j{turn}")
            servers[-2].end()
            kept.forget()
            with client(servers[-1]) as asking:
                asking.extend(leased.id, leased.lease.token)
                asking.enqueue(turn, id=f"k{turn}")
                found = {job.id for job in asking.jobs().jobs}
            assert kept.by() == by
            assert found == {"j0", *(f"{name}{number}" for name in "jk" for number in range(1, turn + 1))}
        with client(servers[-1]) as asking:
            asking.conclude(leased.id, leased.lease.token, "succeeded")
        servers[-1].end()


def test_an_old_server_is_refused_what_is_not_for_it_any_more(kept: Kept) -> None:
    """Once a version has been there that older ones cannot read after, they do not start, and say why."""
    later = kept.later(kept_out=True)
    with contextlib.closing(Process(*kept.flags, before=later.before)) as server:
        with client(server) as asking:
            asking.enqueue(1)
        server.end()
    with pytest.raises(AssertionError, match="newer jobqueue; use that, or a later one"):
        Process(*kept.flags)
