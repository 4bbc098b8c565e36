"""Client and AsyncClient are one interface, told in one place, and it covers the whole native API."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import jobqueue
from jobqueue import About, AsyncClient, Client, Conclude, Extend, GiveBack, NewJob, errors
from jobqueue.api.mounts import server_routes
from jobqueue.api.native import bulk, history, lines, logs, policies, stats, views, wire, workers
from jobqueue.api.native import schedules as schedule_api
from jobqueue.api.native.event_views import JobEventView, QueueEventView
from jobqueue.api.native.table import native_routes
from jobqueue.client import history_types, log_types, schedule_types, sending, server_types, tasks, types, worker_types
from jobqueue.client.async_groups import AsyncGroup, AsyncGroups
from jobqueue.client.async_schedules import AsyncSchedules
from jobqueue.client.sync_groups import SyncGroup, SyncGroups
from jobqueue.client.sync_schedules import SyncSchedules
from jobqueue.model import QueueStats

from . import generate
from .conftest import Connect
from .rig import proxied


def operations(kind: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a client."""
    return {name: member for name, member in inspect.getmembers(kind, callable) if not name.startswith("_")}


def unawaited(annotation: str) -> str:
    return annotation.replace("AsyncIterator", "Iterator")


def statements(source: str) -> list[str]:
    """What a module says, its imports in any order."""
    imports = (ast.Import, ast.ImportFrom)
    body = ast.parse(source).body
    return sorted(ast.dump(node) for node in body if isinstance(node, imports)) + [
        ast.dump(node) for node in body if not isinstance(node, imports)
    ]


def test_the_client_for_threads_is_made_from_the_other() -> None:
    """It says what `python -m tests.client.generate` makes of AsyncClient, in whatever layout."""
    for source, made in generate.PAIRS.items():
        assert statements(generate.synchronous(source.read_text(encoding="utf-8"))) == statements(made.read_text(encoding="utf-8"))


def test_a_text_that_is_made_anew_is_missed_when_it_changes() -> None:
    """So that no sentence about tasks comes to stand at the client for threads."""
    texts = [source.read_text(encoding="utf-8") for source in generate.PAIRS]
    generate.check(texts)
    with pytest.raises(ValueError, match="not there once"):
        generate.check([text.replace("for asyncio. `Client`", "for tasks. `Client`") for text in texts])


def test_both_clients_have_the_same_operations() -> None:
    """The same names, no more and no fewer."""
    assert list(operations(Client)) == list(operations(AsyncClient))
    assert len(operations(Client)) > 25


@pytest.mark.parametrize("name", operations(AsyncClient))
def test_an_operation_has_one_signature_and_one_docstring(name: str) -> None:
    """Parameters, defaults and types are equal; what one answers the other answers to who awaits it."""
    sync, alike = inspect.signature(getattr(Client, name)), inspect.signature(getattr(AsyncClient, name))
    assert list(sync.parameters.values()) == list(alike.parameters.values())
    assert sync.return_annotation == unawaited(alike.return_annotation).replace("AsyncGroup", "SyncGroup")
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name)) != (name in ("all_jobs", "events", "logs", "group"))
    docs = inspect.getdoc(getattr(AsyncClient, name))
    assert docs
    assert inspect.getdoc(getattr(Client, name)) == docs


def test_both_offer_the_same_of_schedules() -> None:
    """`client.schedules` has the same operations in both, with one signature and one text, which tells every parameter."""
    assert list(operations(SyncSchedules)) == list(operations(AsyncSchedules))
    assert Client.schedules.__doc__ == AsyncClient.schedules.__doc__
    for name, operation in operations(AsyncSchedules).items():
        sync, alike = inspect.signature(getattr(SyncSchedules, name)), inspect.signature(operation)
        assert list(sync.parameters.values()) == list(alike.parameters.values())
        assert sync.return_annotation == alike.return_annotation
        docs = inspect.getdoc(operation) or ""
        assert inspect.getdoc(getattr(SyncSchedules, name)) == docs
        assert all(re.search(rf"\b{parameter}\b", docs) for parameter in sync.parameters if parameter not in ("self", "name")), name
        assert name in (AsyncClient.schedules.__doc__ or "")


def test_both_offer_the_same_of_groups() -> None:
    """`client.groups` and what `client.group` makes have the same operations in both, with one signature and one text."""
    for of_threads, of_asyncio in ((SyncGroups, AsyncGroups), (SyncGroup, AsyncGroup)):
        assert list(operations(of_threads)) == list(operations(of_asyncio))
        for name, operation in operations(of_asyncio).items():
            sync, alike = inspect.signature(getattr(of_threads, name)), inspect.signature(operation)
            assert list(sync.parameters.values()) == list(alike.parameters.values())
            docs = inspect.getdoc(operation) or ""
            assert inspect.getdoc(getattr(of_threads, name)) == docs
            assert all(re.search(rf"\b{parameter}\b", docs) for parameter in sync.parameters if parameter != "self"), name
    assert Client.groups.__doc__ == AsyncClient.groups.__doc__


