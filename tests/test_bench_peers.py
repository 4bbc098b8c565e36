"""The parts of the comparison with other queues that need no servers: sizes, figures, comparisons, tables."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

from bench import where
from bench.peers import report, servers, sessions
from bench.peers.roster import PEERS, Peer
from bench.peers.run import DURABLE, MEMORY, Findings, measure
from bench.peers.sessions import FULL, QUICK, Crowd, EndToEnd, Session
from bench.process import BenchError
from bench.results import RESULTS, replaced


def peer(key: str) -> Peer:
    return next(peer for peer in PEERS if peer.key == key)


def session(rate: float, pickup_us: int, batch: float | None = None) -> Session:
    def end(rate: float) -> EndToEnd:
        return EndToEnd(rate, 10.0, 20.0, 2_000)

    return Session(end(rate), None if batch is None else end(batch), [pickup_us * 1_000] * 20)


@pytest.fixture
def found() -> Findings:
    """Ours quicker than beanstalkd by batches only, four times as quick as RQ, with a pickup quicker than RQ's."""
    found = Findings(FULL)
    found.memory = {
        "jobqueue": [session(4_000, 500, 9_000), session(5_000, 600, 8_000), session(3_000, 700, 7_000)],
        "beanstalkd": [session(6_000, 100)],
        "rq": [session(1_000, 900, 1_100)],
    }
    found.durable = {"jobqueue": [session(100, 50)]}
    found.crowds = {"jobqueue": [Crowd([1_000] * 20, 13_000.0)], "saq": [Crowd([1_000] * 20, 17_000.0)]}
    found.queued = {"jobqueue": [700.0], "rq": [1_400.0, 1_500.0, 1_600.0], "huey": [400.0]}
    found.failures = {("moto", MEMORY): "moto_server is not installed", ("nats", DURABLE): "no | disk"}
    return found


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_every_peer_has_a_module_and_a_server(peer: Peer) -> None:
    """What the roster names is there, and each module has what its entry says."""
    spec = importlib.util.find_spec(f"bench.peers.with_{peer.key}")
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    assert peer.server in servers.COMMANDS
    assert len(servers.TOLD[peer.server]) == 2
    assert ("async def many(" in text) == peer.batch
    assert ("async def prepare(" in text) == peer.prepared
    assert ("def crowd(" in text) == peer.crowd


def test_a_slow_peer_gets_fewer_jobs() -> None:
    """20,000 where they go through in time, else what the measuring time allows, in whole hundreds, 200 at least."""
    assert sessions.sized(1_000_000, FULL) == FULL.jobs_max
    assert sessions.sized(FULL.jobs_max / FULL.seconds_max, FULL) == FULL.jobs_max
    assert sessions.sized(1_030, FULL._replace(seconds=1.0)) == 1_000
    assert sessions.sized(0.1, FULL) == sessions.PROBE
    assert sessions.sized(1_000_000, QUICK) == QUICK.jobs_max


def test_a_figure_is_the_median_with_its_range() -> None:
    """The middle of the rounds first, then the least and the greatest."""
    assert report.ranged([3_000, 1_000, 2_000]).text() == "2,000 (1,000–3,000)"


def test_the_claims_say_where_ours_is_behind(found: Findings) -> None:
    """Each comparison is met or not by the figures, and is left out where a side was not measured."""
    claims = [(claim.key, claim.met) for claim in report.claims(found)]
    assert claims == [
        ("python", True),  # 4,000 against 1,000
        ("beanstalkd", False),  # 4,000 against 6,000
        ("python", True),  # 8,000 against 1,100
        ("beanstalkd", True),  # 8,000 against 6,000
        ("pickup", True),  # 600 against 900
        ("pickup", False),  # six times 100
        ("queued", False),  # 700 against 400
        ("idle", True),  # 13,000 against 17,000
    ]


def test_the_report_names_what_could_not_be_measured(found: Findings) -> None:
    """A peer that could not be started stands in the table with its reason, and what is behind is told with why."""
    text = report.markdown(found, ["plots/a.svg"])
    assert "| SQS of moto | not measured: moto_server is not installed |" in text
    assert "| NATS JetStream | not measured: no / disk |" in text
    assert "| **jobqueue** | 4,000 (3,000–5,000) | 8,000 (7,000–9,000) |" in text
    assert text.count("**BEHIND**") == 3
    assert report.REASONS["pickup"] in text
    assert report.REASONS["idle"] not in text
    assert "![a](plots/a.svg)" in text


