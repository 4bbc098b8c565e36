"""The documentation says what the server does: sessions are run again, tables are compared with the code, links lead somewhere.

`python -m tests.test_docs` writes the lifecycle table into docs/semantics.md anew.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_origin

import click
import pytest
from aiohttp import ClientSession, TCPConnector
from yarl import URL

import jobqueue
from jobqueue.api.app import App
from jobqueue.api.describe.openapi import document
from jobqueue.api.mounts import server_routes
from jobqueue.api.native.table import native_routes
from jobqueue.api.problems import PROBLEMS
from jobqueue.api.routes import Route
from jobqueue.cli import main
from jobqueue.engine.lifecycle import markdown
from jobqueue.http.plain import FIELD_BYTES_MAX
from jobqueue.limits import Limits
from jobqueue.process.config import SETTINGS, Settings
from jobqueue.process.server import running

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PROTOCOL = ROOT / "docs/protocol.md"
DIALECTS = ROOT / "docs/dialects.md"
SEMANTICS = ROOT / "docs/semantics.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

GUARD_SECONDS = 10.0
"""A session that hangs fails after this."""

ADDRESS = "http://127.0.0.1:8080"
TABLE_BEGINS, TABLE_ENDS = "<!-- lifecycle table: generated -->\n", "<!-- end -->"
TOKEN = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
"""What differs from one run to the next: a lease's token, an id that the server made."""


ROUTES = native_routes("") + server_routes((), ())
SCHEMAS = document(ROUTES, Limits(), secured=True)["components"]["schemas"]
EVERYWHERE = {
    "bad_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "request_timeout",
    "too_large",
    "unsupported_media_type",
    "too_many_connections",
    "rate_limited",
    "internal_error",
    "http_version",
}
"""Codes that the protocol tells once, for every operation."""


# Sessions: what stands in a console block, run again.


class Step(NamedTuple):
    """One command of a console block and what the page says it prints. held: it is still waiting when the next block begins."""

    command: str
    shown: str
    held: bool

    @property
    def words(self) -> list[str]:
        """The command without what it is piped into."""
        return shlex.split(self.command.rpartition(" | ")[0] if self.filter else self.command)

    @property
    def filter(self) -> list[str]:
        """What the output is piped into: `grep ^prefix` or `head -c N`."""
        left, pipe, right = self.command.rpartition(" | ")
        return shlex.split(right) if pipe and left.count("'") % 2 == 0 else []