def test_both_clients_are_made_alike() -> None:
    """The same arguments with the same defaults, but for how they sleep."""
    sync, alike = (inspect.signature(kind).parameters for kind in (Client, AsyncClient))
    assert list(sync) == list(alike)
    for name in sync.keys() - {"sleep"}:
        assert sync[name] == alike[name]


@pytest.mark.parametrize("name", operations(AsyncClient))
def test_help_tells_every_parameter_and_every_error(name: str) -> None:
    """A docstring names each parameter, or where it is told, and only errors that exist."""
    text = inspect.getdoc(getattr(AsyncClient, name)) or ""
    for parameter in inspect.signature(getattr(Client, name)).parameters:
        elsewhere = re.search(r"(The rest as|The (?:other )?parameters are those of) (\w+)|job_id, lease: as (\w+)", text)
        told = text if elsewhere is None else text + (inspect.getdoc(getattr(AsyncClient, elsewhere[2] or elsewhere[3])) or "")
        assert parameter in ("self", "name", "job_id") or re.search(rf"\b{parameter}\b", told), parameter
    for error in re.findall(r"(?:Raises|Also raises) (.*?)\.(?:\s|$)", text, re.DOTALL):
        for kind in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+\b", error):
            assert issubclass(getattr(jobqueue, kind), errors.QueueError), kind


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_help_of_a_client_reads_in_one_piece(kind: type) -> None:
    """help() shows the constructor's arguments, what holds for all operations, and each of these with its text."""
    text = pydoc.plain(pydoc.render_doc(kind))
    for part in ("timeout: seconds", "JOBQUEUE_TOKEN", "Every operation can raise", "Submit a job.", "LeaseLost"):
        assert part in text
    own = text[: text.index("Methods inherited") if "Methods inherited" in text else len(text)]
    assert own.count("*args") == 0


