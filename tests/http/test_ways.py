"""Which way of serving a server takes, and what it says where the fast one cannot be had."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp.http
import pytest

from jobqueue.http import fast
from jobqueue.http.fast import CannotServeFast, Parser, parser_for, proven
from jobqueue.process.config import load
from jobqueue.process.server import running

Broken = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(params=["any"], autouse=True)
def way(request: pytest.FixtureRequest) -> str:
    """These tests choose by themselves."""
    return str(request.param)


def _gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiohttp.http, "HttpRequestParser")


def _other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def parser(*args: Any, limits: object) -> None:
        raise AssertionError("unreachable")

    monkeypatch.setattr(aiohttp.http, "HttpRequestParser", parser)


class _Lenient:
    """Reads Content-Length as int() does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._strict = _REAL(*args, **kwargs)

    def feed_data(self, data: bytes) -> Any:
        return self._strict.feed_data(data.replace(b"+1", b"1"))


class _Other(_Lenient):
    """Tells of requests in a way of its own."""

    def feed_data(self, data: bytes) -> Any:
        return self._strict.feed_data(data)[0]


_REAL: Any = aiohttp.http.HttpRequestParser


def _lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.http, "HttpRequestParser", _Lenient)


def _other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.http, "HttpRequestParser", _Other)


def _fails_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parser, "parse", lambda *_: 1 / 0)
    monkeypatch.setattr(Parser, "_try", lambda _: None)
    monkeypatch.setattr(fast, "TRIAL_SECONDS", 0.2)


BROKEN: dict[str, Broken] = {
    "gone": _gone,
    "other arguments": _other_arguments,
    "lenient": _lenient,
    "other answers": _other_answers,
    "fails on the wire": _fails_on_the_wire,
}


async def test_auto_is_fast_where_that_can_be_had(caplog: pytest.LogCaptureFixture) -> None:
    """Without a word."""
    assert [await proven(name) for name in fast.WAYS] == ["fast", "fast", "plain"]
    assert not caplog.records


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_auto_steps_aside_with_one_warning(broken: Broken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It names what is missing; asked for the fast way, the server says the same and does not start; the plain one does not care."""
    broken(monkeypatch)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    assert await proven("auto") == "plain"
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "serving the plain way, which is slower: " in warning.getMessage()
    with pytest.raises(CannotServeFast) as raised:
        await proven("fast")
    assert str(raised.value) in warning.getMessage()
    assert await proven("plain") == "plain"


async def test_a_server_of_an_app_steps_aside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stands on is looked at wherever a server is made."""
    _gone(monkeypatch)
    assert parser_for("auto") is None
    with pytest.raises(CannotServeFast, match="HttpRequestParser is not there"):
        parser_for("fast")


@pytest.mark.parametrize("host", ["::", "127.0.0.1"])
async def test_a_server_listens_on_both_families_where_it_is_told_every_address(host: str, tmp_path: Path) -> None:
    """`::` takes IPv4 too, whatever the system's default for such sockets is."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    settings = load({"host": host, "port": "0", "token": "t" * 32}, {}, tmp_path / ".env")
    async with running(settings) as (_, port):
        for address in ("127.0.0.1", *(["::1"] if host == "::" else [])):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()
            await writer.wait_closed()