def session(page: Path) -> Iterator[Step]:
    """Every command of a page, in order."""
    for held, block in re.findall(r"(<!-- held -->\n)?^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            yield Step(command, shown.rstrip("\n"), bool(held))


class Request(NamedTuple):
    """What a curl command asks for."""

    method: str
    url: str
    body: str | None
    with_head: bool
    ending: str
    headers: dict[str, str]


def parsed(words: list[str]) -> Request:
    """The request of a curl command; only the options that the pages use are known."""
    assert words[0] == "curl", words
    method, url, body, with_head, ending = "GET", "", None, False, ""
    headers: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        if word == "--json":
            body, method = next(rest), "POST" if method == "GET" else method
        elif word == "-X":
            method = next(rest)
        elif word == "-w":
            ending = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif re.fullmatch(r"-[si]+", word):
            with_head = "i" in word
        else:
            assert word.startswith(ADDRESS + "/"), f"{word} is no option that this test knows"
            assert not url
            url = word
    return Request(method, url, body, with_head, ending, headers)


class Terminal:
    """Runs commands against a server. What the page calls a token is called otherwise there: `tokens` has both."""

    def __init__(self, app: App, port: int, client: ClientSession) -> None:
        self.app = app
        self._address = f"http://127.0.0.1:{port}"
        self._client = client
        self.tokens: dict[str, str] = {}

    async def run(self, step: Step) -> str:
        """What the command prints."""
        asked = parsed([TOKEN.sub(lambda found: self.tokens[found[0]], word) for word in step.words])
        body = None if asked.body is None else asked.body.encode()
        headers = asked.headers if body is None else {"Content-Type": "application/json", **asked.headers}
        url = URL(asked.url.replace(ADDRESS, self._address), encoded=True)
        async with self._client.request(asked.method, url, data=body, headers=headers, skip_auto_headers=["Content-Type"]) as answer:
            printed = (await answer.read()).decode().replace(self._address, ADDRESS)
            if asked.with_head:
                lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
                lines += [f"{name.decode()}: {value.decode()}" for name, value in answer.raw_headers]
                printed = "\n".join([*lines, "", printed])
        printed += asked.ending.replace("\\n", "\n").replace("%{time_total}", "1.234567").replace("%{http_code}", str(answer.status))
        match step.filter:
            case ["grep", pattern]:
                printed = "\n".join(line for line in printed.split("\n") if re.search(pattern, line))
            case ["head", "-c", count]:
                printed = printed[: int(count)]
            case unknown:
                assert not unknown
        return printed.strip()

    def compare(self, step: Step, printed: str) -> None:
        """Fail unless the page shows what was printed, times and tokens apart."""
        mine, true = TOKEN.findall(step.shown), TOKEN.findall(printed)
        assert len(mine) == len(true), step.command
        self.tokens.update(zip(mine, true, strict=True))
        shown = TOKEN.sub(lambda found: self.tokens[found[0]], step.shown)
        assert timeless(shown) == timeless(printed), step.command


def timeless(text: str) -> str:
    """A text with every time and duration replaced."""
    for pattern, name in (
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
        (r'(?<="uptime_seconds":)[0-9.]+|(?<="memory":\{)[^}]*', "MACHINE"),
        (r'(?<="name":")(connections|unread_bytes|unsent_bytes)","used":\d+,"limit":\d+', r"\1 MACHINE"),
        (r"Date: [^\n]*GMT", "Date: DATE"),
        (r"\b\d+\.\d{6} s\b", "SECONDS s"),
        (r'"UptimeMillis":\d+', '"UptimeMillis":MILLIS'),
    ):
        text = re.sub(pattern, name, text)
    return text.strip()


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    """A fresh server and someone who types."""
    async with running(Settings(port=0)) as (app, port), ClientSession(connector=TCPConnector(limit=0)) as client:
        yield Terminal(app, port, client)


async def play(terminal: Terminal, steps: list[Step]) -> None:
    """Run a page's commands in order, one that is held beside the next."""
    held: tuple[Step, asyncio.Task[str]] | None = None
    for step in steps:
        if step.held:
            assert held is None
            held = step, asyncio.create_task(terminal.run(step))
            while not terminal.app.site.backend.totals().waiters:
                assert not held[1].done(), held[1].result()
                await asyncio.sleep(0)
            continue
        terminal.compare(step, await terminal.run(step))
        if held is not None:
            terminal.compare(held[0], await held[1])
            held = None
    assert held is None


@pytest.mark.parametrize(("page", "commands"), [(README, 4), (PROTOCOL, 30), (DIALECTS, 30)], ids=["readme", "protocol", "dialects"])
async def test_sessions_are_true(terminal: Terminal, page: Path, commands: int) -> None:
    """Every command of the page, run in order on a fresh server, prints what the page shows, times and tokens apart."""
    steps = list(session(page))
    assert len(steps) >= commands

    async with asyncio.timeout(GUARD_SECONDS):
        await play(terminal, steps)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_command_is_run(page: Path) -> None:
    """Sessions stand only on pages that are played, and no command of theirs is missed."""
    steps = list(session(page))

    assert len(steps) == len(re.findall(r"^\$ ", page.read_text(), re.MULTILINE))
    assert not steps or page in (README, PROTOCOL, DIALECTS)


def test_a_session_that_lies_is_found() -> None:
    """A difference in a value, a token that changes, or a line too many is noticed; a difference in time is not."""
    reader = Terminal(None, 0, None)  # type: ignore[arg-type] # compares, and asks nobody
    a, b, c = "a" * 32, "b" * 32, "c" * 32
    shown = Step("curl", f'{{"token":"{a}","at":"2026-01-01T00:00:00.000Z","n":1}}', False)

    reader.compare(shown, f'{{"token":"{b}","at":"2027-02-02T11:11:11.111Z","n":1}}')

    for lie in (f'{{"token":"{b}","at":"2026-01-01T00:00:00.000Z","n":2}}', f'{{"token":"{b}","at":"x","n":1}}', f"{b}\n{c}", "{}"):
        with pytest.raises(AssertionError):
            reader.compare(shown, lie)


# README.


def one_liner(name: str) -> list[str]:
    """The blocks that stand directly after the comment of this name."""
    found: list[str] = re.findall(rf"^<!-- {name} -->\n```\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("serve", "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/jobqueue serve\n"),
        ("test", "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest\n"),
    ],
)
def test_one_line_sets_up(name: str, command: str) -> None:
    """The command that does all the set-up is one line, in one block of its own, once in the README."""
    assert one_liner(name) == [command]
    assert README.read_text().count(command) == 1
    assert README.read_text().count(f"<!-- {name} -->") == 1