async def test_every_operation_of_the_native_api_is_there(connect: Connect, url: str) -> None:
    """Each route of the server's table is asked by one operation."""
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        await api.enqueue(1, id="x")
        await api.enqueue_batch([NewJob(1)])
        job = await api.dequeue(wait=0)
        await api.dequeue_batch(limit=1, wait=0)
        await api.extend(job.id, job.lease.token)
        await api.extend_batch([Extend("x", "y")])
        await api.log(job.id, job.lease.token, ["a"])
        await api.log_page(job.id)
        await api.dequeue(wait=0, worker="q", about=About(host="h"))
        await api.workers()
        await api.quiet_worker("q")
        await api.resume_worker("q")
        await api.release(job.id, job.lease.token)
        job = await api.dequeue(wait=0)
        await api.conclude(job.id, job.lease.token, "failed", retry=False)
        await api.release_batch([GiveBack("x", "y")])
        await api.conclude_batch([Conclude("x", "y", "failed")])
        await api.retry("x")
        await api.edit("x")
        await api.cancel("x")
        await api.job("x")
        await api.jobs()
        await api.forget("x")
        for ask in ("queues", "token", "stats", "history", "metrics", "openapi", "healthy", "ready"):
            await getattr(api, ask)()
        for ask in ("put_queue", "queue", "change_queue", "keys", "history", "pause", "resume", "purge", "retry_failed", "redrive"):
            await getattr(api, ask)("q")
        await api.pause_key("q", "k")
        await api.resume_key("q", "k")
        await api.delete_queue("q")
        await api.schedules.put("q", NewJob(1), cron="@daily")
        for ask in ("get", "change", "run", "pause", "resume"):
            await getattr(api.schedules, ask)("q")
        await api.schedules.list()
        await api.schedules.backfill("q", *[datetime(2024, 1, 1, tzinfo=UTC)] * 2)
        await api.schedules.delete("q")
        await api.groups.create("x")
        for ask in ("get", "close", "cancel"):
            await getattr(api.groups, ask)("x")
        await api.groups.list()
        await api.bulk("cancel", tag="none")
        await api.tasks()
        await api.errors()
        for ask in ("task", "cancel_task"):
            with pytest.raises(errors.UnknownTask):
                await getattr(api, ask)("x")
        await api.listen(last_event_id="none").next()
    asked = {(request.method, re.sub(r"(?<=/)[xqk]\b", "{}", request.target)) for request in proxy.seen}
    assert asked == {(route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in [*native_routes(""), *server_routes((), ())]}


@pytest.mark.parametrize(
    ("server", "client"),
    [
        (views.EnqueuedView, types.Enqueued),
        (views.DequeuedView, types.LeasedJob),
        (views.LeaseView, types.Lease),
        (views.JobView, types.Job),
        (logs.LogStateView, log_types.LogState),
        (workers.WorkerView, worker_types.WorkerInfo),
        (history.HistoryView, history_types.History),
        (logs.LogView, log_types.LogPage),
        (logs.LineView, log_types.LoggedLine),
        (lines.LineBody, log_types.LogLine),
        (logs.LogBody, sending.Log),
        (views.AttemptView, types.Attempt),
        (views.ConcludedView, types.Concluded),
        (views.ExtendedView, types.Extended),
        (views.QueueView, types.Queue),
        (views.PageView, types.Page),
        (stats.StatsView, types.Stats),
        (stats.HeldStats, types.Held),
        (stats.CommitStats, types.Commits),
        (stats.ClusterView, types.Cluster),
        (stats.ServerName, types.ServerName),
        (stats.Lag, types.Lag),
        (stats.ServerStats, server_types.Server),
        (stats.DiskStats, server_types.Disk),
        (stats.MemoryStats, server_types.Memory),
        (stats.BoundStats, server_types.Bound),
        (stats.Member, types.Member),
        (wire.EnqueueBody, types.NewJob),
        (wire.ConcludeItem, types.Conclude),
        (wire.ConcludeBody, sending.ConcludeOne),
        (wire.ExtendItem, types.Extend),
        (wire.ExtendBody, sending.ExtendOne),
        (wire.ReleaseBody, sending.Release),
        (wire.ReleaseItem, types.GiveBack),
        (wire.BatchDequeueBody, sending.Dequeue),
        (policies.PolicyBody, sending.Policy),
        (views.SlotView, types.MadeBy),
        (schedule_api.ScheduleView, schedule_types.Schedule),
        (schedule_api.ScheduledJob, schedule_types.ScheduledJob),
        (schedule_api.ScheduleBody, schedule_types.Put),
        (schedule_api.SchedulePatch, schedule_types.Change),
        (schedule_api.BackfillBody, schedule_types.Backfill),
        (wire.EditBody, sending.JobEdit),
        (bulk.BulkView, tasks.BulkPart),
        (bulk.TaskView, tasks.Task),
        (bulk.BulkFilter, tasks.Wanted),
        (bulk.BulkBody, tasks.BulkAsked),
        (bulk.RedriveBody, tasks.Redrive),
    ],
)
def test_client_and_server_have_the_same_fields(server: type[msgspec.Struct], client: type[msgspec.Struct]) -> None:
    """What one side says the other knows, field by field."""
    assert set(server.__struct_encode_fields__) == set(client.__struct_encode_fields__)


def test_an_event_has_what_the_server_says_of_jobs_and_of_queues() -> None:
    """One type for both, with the event's name and id beside what it says."""
    said = {*JobEventView.__struct_encode_fields__, *QueueEventView.__struct_encode_fields__}
    assert set(types.JobEvent.__struct_fields__) == said | {"event", "event_id"}


def test_a_queue_has_every_total() -> None:
    """The totals are an object of their own."""
    totals = {name.removesuffix("_total") for name in QueueStats.__struct_fields__ if name.endswith("_total")}
    assert totals == set(types.Totals.__struct_fields__)


# The package's front door.


def test_the_package_offers_what_it_says() -> None:
    """Every public name loads, every error and nothing unknown."""
    for name in jobqueue.__all__:
        assert getattr(jobqueue, name) is not None
    assert {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.QueueError)} <= set(
        dir(jobqueue)
    )
    with pytest.raises(AttributeError, match="nonsense"):
        _ = jobqueue.nonsense


def test_editors_and_python_are_told_of_the_same_names() -> None:
    """What type checkers see imported is what the package loads by itself."""
    source = Path(jobqueue.__file__).read_text(encoding="utf-8")
    (shown,) = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    names = {alias.name: node.module for node in shown.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {"__version__", *names} == set(jobqueue.__all__)
    for name, home in names.items():
        module = __import__(home or "", fromlist=[name])
        assert getattr(module, name) is getattr(jobqueue, name)


def test_importing_the_package_loads_neither_client_nor_server() -> None:
    """What a program does not use it does not pay for."""
    program = (
        "import sys, jobqueue\n"
        "heavy = {'aiohttp', 'urllib3', 'msgspec', 'asyncio'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "jobqueue.Client, jobqueue.AsyncClient\n"
        "others = {'aiohttp', 'urllib3', 'jobqueue.api', 'jobqueue.http'}\n"
        "assert not others & set(sys.modules), others & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
