"""The parts of the comparison with other queues that need no servers: sizes, figures, comparisons, tables."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bench import report as budgets
from bench import where
from bench.peers import actor, claims, figures, grid, marks, open_loop, report, servers, sessions, summary
from bench.peers.open_loop import Load
from bench.peers.roster import PEERS, Peer
from bench.peers.run import DURABLE, MEMORY, TRIES, Findings, fastest, leaders, measure
from bench.peers.sessions import FULL, QUICK, Crowd, EndToEnd, Session
from bench.process import BenchError
from bench.results import RESULTS, replaced


def peer(key: str) -> Peer:
    return next(peer for peer in PEERS if peer.key == key)


def session(rate: float, pickup_us: int, batch: float | None = None) -> Session:
    def end(rate: float) -> EndToEnd:
        return EndToEnd(rate, 10.0, 20.0, 30.0, 2_000)

    return Session(end(rate), None if batch is None else end(batch), [pickup_us * 1_000] * 20)


@pytest.fixture
def found() -> Findings:
    """Ours ahead of all in memory by twice NATS's, behind five times huey's on disk; of pickups only the durable one is quick enough."""
    found = Findings(FULL)
    found.memory = {
        "jobqueue": [session(4_000, 500, 9_000), session(5_000, 600, 8_000), session(3_000, 700, 7_000)],
        "sync": [session(2_000, 500)],
        "beanstalkd": [session(3_500, 100)],
        "nats": [session(2_000, 400, 8_500)],
        "rq": [session(1_000, 900, 1_100)],
    }
    found.durable = {"jobqueue": [session(100, 50)], "huey": [session(50, 60)]}
    found.crowds = {"jobqueue": [Crowd([1_000] * 20, 13_000.0)], "saq": [Crowd([1_000] * 20, 17_000.0)]}
    found.queued = {"jobqueue": [400.0], "rq": [1_400.0, 1_500.0, 1_600.0], "huey": [360.0]}
    found.failures = {("moto", MEMORY): "moto_server is not installed", ("nats", DURABLE): "no | disk"}
    return found


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_every_peer_has_a_module_and_a_server(peer: Peer) -> None:
    """What the roster names is there, and each module has what its entry says."""
    text = (Path(sessions.__file__).parent / f"with_{peer.key}{'.py' if peer.runtime == 'python' else '.mjs'}").read_text()
    assert peer.server in servers.COMMANDS
    assert len(servers.TOLD[peer.server]) == 2
    assert (re.search(r"async def many\(|many: ", text) is not None) == peer.batch
    assert ("async def prepare(" in text) == peer.prepared
    assert (re.search(r"(def|function) crowd\(", text) is not None) == peer.crowd


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
    """Each comparison is met or not by the figures, is left out where a side was not measured, and has a reason to give."""
    made = list(claims.claims(found))
    assert [(claim.key, claim.met) for claim in made] == [
        ("single calls", True),  # 4,000 against beanstalkd's 3,500
        ("single calls", True),  # twice NATS's 2,000
        ("batches", False),  # 8,000 against NATS's 8,500
        ("pickup", False),  # six times 100
        ("single calls, durable", True),  # 100 against 50
        ("single calls, durable", False),  # not five times huey's
        ("batches", True),
        ("pickup, durable", True),  # 50 against 60
        ("call", True),  # 20 of 80
        ("queued", True),  # 400
        ("idle", False),  # 12.7 KiB
    ]
    assert {claim.key for claim in made} == set(claims.REASONS)


def test_the_report_names_what_could_not_be_measured(found: Findings) -> None:
    """A peer that could not be started stands in the table with its reason, and what is behind is told with why."""
    text = report.markdown(found, ["plots/a.svg"])
    assert "| SQS of moto | not measured: moto_server is not installed |" in text
    assert "| NATS JetStream | not measured: no / disk |" in text
    assert "| **jobqueue** | 4,000 (3,000–5,000) | 8,000 (7,000–9,000) |" in text
    assert text.count("**BEHIND**") == text.count(" Why: ") == 4
    assert claims.REASONS["pickup"] in text
    assert claims.REASONS["queued"] not in text
    assert "![a](plots/a.svg)" in text


def test_a_part_that_was_not_measured_has_no_table(found: Findings) -> None:
    """Nor has a peer that was not asked for a row."""
    found.memory, found.durable, found.failures = {}, {}, {}
    found.crowds = {"saq": [Crowd([1_000] * 20, 17_000.0)]}
    text = report.markdown(found, [])
    assert [line for line in text.splitlines() if line.startswith("## ")][2:-2] == ["## Pickup", "## Memory"]
    assert [line.partition(" |")[0] for line in summary.section(text, "Pickup").splitlines()[2:]] == ["| SAQ"]


def test_the_table_in_short_has_the_best_of_pythons(found: Findings) -> None:
    """Ours, the best of Python's queues by name, whether more or less is better, and the brokers; nothing where nothing was measured."""
    rows = summary.in_short(found).splitlines()
    assert "| jobs/s from enqueue to handler, one call a job | **4,000** | 1,000 (RQ) | 3,500 | 2,000 |  |" in rows
    assert "| the same after a fsync | **50** | 60 (huey) |  |  |  |" in rows
    assert "| bytes of server memory for a queued job | **400** | 360 (huey) |  |  |  |" in rows