def test_a_peer_that_does_not_start_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason is kept, it is not tried again, and the others are measured."""
    tried = []

    def attempted(peer: Peer, plan: sessions.Plan, *, durable: bool) -> Session:
        tried.append(peer.key)
        if peer.key == "rq":
            raise BenchError("redis-server is not installed")
        return session(1.0, 1)

    monkeypatch.setattr(sessions, "session", attempted)
    monkeypatch.setattr(sessions, "queued_bytes", lambda peer, jobs, *, durable: 1.0)
    found = measure([peer("rq"), peer("arq")], FULL)
    assert found.failures == {("rq", MEMORY): "redis-server is not installed", ("rq", DURABLE): "redis-server is not installed"}
    assert len(found.memory["arq"]) == found.rounds == FULL.rounds
    assert tried.count("rq") == 2


def test_a_program_that_is_missing_is_named_with_its_package() -> None:
    """The error says what to install."""
    with pytest.raises(BenchError, match="no-such-server is not installed; it is in a-package"):
        servers.program("no-such-server", "a-package")


def test_cpu_and_memory_are_read_of_a_whole_tree() -> None:
    """This process has used some of both."""
    assert servers.tree(os.getpid())[0] == os.getpid()
    assert servers.cpu_ns(os.getpid()) > 0
    assert servers.memory_bytes(os.getpid()) > 1_000_000


@pytest.mark.parametrize(
    ("stack", "owner"),
    [
        ("main (jobqueue/cli.py:1);handle (jobqueue/api/app.py:3)", "jobqueue: web"),
        ("handle (jobqueue/api/app.py:3);enqueue (jobqueue/engine/engine.py:5)", "jobqueue: engine"),
        ("handle (jobqueue/api/app.py:3);decode (msgspec/_core.cpython-313.so)", "msgspec"),
        ("handle (jobqueue/api/app.py:3);dict_get (libpython3.13.so.1.0)", "jobqueue: web"),
        ("feed (aiohttp/_http_parser.c:3);free (libc.so.6)", "aiohttp"),
        ("start (libc.so.6)", where.OTHER),
    ],
)
def test_a_sample_belongs_to_whoever_called(stack: str, owner: str) -> None:
    """The innermost frame with an owner has it: the interpreter's and the C library's own have none."""
    assert where.owner(stack) == owner


def test_samples_in_system_calls_are_the_kernels() -> None:
    """They are left out of the shares, which add up without them."""
    lines = ["a (jobqueue/api/app.py:1);write (libc.so.6) 60", "a (jobqueue/api/app.py:1) 30", "b (aiohttp/web.py:1) 10"]
    assert where.shares(lines) == {"jobqueue: web": 0.75, "aiohttp": 0.25}
    with pytest.raises(BenchError, match="no samples"):
        where.shares(lines[:1])


def test_a_part_of_the_results_is_replaced_and_the_others_stay() -> None:
    """In their own order whatever order they come in, with headings below the file's own."""
    whole = replaced("", "budgets", "# Budgets\n\ntable\n")
    whole = replaced(whole, "peers", "# Peers\n\n## How\n")
    whole = replaced(whole, "budgets", "# Budgets\n\nnewer\n")
    assert [line for line in whole.splitlines() if line.startswith("#")] == ["# What was measured", "## Peers", "### How", "## Budgets"]
    assert "newer" in whole
    assert "table" not in whole


def test_the_readme_says_what_was_measured() -> None:
    """Every figure of its table is one of bench/results.md."""
    root = Path(__file__).parents[1]
    table = (root / "README.md").read_text().partition("<!-- measured -->\n")[2].partition("\n\n")[0]
    figures = [figure for row in table.splitlines()[2:] for cell in row.split("|")[2:] for figure in re.findall(r"\d[\d,.]*", cell)]
    measured = set(re.findall(r"\d[\d,.]*", RESULTS.read_text()))
    assert len(figures) > 25
    assert [figure for figure in figures if figure not in measured] == []
