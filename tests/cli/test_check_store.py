"""`jobqueue check --store`: a store is looked at as by a server that starts, and read as by its next owner, beside servers that run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from zlib import crc32

import pytest
from click.testing import CliRunner, Result

from jobqueue import Client
from jobqueue.backend.store import valkey_checks
from jobqueue.backend.store.postgres import PostgresStore
from jobqueue.cli import main
from tests.backend.store.contract import claimed, group, writer_of, written
from tests.faults.process import Process
from tests.postgres import postgres_server, postgres_stores
from tests.valkey import Node, needs_valkey

Check = Callable[..., Result]
HASH = "[0-9a-f]{16}"


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments], env=environ, catch_exceptions=False)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    needs_valkey()
    made = Node()
    yield made
    made.remove()


@pytest.fixture
def valkey(node: Node, alone: object) -> Node:
    """An empty one."""
    node.tell("FLUSHALL")
    node.tell("FUNCTION", "FLUSH")
    return node


def everything(node: Node) -> object:
    """All keys with what they hold, and all functions."""
    keys = sorted(node.tell("KEYS", "*"))
    return [(key, node.tell("DUMP", key)) for key in keys], node.tell("FUNCTION", "DUMP")


def stored(node: Node, change: Callable[[], object] = lambda: None) -> None:
    """A queue with jobs, owned by nobody."""
    with contextlib.closing(Process("--store", node.url, "--acknowledge", "0", "--peer-port", "0")) as server:
        with Client(f"http://127.0.0.1:{server.port}") as client:
            for number in range(5):
                client.enqueue(number, id=f"j{number}")
            client.cancel("j1")
        server.end()
    change()


def test_a_store_is_checked_while_servers_run(valkey: Node) -> None:
    """Jobs by status, who owns them and which servers are there; the servers go on, and nothing is left behind."""
    flags = ("--store", valkey.url, "--acknowledge", "0", "--peer-port", "0")
    with contextlib.closing(Process(*flags)) as first, contextlib.closing(Process(*flags)) as second:
        with Client(f"http://127.0.0.1:{first.port}") as one, Client(f"http://127.0.0.1:{second.port}") as other:
            for number in range(4):
                one.enqueue(number, id=f"j{number}")
            other.cancel("j1")
            result = run("--store", valkey.url, "--acknowledge", "0")
            job = other.dequeue(wait=10)
            assert (job and job.id) == "j0"
        assert result.exit_code == 0, result.output
        whole, contents, owner, servers, *more = result.output.splitlines()
        assert whole == f"{valkey.url}: whole; 4 jobs (1 concluded, 3 queued) in 1 queue, 3 bytes in live jobs"
        assert re.fullmatch(rf"contents: 4 jobs {HASH}, 1 queue {HASH}, 0 schedules 0{{16}}, 0 groups 0{{16}}", contents)
        assert re.fullmatch(r"owner: \S+ at 127\.0\.0\.1:\d+, epoch 1, its lease ends in \d\.\d s", owner)
        assert re.fullmatch(r"servers: (\S+ at 127\.0\.0\.1:\d+, seen \d+\.\d s ago(; |$)){2}", servers)
        assert not more


def test_it_changes_nothing(valkey: Node) -> None:
    """Neither a store that servers have left, nor one on which none ever was, of which the refusal says that it will do."""
    empty = everything(valkey)
    result = run(JOBQUEUE_STORE=valkey.url, JOBQUEUE_ACKNOWLEDGE="0")
    assert (result.exit_code, "can be used, but has no jobs to check: no server has used it yet" in result.output) == (1, True)
    assert everything(valkey) == empty
    stored(valkey)
    before = everything(valkey)
    result = run(JOBQUEUE_STORE=valkey.url, JOBQUEUE_ACKNOWLEDGE="0")
    assert result.exit_code == 0, result.output
    assert "5 jobs (1 concluded, 4 queued)" in result.output
    assert "owner: nobody\nservers: none\n" in result.output
    assert everything(valkey) == before


def test_what_a_server_would_be_refused_is_refused(valkey: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, replicas, format, rights, the clock: the refusal says what to set; with exit code 1 and on one line."""

    def refused(url: str = valkey.url, acknowledge: str = "0") -> str:
        result = run("--store", url, "--acknowledge", acknowledge)
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        return result.output

    assert "has 0 replicas, and 1 must have each change" in refused(acknowledge="1")
    valkey.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "set maxmemory-policy noeviction" in refused()
    valkey.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
    valkey.tell("ACL", "SETUSER", "joe", "on", ">secret", *valkey_checks.RIGHTS.format(name="jq").split())
    joe = f"valkey://joe:secret@127.0.0.1:{valkey.port}"
    assert "can be used" in refused(joe)
    for right in ("+function|load", "+hscan", "+fcall_ro"):
        valkey.tell("ACL", "SETUSER", "joe", f"-{right[1:]}")
        assert right in refused(joe)
        valkey.tell("ACL", "SETUSER", "joe", right)
    valkey.tell("HSET", "{jq}:meta", "format", "9", "partitions", "1")
    assert "have format 9" in refused()
    valkey.tell("HSET", "{jq}:meta", "format", valkey_checks.FORMAT)
    assert "has functions of revision 0" in refused()
    assert "secret" not in refused(f"valkey://joe:secret@127.0.0.1:{1}")
    monkeypatch.setattr(valkey_checks, "CLOCK_SECONDS_MAX", -1.0)
    assert "set both by NTP" in refused()