def test_the_readme_shows_a_job_arriving_at_once() -> None:
    """In the recorded session the lease began, 300 s before it ends, in the millisecond in which the job was created."""
    dequeued = json.loads(next(step for step in session(README) if step.held).shown.split("\n")[0])

    minutes = [
        int(stamp[14:16]) * 60_000 + round(float(stamp[17:-1]) * 1_000)
        for stamp in (dequeued["created_at"], dequeued["lease"]["expires_at"])
    ]
    assert (minutes[1] - minutes[0]) % 3_600_000 == 300_000


def test_the_readme_says_where_the_command_is() -> None:
    """The README says once that the environment's command is on no PATH, before it is first used, with the ways beside it."""
    text = README.read_text()
    told = text.index("not on your PATH")

    assert text.count("not on your PATH") == text.count(". .venv/bin/activate\n") == 1
    assert (
        told
        < text.index("pipx install .\nuv tool install .\n")
        < min(found.start() for found in re.finditer("^jobqueue ", text, re.MULTILINE))
    )


def commands_of(page: Path) -> list[list[str]]:
    """The words of each command `jobqueue …` of a page's shell blocks, up to a pipe."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.replace("\\\n", "").splitlines() if "<<" not in line]
    found = [line[line.index("jobqueue") + 1 :] for line in lines if "jobqueue" in line and line[0] in ("jobqueue", "echo")]
    return [words[: words.index("|")] if "|" in words else words for words in found]


@pytest.mark.parametrize("words", commands_of(README), ids=" ".join)
def test_commands_of_the_readme_are_commands(words: list[str]) -> None:
    """Each command line of the README is one that the command line takes."""
    at: click.Command | None = main
    while isinstance(at, click.Group):
        verb, *words = words
        at = at.get_command(click.Context(at), verb)
    assert at is not None
    at.make_context(at.name, words)


# The protocol.


def sections(page: Path) -> dict[str, str]:
    """The text under each heading of a page, up to the next heading of any level."""
    parts = re.split(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def section_of(route: Route) -> str:
    return sections(PROTOCOL)[f"{route.method} {route.path}"]


by_route = pytest.mark.parametrize("route", ROUTES, ids=[f"{route.method} {route.path}" for route in ROUTES])


def test_every_operation_has_a_section() -> None:
    """The operations of the protocol are those of the route table."""
    told = [heading for heading in sections(PROTOCOL) if re.match(r"[A-Z]+ /", heading)]

    assert sorted(told) == sorted(f"{route.method} {route.path}" for route in ROUTES)


@by_route
def test_every_answer_is_told(route: Route) -> None:
    """A section names each status and each code with which its operation may answer, but those told once for all."""
    text = section_of(route)
    rows = re.findall(r"^\| (\d{3})", text, re.MULTILINE)

    for status in route.answers:
        assert str(status) in rows
    for code in set(route.errors) - {"too_large"}:
        assert f"`{code}`" in text
        assert str(PROBLEMS[code].status) in rows
    # A status of jobs is named so too, with no number before it.
    told = {code for code in PROBLEMS if f"`{code}`" in text and (code != "in_progress" or "409 `in_progress`" in text)}
    if not route.path.startswith("/batch/"):
        assert told - EVERYWHERE <= set(route.errors)


def fields(route: Route) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(type, field, its schema) of everything an operation is sent; of a batch's items, those the twin has not."""
    for kind in (route.body, route.query):
        if kind is not None and get_origin(kind) is None:
            for field, schema in SCHEMAS[kind.__name__]["properties"].items():
                yield kind.__name__, field, schema
    if route.path == "/jobs/enqueue":
        for field, schema in SCHEMAS["BackoffBody"]["properties"].items():
            yield "BackoffBody", field, schema
        for field, schema in SCHEMAS["UniqueBody"]["properties"].items():
            yield "UniqueBody", f"unique.{field}", schema


def rows_of(text: str) -> dict[str, str]:
    """The rows of a section's tables whose first cell is a field's name."""
    return dict(re.findall(r"^\| `([\w.]+)` \|(.*)$", text, re.MULTILINE))