def test_a_page_shows_what_a_run_found(found: Findings) -> None:
    """A section of the report, between the page's marks, in place of what stood there; the rest of the page stays."""
    text = summary.section(report.markdown(found, []), "In short")
    assert text == summary.in_short(found)
    page = summary.replaced("before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n", text)
    assert summary.shown(page) == text
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "old" not in page


def test_a_load_is_told_by_its_percentiles(found: Findings) -> None:
    """All rounds of one share together; a p99.9 only of a thousand jobs or more."""
    few = Load(0.5, 1_000.0, [1_000] * 400)
    found.memory["jobqueue"] = [
        session(1_000, 1)._replace(loads=[few, Load(0.9, 1_800.0, [5_000] * 2)]),
        session(1, 1)._replace(loads=[few]),
    ]
    found.memory["nats"] = [session(1_000, 1)._replace(loads=[Load(0.5, 500.0, [1_000_000] * 1_999 + [9_000_000])])]
    text = report.markdown(found, [])
    assert "| **jobqueue** | 50% | 1,000 | 1 | 1 |  | 800 |" in text
    assert figures.latency(figures.loads(found.memory["nats"], 0.5)).p50 == 1_000
    assert "| NATS JetStream | 50% | 500 | 1,000 | 1,000 | 1,000 | 2,000 |" in text


def test_arrivals_are_the_same_for_all_and_as_many_as_offered() -> None:
    """The timetable comes from a seed, is in order, and has its rate."""
    moments = open_loop.timetable(1_000.0, 20_000)
    assert moments == open_loop.timetable(1_000.0, 20_000) != open_loop.timetable(1_000.0, 20_000, seed=1)
    assert moments == sorted(moments)
    assert moments[-1] == pytest.approx(20e9, rel=0.05)


def test_a_job_that_is_late_keeps_its_moment() -> None:
    """A pacer that was kept from writing sends all that is due at once, each with when it was due; it sleeps until the next."""
    now = 0
    written: list[tuple[int, bytes]] = []

    def write(text: bytes) -> None:
        nonlocal now
        written.append((now, text))
        now += 50  # the pipe was full

    def sleep(seconds: float) -> None:
        nonlocal now
        now += round(seconds * 1e9)

    open_loop.pace([10, 20, 30, 100], write, lambda: now, sleep)
    assert [(at, [int(line) for line in text.split()]) for at, text in written] == [(10, [10]), (60, [20, 30]), (110, [100])]


def test_a_handler_tells_how_late_a_job_of_a_timetable_was(tmp_path: Path) -> None:
    """Its payload begins with when it was due, in as many digits as the pacer writes."""
    lines: list[bytes] = []
    open_loop.pace([7], lines.append, lambda: 7, lambda seconds: None)
    payload = lines[0].decode().strip() + actor.PAYLOAD[marks.DIGITS :]
    assert len(payload) == len(actor.PAYLOAD)
    assert marks.due(payload) == marks.due(payload.encode()) == 7
    assert marks.due(actor.PAYLOAD) is marks.due(actor.PAYLOAD.encode()) is None