def row(content: bytes, salt: int) -> bytes:
    return crc32(content, salt).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    ("key", "field", "value", "says"),
    [
        ("j:0", "1", b"changed", "job number 1 does not have its checksum"),
        ("p:0", "3", None, "job number 3 has no payload"),
        ("j:0", "3", None, "should have 5 jobs and has 4"),
        ("q", "default", None, "is damaged: "),
        ("j:0", "2", row(b"what no server writes", 2), "is damaged: "),
        ("c", None, row(b"\x80", 0), "is damaged: "),
    ],
)
def test_damage_is_found(valkey: Node, key: str, field: str | None, value: bytes | None, says: str) -> None:
    """A row that was changed or lost, one that is whole and makes no sense, and rows that contradict each other."""
    stored(valkey)
    whole = f"{{jq0}}:{key}"
    if value is None:
        valkey.tell("HDEL", whole, field)
    elif field is None:
        valkey.tell("SET", whole, value)
    else:
        valkey.tell("HSET", whole, field, value)
    result = run("--store", valkey.url, "--acknowledge", "0")
    assert (result.exit_code, "is damaged" in result.output, says in result.output) == (1, True, True), result.output
    assert result.output.count("\n") == 1


def test_one_thing_at_a_time(alone: object) -> None:
    """A file and a store, nothing, and no URL of a store: exit code 2. A file is checked whatever the environment says."""
    assert run("jobs.db", "--store", "valkey://a").exit_code == 2
    assert run("jobs.db", "--acknowledge", "1").exit_code == 2
    nothing = run()
    assert (nothing.exit_code, "give FILE, or --store URL, or set JOBQUEUE_STORE" in nothing.output) == (2, True)
    assert run("--store", "http://a").exit_code == 2
    assert "jobs.db: no such file" in run("jobs.db", JOBQUEUE_STORE="valkey://a").output


async def test_postgres_is_checked_too(alone: object) -> None:
    """Before any server, beside one that owns, and once a row is damaged."""
    server = postgres_server()
    async with postgres_stores(server) as make:
        store: PostgresStore = make()

        async def looked_at() -> str:
            other = make()
            try:
                await other.inspect()
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return f"{await other.members()}"

        assert "CannotOpen" in (said := await looked_at())
        assert "can be used, but has no jobs to check" in said
        await store.open()
        assert await looked_at() == "[]"
        await store.announce("a", "a:1")
        assert "name='a', address='a:1'" in await looked_at()
        epoch = await claimed(store)
        await written(writer_of(store, epoch), group({1: (b"s", b"p")}))


def test_a_store_of_postgres_from_the_command_line(alone: object) -> None:
    """The same lines as of Valkey, and the same exit codes."""
    server = postgres_server()
    server.sql("DROP SCHEMA IF EXISTS jobqueue CASCADE")
    url = server.url()
    # The tests' server is otherwise one that loses all in a power cut, which is refused.
    with server.setting("fsync", "on"), server.setting("full_page_writes", "on"), server.setting("synchronous_commit", "on"):
        result = run("--store", url)
        assert (result.exit_code, "no server has used it yet" in result.output) == (1, True), result.output
        with contextlib.closing(Process("--store", url, "--peer-port", "0")) as process:
            with Client(f"http://127.0.0.1:{process.port}") as client:
                client.enqueue(1)
                result = run("--store", url)
            assert result.exit_code == 0, result.output
            assert "whole; 1 job (1 queued) in 1 queue, 1 byte in live jobs\ncontents: 1 job " in result.output
        server.sql("UPDATE jobqueue.payloads SET payload = '2'")
        result = run("--store", url)
        assert (result.exit_code, "the payload of job number 1 does not have its checksum" in result.output) == (1, True), result.output
    server.sql("DROP SCHEMA IF EXISTS jobqueue CASCADE")