@by_route
def test_every_field_is_told_with_its_default_and_bounds(route: Route) -> None:
    """Each field an operation takes has a row with its default and its bounds, or a twin's section that has."""
    text = section_of(route)
    rows = rows_of(text)

    for kind, field, schema in fields(route):
        assert f"`{field}`" in text, field
        if kind == "BatchDequeueBody" and field != "limit":
            continue
        row = rows[field]
        default = schema.get("default")
        if default is not None:
            assert (
                f"`{json.dumps(default) if isinstance(default, bool) else f'{default:g}' if isinstance(default, float) else default}`"
                in row
            )
        numbers = {f"{schema[bound]:.15g}" for bound in ("minimum", "maximum", "minLength", "maxLength") if bound in schema}
        assert numbers <= set(re.findall(r"[\d.]+\d|\d", row)), field
        required = field.removeprefix("unique.") in SCHEMAS[kind].get("required", ())
        assert ("| required |" in row) is required


@by_route
def test_no_field_is_invented(route: Route) -> None:
    """A section's tables have no field that its operation does not take."""
    taken = {field for _, field, _ in fields(route)}
    if get_origin(route.body) is list:
        taken = {"jobs"}

    assert set(rows_of(section_of(route))) <= taken


@by_route
def test_batches_name_the_fields_of_their_items(route: Route) -> None:
    """A batch's section names each field of an item."""
    if get_origin(route.body) is not list:
        return
    (kind,) = route.body.__args__
    assert "jobs" in rows_of(section_of(route))
    for field in SCHEMAS[kind.__name__]["properties"]:
        assert f"`{field}`" in section_of(route)


def test_every_code_is_told_with_its_status() -> None:
    """The protocol's tables of errors have every code under its own status, and no other."""
    text = sections(PROTOCOL)["Errors"]
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text, re.MULTILINE)
    mentioned = re.findall(r"\b(403|503)\s+`(\w+)`", text)

    told = {code: int(status) for status, code in [*rows, *mentioned]}
    assert told == {code: entry.status for code, entry in PROBLEMS.items()}
    assert len(rows) == len({code for _, code in rows})


def test_the_protocol_has_the_default_bounds() -> None:
    """Bounds that stand outside the tables of fields are the defaults of Limits."""
    limits = Limits()
    text = PROTOCOL.read_text()

    for number, unit in (
        (limits.body_bytes_max, "bytes (4 MiB)"),
        (limits.queues_max, "."),
        (limits.waiters_max, "requests are held open"),
        (limits.listeners_max, "listen to"),
        (limits.notices_max, "events, for"),
        (limits.connections_max, "connections are open"),
        (limits.jobs_max, "live jobs or 1 GiB"),
        (limits.page_scan_max, "jobs at most"),
        (f"**Types** are strings of 1 to {limits.type_chars_max}", "characters"),
        (FIELD_BYTES_MAX, ", and there may be 128 of these"),
    ):
        assert re.sub(r" ([.,])", r"\1", f"{number} {unit}") in text
    assert f"without it, {limits.wait_seconds_default:g}." in text
    assert f"without it, {limits.page_jobs_default}." in text
    assert f"without it, {limits.lease_seconds_default:g}." in text


@pytest.mark.parametrize("kind", ["Unconfirmed", "StorageUnconfirmed", "AnswerLost", "OutcomeUnknown"])
def test_an_exception_says_that_the_change_may_be_made(kind: str) -> None:
    """Each exception after which a change may have been made is an Unconfirmed, and says so in its help and in docs/clients.md."""
    found = getattr(jobqueue, kind)

    assert issubclass(found, jobqueue.Unconfirmed)
    assert re.search("may have been|may be stored|does not say whether a change was made", found.__doc__), found.__doc__
    assert f"`{kind}`" in (ROOT / "docs/clients.md").read_text()


def test_the_api_says_where_a_failed_request_may_have_changed_something() -> None:
    """The protocol, the OpenAPI document's head, and each change's 503 in it name the errors after which the change may have been made."""
    made = document(ROUTES, Limits(), secured=True)
    told = [sections(PROTOCOL)["Errors"].partition("**A request that fails")[2].partition("\n\n")[0], made["info"]["description"]]
    answers = made["paths"]["/jobs/enqueue"]["post"]["responses"]

    for text in told:
        assert "`unconfirmed`" in text
        assert "500" in text
    assert "`unconfirmed`, the change may have been made" in answers["503"]["description"]
    assert "internal_error" in SCHEMAS["Problem"]["properties"]["unconfirmed"]["description"]


# Semantics and the rest.


def test_the_lifecycle_table_is_the_codes() -> None:
    """The table of docs/semantics.md is what lifecycle.py makes."""
    text = SEMANTICS.read_text()

    assert text.count(TABLE_BEGINS) == text.count(TABLE_ENDS) == 1
    assert text.partition(TABLE_BEGINS)[2].partition(TABLE_ENDS)[0] == markdown()


