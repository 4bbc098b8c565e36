"""Starting on Valkey: URLs, what is refused and what the refusal says, rights, TLS, damage, and that no message shows a password."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import trustme

from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen, Rows
from jobqueue.backend.store import valkey_checks, valkey_functions
from jobqueue.backend.store.store import Store
from jobqueue.backend.store.valkey import ValkeyStore, address_of
from jobqueue.backend.store.valkey_checks import RIGHTS
from jobqueue.backend.store.valkey_wire import Login, Place, Wait, slot_of
from tests.valkey import Node, needs_valkey, single, until, with_replicas

from .contract import claimed, group, kept, outcome, writer_of, written

SECRET = "s3cret:/@é"
QUOTED = "s3cret%3A%2F%40%C3%A9"

_names = (f"s{number}-" for number in itertools.count())


@pytest.fixture
def node() -> Node:
    needs_valkey()
    return single()


@pytest.fixture
def name() -> str:
    return next(_names)


@pytest.fixture
async def opened(name: str) -> AsyncIterator[Callable[..., Any]]:
    """Opens stores; closes them."""
    made: list[Store] = []

    async def make(url: str, acknowledge: Any = 0, **more: Any) -> ValkeyStore:
        store = ValkeyStore(url, acknowledge, **{"name": name, **more})
        made.append(store)
        await store.open()
        return store

    yield make
    for store in made:
        await store.close()


# URLs.


@pytest.mark.parametrize(
    ("url", "places", "user", "password", "tls", "path"),
    [
        ("valkey://a", [("a", 6379)], None, None, False, "valkey://a:6379"),
        ("valkey://a:1,b:2/", [("a", 1), ("b", 2)], None, None, False, "valkey://a:1,b:2"),
        ("valkeys://[::1]:7,b", [("::1", 7), ("b", 6379)], None, None, True, "valkeys://[::1]:7,b:6379"),
        (f"valkey://joe:{QUOTED}@a:1", [("a", 1)], "joe", SECRET, False, "valkey://joe@a:1"),
        (f"valkey://:{QUOTED}@a:1", [("a", 1)], None, SECRET, False, "valkey://a:1"),
    ],
)
def test_a_url_is_read(url: str, places: list[tuple[str, int]], user: str | None, password: str | None, tls: bool, path: str) -> None:
    """Hosts with and without ports, IPv6, users, passwords with anything in them; the path has no password."""
    assert address_of(url) == (tuple(Place(*place) for place in places), user, password, tls, path)


@pytest.mark.parametrize(
    "url",
    [
        "redis://a",
        "valkey://",
        "valkey:a",
        "valkey://a:b",
        "valkey://a:99999",
        f"valkey://u:{QUOTED}@a:x",
        f"valkey://u:{QUOTED}@a,,b",
        "valkey://u@a",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    """A URL that cannot be read is refused with a reason that has no password in it."""
    with pytest.raises(ValueError, match="valkey") as told:
        address_of(url)
    assert "s3cret" not in str(told.value)


def test_slots_are_those_of_the_specification() -> None:
    """The slot of a key is the one that Valkey's specification gives as an example; of a key with braces what they hold counts."""
    assert slot_of("123456789") == 12739
    assert slot_of("{jq0}:o") == slot_of("jq0") == slot_of("{jq0}:j:77")
    assert slot_of("{}x") != slot_of("")


def test_acknowledge_is_one_of_four(node: Node) -> None:
    """Anything but 0, 1, 2 and "aof" is refused at once."""
    with pytest.raises(ValueError, match="acknowledge"):
        ValkeyStore(node.url, 3)  # type: ignore[arg-type]


# Settings of the server.


async def refused(opened: Callable[..., Any], url: str, acknowledge: Any = 0, **more: Any) -> str:
    """What opening is refused with."""
    with pytest.raises(CannotOpen) as told:
        await opened(url, acknowledge, **more)
    return str(told.value)