def test_marks_are_collected_until_all_came() -> None:
    """As many as were asked for; fewer, without waiting, when a worker has ended."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(marks.MARK.pack(number) for number in range(5)))
    assert open_loop.Marks(reading, 5, 30.0, lambda: False).all() == [0, 1, 2, 3, 4]
    os.write(writing, marks.MARK.pack(9))
    assert open_loop.Marks(reading, 2, 30.0, lambda: True).all() == [9]
    os.close(reading)
    os.close(writing)


def test_later_rounds_measure_those_that_lead(found: Findings) -> None:
    """The fastest, ours always among them, those that claims name, and the best of Python's queues; nobody else."""
    found.memory["saq"] = [session(10, 10_000)]
    found.memory["redis"] = [session(100, 10_000)]
    found.plan = FULL._replace(leaders=2)
    assert [peer.key for peer in fastest(found, PEERS)] == ["jobqueue", "beanstalkd"]
    assert [peer.key for peer in leaders(found, PEERS)] == ["jobqueue", "sync", "beanstalkd", "nats", "rq", "huey"]
    assert fastest(Findings(FULL), PEERS[:7]) == list(PEERS[:7])


def test_a_peer_that_does_not_start_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried twice in each set-up and never again, its reason is kept, and the others are measured."""
    tried = []

    def attempted(peer: Peer, plan: sessions.Plan, *, durable: bool, shares: tuple[float, ...]) -> Session:
        tried.append(peer.key)
        if peer.key == "rq":
            raise BenchError("redis-server is not installed")
        return session(1.0, 1)

    monkeypatch.setattr(sessions, "session", attempted)
    monkeypatch.setattr(sessions, "queued_bytes", lambda peer, jobs, *, durable: 1.0)
    monkeypatch.setattr(grid, "rates", lambda peer, people, sizes, seconds: [1.0 for _ in sizes])
    found = measure([peer("rq"), peer("arq")], FULL)
    assert found.failures == {("rq", MEMORY): "redis-server is not installed", ("rq", DURABLE): "redis-server is not installed"}
    assert len(found.memory["arq"]) == found.rounds == FULL.rounds
    assert tried.count("rq") == 2 * TRIES
    assert found.sizes == {"arq": dict.fromkeys(FULL.sizes, 1.0)}
    assert found.crews == {"arq": dict.fromkeys(FULL.crews, 1.0)}


def test_what_is_not_installed_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the set-ups nor for the memory of a job is it started, and its library is named in each."""
    monkeypatch.setattr(sessions, "running", lambda *_, **__: pytest.fail("started a server"))
    found = measure([peer("rq")._replace(needs=("no-such-library",))], FULL)
    reason = "no-such-library is not installed; it is in jobqueue[bench]"
    assert found.failures == {("rq", what): reason for what in (MEMORY, DURABLE, "queued", "payloads", "4 producers", "16 producers")}


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


@pytest.mark.parametrize("page", summary.SHOWN, ids=lambda page: page.name)
def test_pages_show_what_was_measured(page: Path) -> None:
    """What stands in them between the marks is a section of bench/results.md, to the letter."""
    shown = summary.shown(page.read_text())
    assert len(re.findall(r"\d[\d,.]*", shown)) > 15
    measured = RESULTS.read_text().partition("<!-- begin peers -->")[2].partition("<!-- end peers -->")[0]
    assert shown == summary.section(measured, summary.SHOWN[page])


def test_a_budget_that_is_not_met_has_its_reason_beneath() -> None:
    """Each such row is named once more with why, and no other."""
    rows = [budgets.compared("batch", "a batch", 0.2, [3.0], [10.0]), budgets.compared("new", "what is new", 0.2, [3.0], [10.0])]
    met = budgets.compared("enqueue", "an enqueue", 0.6, [5.0], [10.0])
    text = budgets.markdown([*rows, met])
    assert f"- **a batch**: {budgets.REASONS['batch']}" in text
    assert f"- **what is new**: {budgets.UNKNOWN}" in text
    assert "Not met" not in budgets.markdown([met])