def in_words(value: float, unit: str) -> str:
    """A bound as docs/limitations.md has it."""
    return f"{value:,.0f} {unit}".strip()


def test_the_limitations_have_the_default_bounds() -> None:
    """Each row of bounds in docs/limitations.md is the default of Limits, and the flag beside it exists."""
    limits, text = Limits(), (ROOT / "docs/limitations.md").read_text()
    told = {name: (bound, flags) for name, bound, flags in re.findall(r"^\| (.+?) \| ([\d,]+(?: \w+)?) \| (.+) \|$", text, re.MULTILINE)}

    assert {name: bound for name, (bound, _) in told.items()} == {
        "live jobs": in_words(limits.jobs_max, ""),
        "bytes of live jobs": in_words(limits.payload_total_bytes_max / 2**30, "GiB"),
        "payload, result or error": in_words(limits.payload_bytes_max / 2**20, "MiB"),
        "body of a request": in_words(limits.body_bytes_max / 2**20, "MiB"),
        "jobs in a batch": in_words(limits.batch_jobs_max, ""),
        "queues": in_words(limits.queues_max, ""),
        "schedules": in_words(limits.schedules_max, ""),
        "groups that are not concluded": in_words(limits.groups_max, ""),
        "keys of a queue": in_words(limits.keys_max, ""),
        "jobs that one job is after": in_words(limits.parents_max, ""),
        "requests held open": in_words(limits.waiters_max, ""),
        "connections": in_words(limits.connections_max, ""),
        "a wait, in one request": in_words(limits.wait_seconds_max, "s"),
        "a lease": in_words(limits.lease_seconds_max / 3600, "h"),
        "a delay, an expiry": in_words(limits.delay_seconds_max / 86_400, "days"),
        "attempts": in_words(limits.max_attempts_max, ""),
        "characters of a job's id, type or key": in_words(limits.id_chars_max, ""),
        "concluded jobs in history, for each outcome": in_words(limits.history_jobs_max, ""),
        "bytes of them, for each outcome": in_words(limits.history_bytes_max / 2**20, "MiB"),
    }
    assert limits.id_chars_max == limits.type_chars_max == limits.key_chars_max
    assert limits.delay_seconds_max == limits.expires_seconds_max
    assert set(re.findall(r"`(--[\w-]+)`", text)) <= {setting.flag for setting in SETTINGS} | {"--data"}


@pytest.mark.parametrize("page", ["coming-from", "troubleshooting", "guarantees", "limitations"])
def test_the_readme_links_the_page(page: str) -> None:
    """A page that a newcomer looks for is in the README's list."""
    assert f"](docs/{page}.md)" in README.read_text()


@pytest.mark.parametrize("page", ["troubleshooting", "guarantees"])
def test_flags_that_are_named_exist(page: str) -> None:
    """Each flag that a page names is a setting of the server, or says where a command finds it."""
    named = set(re.findall(r"`(--[\w-]+)", (ROOT / f"docs/{page}.md").read_text()))

    assert named <= {setting.flag for setting in SETTINGS} | {"--url"}


def anchor(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is to a file that exists, and its anchor to a heading there."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            assert fragment in {anchor(heading) for heading in sections(file)}, target


def test_the_walks_name_what_is_there() -> None:
    """Whatever the architecture page names right behind a file is defined in that file."""
    named = re.findall(r"`((?:\w+/)+\w+\.py)`, `(?:\w+\.)?(?!py`)(\w+)`[,:]", (ROOT / "docs/architecture.md").read_text())
    assert len(named) >= 6
    for path, name in named:
        source = (ROOT / "jobqueue" / path).read_text()
        assert re.search(rf"^\s*(?:async )?(?:def|class) {name}\b|^{name}\b.* = ", source, re.MULTILINE), f"{name} is not in {path}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_files_that_are_named_exist(page: Path) -> None:
    """A Python file named with its folder is there, in the package or at the top."""
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text()):
        assert (ROOT / name).exists() or (ROOT / "jobqueue" / name).exists(), name


def test_decisions_are_numbered() -> None:
    """Decision records have numbers without gaps, and begin with their own."""
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))

    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        assert page.read_text().startswith(f"# {page.name[:4]} ")


def write_table() -> None:
    """Put the lifecycle table into docs/semantics.md."""
    before, begins, rest = SEMANTICS.read_text().partition(TABLE_BEGINS)
    SEMANTICS.write_text(before + begins + markdown() + TABLE_ENDS + rest.partition(TABLE_ENDS)[2])


if __name__ == "__main__":
    write_table()