def keeps_a_file(node: Node) -> bool:
    """Whether its append-only file is in use."""
    said = node.info("persistence")
    return all(line in said for line in ("aof_enabled:1", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"))


async def test_what_is_refused_of_a_server(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting that would lose jobs is refused, and the refusal says what to set."""
    needs_valkey()
    nodes = with_replicas(1)
    primary = nodes[0]
    try:
        primary.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert "set maxmemory-policy noeviction (it is allkeys-lru)" in await refused(opened, primary.url)
        primary.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert "has 1 replicas, and 2 must have each change" in await refused(opened, primary.url, 2)
        assert "set min-replicas-to-write 1" in await refused(opened, primary.url, 1)
        primary.tell("CONFIG", "SET", "min-replicas-to-write", 1)
        replica = nodes[1]
        assert f"127.0.0.1:{replica.port} as the primary goes on alone" in await refused(opened, primary.url, 1)
        replica.tell("CONFIG", "SET", "min-replicas-to-write", 1)
        replica.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert f"127.0.0.1:{replica.port} may forget jobs" in await refused(opened, primary.url, 1)
        replica.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await opened(primary.url, 1)
        if "redis_version:7.0" in primary.info("server") and "valkey_version" not in primary.info("server"):
            assert "has no WAITAOF: use Redis 7.2" in await refused(opened, primary.url, "aof")
            return
        assert "set appendonly yes" in await refused(opened, primary.url, "aof")
        for node in nodes:
            node.tell("CONFIG", "SET", "appendonly", "yes")
        # Until the first one is written, nothing is in it.
        until("append-only files are kept", lambda: all(keeps_a_file(node) for node in nodes))
        store = await opened(primary.url, "aof")
        await written(writer_of(store, await claimed(store)), group({1: (b"s", b"p")}))
        monkeypatch.setattr(valkey_checks, "VALKEY_MIN", 99)
        assert "Valkey 99 or Redis 7, or later, is needed" in await refused(opened, primary.url)
        server = {"redis_version": "7.0.15"}
        valkey_checks._check_version("valkey://a", Place("a", 1), server, Wait(1, 1.0))
        with pytest.raises(CannotOpen, match="has no WAITAOF: use Redis"):
            valkey_checks._check_version("valkey://a", Place("a", 1), server, Wait("aof", 1.0))
    finally:
        for node in nodes:
            node.remove()


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("format", "have format 900, for servers that know 900 or later"),
        ("partitions", "made with --partitions 900, and this server knows up to 128"),
    ],
)
async def test_another_format_is_refused(node: Node, opened: Callable[..., Any], name: str, field: str, says: str) -> None:
    """Rows of another format, or of more partitions than there can be, are left alone."""
    node.tell("HSET", f"{{{name}}}:meta", field, 900)
    assert says in await refused(opened, node.url)


async def test_a_newer_format_is_kept_from_an_old_server(node: Node, opened: Callable[..., Any], name: str) -> None:
    """A newer server that says that older ones may go on lets them; once it does not, one that runs already serves no rows either."""
    store = await opened(node.url)
    epoch = await claimed(store)
    meta = f"{{{name}}}:meta"
    node.tell("HSET", meta, "format", 9, "usable_from", valkey_checks.FORMAT)
    await opened(node.url)
    read_all(await store.rows(epoch))
    assert node.tell("HGET", meta, "format") == b"9"
    node.tell("HSET", meta, "usable_from", 8)
    assert "for servers that know 8 or later" in await refused(opened, node.url)
    with pytest.raises(CannotOpen, match="written by a newer jobqueue"):
        await store.rows(epoch)
    with pytest.raises(CannotOpen, match="written by a newer jobqueue"):
        await store.standing(epoch)


async def test_an_older_format_is_raised(node: Node, opened: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer server says at its start which format the rows have from then on, and who may go on with them."""
    await opened(node.url)
    monkeypatch.setattr(valkey_checks, "FORMAT", 9)
    await opened(node.url)
    assert node.tell("HMGET", f"{{{name}}}:meta", "format", "usable_from") == [b"9", b"%d" % valkey_checks.USABLE_FROM]


@pytest.mark.parametrize("known", [1, 2, 3])
async def test_servers_that_know_less_are_kept_from_rows_with_more(
    node: Node, opened: Callable[..., Any], name: str, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server that knows more says so in the store at its start, and none of before starts there, or owns it, from then on."""
    with monkeypatch.context() as before:
        before.setattr(valkey_checks, "FORMAT", known)
        before.setattr(valkey_checks, "USABLE_FROM", known)
        old = await opened(node.url)
        epoch = await claimed(old)
        await opened(node.url)
    await opened(node.url)
    monkeypatch.setattr(valkey_checks, "FORMAT", known)
    assert "have format 4, for servers that know 4 or later" in await refused(opened, node.url)
    with pytest.raises(CannotOpen, match="written by a newer jobqueue"):
        await old.rows(epoch)


async def test_clocks_that_are_apart_are_refused(
    node: Node, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Five seconds between the clocks are too much; half a second is told."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert "s apart: set both by NTP" in await refused(opened, node.url)
    monkeypatch.setattr(time, "time", lambda: real() - 2)
    await opened(node.url)
    assert "2.0 s apart" in caplog.text


async def test_a_newer_library_is_left_alone(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server brings its functions where there are none or older ones, and not over newer ones."""
    needs_valkey()
    node = Node()
    try:
        ours = valkey_functions.REVISION
        code = resources.files("jobqueue.backend.store").joinpath("valkey.lua").read_bytes()
        node.tell("FUNCTION", "LOAD", code.replace(b"REVISION = %d" % ours, b"REVISION = %d" % (ours + 1)))
        await opened(node.url)
        assert node.tell("FCALL_RO", "jo_revision", 0) == ours + 1
        monkeypatch.setattr(valkey_functions, "REVISION", ours + 2)
        await opened(node.url)
        assert node.tell("FCALL_RO", "jo_revision", 0) == ours
    finally:
        node.remove()


async def test_a_retired_library_is_deleted(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release deletes the library of an earlier one where it brings its own, and leaves those of others alone."""
    needs_valkey()
    node = Node()
    try:
        for library in ("jqown0", "theirs"):
            node.tell("FUNCTION", "LOAD", f"#!lua name={library}\nredis.register_function('{library}', function() return 1 end)")
        monkeypatch.setattr(valkey_functions, "RETIRED", ("jqown0", "jqown00"))
        await opened(node.url)
        assert sorted(library[1] for library in node.tell("FUNCTION", "LIST")) == [valkey_functions.LIBRARY.encode(), b"theirs"]
    finally:
        node.remove()


def test_the_revision_is_that_of_the_file() -> None:
    """What a server thinks that it brings is what it brings."""
    code = resources.files("jobqueue.backend.store").joinpath("valkey.lua").read_text(encoding="utf-8")
    assert f"#!lua name={valkey_functions.LIBRARY}\n" in code
    assert f"REVISION = {valkey_functions.REVISION}\n" in code


# Who may.


async def test_a_password_is_needed_and_never_shown(opened: Callable[..., Any]) -> None:
    """Without a password, or with a wrong one, the store is refused; with it, it opens. No text shows one."""
    needs_valkey()
    node = Node()
    try:
        node.tell("CONFIG", "SET", "requirepass", SECRET)
        said = [
            await refused(opened, node.url),
            await refused(opened, f"valkey://:wr0ng@127.0.0.1:{node.port}"),
            await refused(opened, f"valkey://joe:{QUOTED}@127.0.0.1:{node.port}"),
        ]
        store = await opened(f"valkey://:{QUOTED}@127.0.0.1:{node.port}")
        assert not [text for text in (*said, store.path) if "s3cret" in text or "wr0ng" in text]
        assert all("user and password stand in the URL" in text for text in said)
    finally:
        node.remove()


def test_an_old_servers_complaint_is_hidden() -> None:
    """A server that repeats the command it does not know is not quoted with the password."""
    login = Login("joe", SECRET)
    assert SECRET not in repr((login, address_of(f"valkey://joe:{QUOTED}@a")))
    assert SECRET not in login.hidden(f"ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'joe' '{SECRET}'")


async def test_the_rights_that_are_named_are_enough(opened: Callable[..., Any], name: str) -> None:
    """A user with the rights that the refusal names can do everything; with one fewer, the refusal comes at the start."""
    needs_valkey()
    node = Node()
    try:
        rights = RIGHTS.format(name=name).split()
        url = f"valkey://joe:pw@127.0.0.1:{node.port}"
        node.tell("ACL", "SETUSER", "joe", "on", ">pw", *rights)
        store = await opened(url)
        epoch = await claimed(store)
        await written(writer_of(store, epoch), group({1: (b"s", b"p")}, queues={"q": b"row"}))
        await store.renew(epoch, 60)
        assert len((await kept(store, epoch)).jobs) == 1
        assert len(await store.announce("a", "a:1")) == 1
        await store.depart("a")
        await store.release(epoch)
        for right in ("+hincrby", "+hscan", "+fcall", "+info", "+time"):
            node.tell("ACL", "SETUSER", "joe", f"-{right[1:]}")
            assert right in await refused(opened, url)
            node.tell("ACL", "SETUSER", "joe", right)
        node.tell("FUNCTION", "FLUSH")
        node.tell("ACL", "SETUSER", "joe", "-function|load")
        assert "+function|load" in await refused(opened, url)
    finally:
        node.remove()


def test_the_page_names_these_rights() -> None:
    """The line of docs/scale-out.md is the one to say, to the word."""
    page = (Path(__file__).parents[3] / "docs/scale-out.md").read_text(encoding="utf-8")
    assert f"ACL SETUSER jobqueue on >PASSWORD {RIGHTS.format(name='jq')}\n" in page


async def test_tls(node: Node, name: str, opened: Callable[..., Any]) -> None:
    """With valkeys:// everything goes over TLS, and a certificate that nobody vouches for is refused."""
    ca = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("127.0.0.1").configure_cert(theirs)
    ca.configure_trust(ours)
    tasks: set[asyncio.Task[Any]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", node.port)

        async def pump(one: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
            while data := await one.read(1 << 16):
                other.write(data)
            other.close()

        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=theirs)
    port = server.sockets[0].getsockname()[1]
    store = await opened(f"valkeys://127.0.0.1:{port}", tls=ours)
    await written(writer_of(store, await claimed(store)), group({1: (b"s", b"p")}))
    stranger = ValkeyStore(f"valkeys://127.0.0.1:{port}", 0, name=name)
    with pytest.raises(NotNow, match="certificate"):
        await stranger.open()
    await stranger.close()
    await store.close()
    server.close()
    await asyncio.gather(*tasks)


# Damage.


def read_all(rows: Rows) -> None:
    """What loading reads."""
    rows.counters()
    list(rows.queues())
    rows.count()
    list(rows.jobs())


@pytest.mark.parametrize(
    ("key", "field", "value", "says"),
    [
        ("j:0", "1", b"changed", "job number 1 does not have its checksum"),
        ("j:0", "1", b"", "job number 1 does not have its checksum"),
        ("p:0", "2", b"abcdef", "the payload of job number 2 does not have its checksum"),
        ("q", "default", b"abcdef", "queue 'default' does not have its checksum"),
        ("q", b"\xff", b"abcdef", "a queue is called"),
        ("j:0", "x", b"abcdef", "bucket 0 "),
        ("j:0", "3", b"abcdef", "bucket 0 should have 2 jobs and has 3"),
        ("b", "0", b"x", "does not hold numbers"),
        ("p:0", "1", None, "bucket 0 should have 2 jobs and has 2, and 1 payloads"),
        ("j:0", None, None, "bucket 0 should have 2 jobs and has 0"),
        ("c", None, b"abcdef", "the row of counters does not have its checksum"),
        ("j:0", None, b"text", "WRONGTYPE"),
    ],
)
async def test_damage_is_found(
    node: Node, opened: Callable[..., Any], name: str, key: str, field: Any, value: bytes | None, says: str
) -> None:
    """A row that was changed, lost or added by anybody but the owner keeps the queue from being served."""
    store = await opened(node.url)
    epoch = await claimed(store)
    await written(writer_of(store, epoch), group({1: (b"state", b"p"), 2: (b"state", b"p")}, queues={"default": b"row"}))
    whole = f"{{{name}0}}:{key}"
    if field is None:
        node.tell("DEL", whole) if value is None else node.tell("SET", whole, value)
    elif value is None:
        node.tell("HDEL", whole, field)
    else:
        node.tell("HSET", whole, field, value)
    with pytest.raises(CannotOpen, match="is damaged") as told:
        read_all(await store.rows(epoch))
    assert says in str(told.value)


async def test_rows_that_changed_places_are_found(node: Node, opened: Callable[..., Any], name: str) -> None:
    """A whole row that stands at another number is damage too: the checksum is salted."""
    store = await opened(node.url)
    epoch = await claimed(store)
    await written(writer_of(store, epoch), group({1: (b"one", b"p"), 2: (b"two", b"p")}))
    key = f"{{{name}0}}:j:0"
    node.tell("HSET", key, 1, node.tell("HGET", key, 2))
    with pytest.raises(CannotOpen, match="job number 1 does not have its checksum"):
        list((await store.rows(epoch)).jobs())


async def test_a_full_server_is_not_now(opened: Callable[..., Any]) -> None:
    """A server that has no memory left refuses a commit with its reason, holds the lease all the same, and goes on when there is room."""
    needs_valkey()
    node = Node()
    try:
        store = await opened(node.url)
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        node.tell("CONFIG", "SET", "maxmemory", 1)
        error = await outcome(writer, group({1: (b"s", b"p")}))
        assert isinstance(error, NotNow)
        assert "maxmemory is reached" in str(error)
        await store.renew(epoch, 60)
        node.tell("CONFIG", "SET", "maxmemory", 0)
        await written(writer, group({1: (b"s", b"p")}))
    finally:
        node.remove()
