"""Graphs and groups under whatever comes: an oracle says what each job may be, and restarts in between change nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobqueue.backend.rows import decode_job
from jobqueue.backend.things import decode_named, groups_of, queues_of
from jobqueue.engine import follow
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import restore
from jobqueue.errors import QueueError
from jobqueue.group import GroupSpec
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Status, Verdict, Want
from tests.backend.test_schedules_restart import Disk
from tests.factories import NOW

from .invariants import invariants

LIMITS = Limits(history_jobs_max=40, groups_kept_max=3, groups_max=4)
VERDICTS = (
    Verdict(outcome=Outcome.SUCCEEDED, result=b"1"),
    Verdict(outcome=Outcome.FAILED, error=b'"x"', retry=False),
    Verdict(outcome=Outcome.FAILED, error=b'"x"', retry_delay=0.0),
)


class GraphMachine(RuleBasedStateMachine):
    """Jobs after each other, in groups; ended, retried, cancelled, expired; the engine is restored from its rows now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(LIMITS)
        self.disk = Disk()
        self.now = NOW
        self.made = 0
        self.retried: set[str] = set()
        """Children that somebody has retried: they wait for nobody."""
        self.callbacks: list[str] = []
        self.disk.commit(self.engine)
        self.standby = Engine(LIMITS)
        follow.begin(self.standby)
        restore(self.standby, [], [], 1, 1)

    def follow(self) -> None:
        """Have an engine that follows this one take in what the last commit changed: it knows the same of edges and groups."""
        (was, _, rows_were, _), (states, payloads, rows, following) = self.disk.commits[-2:]
        changed = [decode_job(number, row, payloads[number]) for number, row in states.items() if was.get(number) != row]
        named = decode_named((name, row) for name, row in rows.items() if rows_were.get(name) != row)
        gone = [name for name in rows_were if name not in rows]
        changes = follow.Changes(changed, [number for number in was if number not in states], named.queues, queues_of(gone), following)
        changes = changes._replace(groups=named.groups, tallies=named.tallies, groups_gone=groups_of(gone))
        for _ in follow.follow(self.standby, changes):
            pass
        for engine in (self.engine, self.standby):
            engine.groups.check()
        assert {job.id for job in self.standby.kept} == {job.id for job in self.engine.kept}
        edges = [{parent: sorted(engine.edges.of(parent)) for parent in engine.edges.children} for engine in (self.engine, self.standby)]
        assert edges[0] == edges[1]
        groups = [
            {name: engine.groups.stats(group) for name, group in engine.groups.groups.items()} for engine in (self.engine, self.standby)
        ]
        assert groups[0] == groups[1]

    def settle(self) -> None:
        """Let the ticker do what is due, and store it all."""
        engine = self.engine
        while (due := engine.next_deadline()) is not None and due <= self.now:
            engine.tick(self.now)
        known = {job.id for job in engine.jobs.all() if job.queue == "after"}
        self.callbacks += [name for name in known if name not in self.callbacks]
        self.disk.commit(engine)
        self.follow()

    def jobs(self) -> list[Job]:
        return [job for job in self.engine.jobs.all() if job.queue != "after"]

    @rule(data=st.data(), after_failure=st.sampled_from(["cancel", "run", "hold"]), delay=st.sampled_from([None, 5.0]))
    def enqueue(self, data: Any, after_failure: str, delay: float | None) -> None:
        ids = [job.id for job in self.jobs()]
        after = tuple(data.draw(st.lists(st.sampled_from(ids), max_size=3, unique=True))) if ids else ()
        groups = [None, *self.engine.groups.groups]
        fields: dict[str, Any] = {"after": after, "after_failure": after_failure} if after else {}
        self.made += 1
        expires = data.draw(st.sampled_from([None, None, 20.0]))
        group = data.draw(st.sampled_from(groups))
        spec = JobSpec(payload=b"1", id=f"j{self.made}", group=group, delay=delay, expires_in=expires, max_attempts=2, **fields)
        if spec.group is None or not self.engine.groups.groups[spec.group].stored.closed:
            self.engine.enqueue(self.now, spec)
        self.settle()

    @rule(number=st.integers(0, 5))
    def group(self, number: int) -> None:
        callback = JobSpec(payload=b"1", queue="after")
        spec = GroupSpec(id=f"g{number}", on_concluded=callback, on_succeeded=callback)
        if spec.id in self.engine.groups.groups or len(self.engine.groups.groups) - len(self.engine.groups.kept) < LIMITS.groups_max:
            self.engine.groups.create(spec, self.now, lambda: "x")
        self.settle()

    @precondition(lambda self: self.engine.groups.groups)
    @rule(data=st.data(), cancel=st.booleans())
    def close(self, data: Any, cancel: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.engine.groups.groups)))
        (self.engine.groups.cancel if cancel else self.engine.groups.close)(name, self.now)
        self.settle()

    @rule(verdict=st.sampled_from(VERDICTS))
    def work(self, verdict: Verdict) -> None:
        for job in self.engine.dequeue(self.now, Want()):
            assert job.lease is not None
            self.engine.conclude(self.now, job.id, job.lease.token, verdict)
        self.settle()

    @precondition(lambda self: self.jobs())
    @rule(data=st.data(), retry=st.booleans())
    def retry_or_cancel(self, data: Any, retry: bool) -> None:
        name = data.draw(st.sampled_from([job.id for job in self.jobs()]))
        try:
            if retry:
                self.engine.retry(self.now, name)
                self.retried.add(name)
            else:
                self.engine.cancel(self.now, name)
        except QueueError:
            pass
        self.settle()

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    @rule()
    def restart(self) -> None:
        """From what the last commit left."""
        before = {job.id: (job.status, job.outcome) for job in self.engine.jobs.all()}
        groups = {name: self.engine.groups.stats(group) for name, group in self.engine.groups.groups.items()}
        named, jobs, following = self.disk.read()
        engine = Engine(LIMITS)
        restore(engine, named.queues, jobs, following, following, groups=named.groups, tallies=named.tallies)
        engine.resume(self.now)
        self.engine = engine
        self.settle()
        assert {job.id: (job.status, job.outcome) for job in engine.jobs.all()} == before
        assert {name: engine.groups.stats(group) for name, group in engine.groups.groups.items()} == groups

    @invariant()
    def each_job_is_as_its_parents_say(self) -> None:
        """The oracle: from the parents alone, as they are now."""
        by_id = self.engine.jobs.by_id
        for job in self.jobs():
            extra = job.details.extra
            if not extra.after or job.id in self.retried:
                continue
            ended = [by_id[parent].outcome if parent in by_id else None for parent in extra.after]
            waits = any(outcome is None or (extra.after_failure == "hold" and outcome is not Outcome.SUCCEEDED) for outcome in ended)
            broken = any(outcome not in (None, Outcome.SUCCEEDED) for outcome in ended)
            if job.held_back:
                assert waits, "whoever is held back has somebody to wait for"
                assert not (extra.after_failure == "cancel" and broken), "a failure cancels at once"
            if job.status is not Status.CONCLUDED:
                assert all(parent in by_id for parent in extra.after), "no parent of a live job is forgotten"

    @invariant()
    def all_is_counted(self) -> None:
        invariants(self.engine)
        self.engine.graph.check()
        assert len(self.callbacks) == len(set(self.callbacks))

    def teardown(self) -> None:
        """Nothing is stuck for ever: when all that can run has, only those wait that are told to."""
        for _ in range(3 * self.made + 3):
            self.now += 10.0
            self.settle()
            self.work(VERDICTS[0])
        for job in self.jobs():
            if job.status is not Status.CONCLUDED:
                assert job.details.extra.after_failure == "hold" or job.held_back
                assert waits_for_a_failure(self.engine, job)
        super().teardown()


def waits_for_a_failure(engine: Engine, job: Job) -> bool:
    """Whether a job holds for one that has not succeeded, or is after one that does."""
    parents = [engine.jobs.found(parent) for parent in job.details.extra.after]
    return any(
        (parent.status is Status.CONCLUDED and parent.outcome is not Outcome.SUCCEEDED) or waits_for_a_failure(engine, parent)
        for parent in parents
    )


TestGraphMachine = GraphMachine.TestCase
TestGraphMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
