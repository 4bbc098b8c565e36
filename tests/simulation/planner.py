"""Clients that tie jobs to others: unique keys, jobs after others, groups with callbacks."""

from __future__ import annotations

from typing import Any

from .caller import Reply
from .clients import Producer

KEYS = ("u", "v")


class Planner(Producer):
    """Submits jobs that wait for others, of which a queue keeps one, or that are counted together. Repeats what was not answered."""

    async def step(self) -> None:
        kind = self.random.choice(("unique", "unique", "after", "after", "group"))
        if kind == "unique":
            await self.unique()
        elif kind == "after":
            await self.after()
        else:
            await self.group()

    def job(self, **fields: Any) -> dict[str, Any]:
        """One with an id of its own."""
        item = self.item()
        item["id"] = f"{self.name}-{item['payload']['n']}"
        # Those that expire are enough elsewhere; these are to wait.
        item.pop("expires_in", None)
        return item | fields

    async def submit(self, item: dict[str, Any]) -> Reply | None:
        """Enqueue it until that is answered, three times at most; None when it is not known to be there."""
        for _ in range(3):
            self.world.ledger.submits(item["id"], self.now)
            reply = await self.ask("enqueue", "POST", "/jobs/enqueue", item)
            if reply is None:
                continue
            if reply.status in (200, 201):
                # Of one with a unique key, perhaps the job that has it.
                if reply.json["id"] == item["id"]:
                    self.remember(item, item["id"], reply)
                return reply
            if reply.status not in (404, 408, 409, 429, 503):
                self.world.history.fault(f"an enqueue was answered {reply.status} {reply.body!r}")
            return None
        return None

    async def unique(self) -> None:
        """One of several like jobs, more of them at once than are to run."""
        for _ in range(self.random.choice((1, 2, 3))):
            terms = {"key": self.random.choice(KEYS), "on_conflict": self.random.choice(("keep", "follow", "follow", "refuse"))}
            await self.submit(self.job(unique=terms))
            await self.think(self.world.plan.toil / 2)

    async def after(self) -> None:
        """A few jobs, and one or two behind them; alone, or as a batch."""
        parents = [self.job() for _ in range(self.random.choice((1, 2, 3)))]
        terms = {"after_failure": self.random.choice(("cancel", "run", "hold"))} if self.chance(0.7) else {}
        child = self.job(after=[parent["id"] for parent in parents], **terms)
        if self.chance(0.2):
            child["unique"] = {"key": self.random.choice(KEYS), "on_conflict": "follow"}
        grandchild = self.job(after=[child["id"]], after_failure="run")
        items = [*parents, child, *([grandchild] if self.chance(0.5) else [])]
        if self.chance(0.4) and "unique" not in child:
            await self.batch(items)
            return
        for item in items:
            if await self.submit(item) is None:
                return

    async def group(self) -> None:
        """Jobs that are counted together, some of which join late; closed, or cancelled, or left open."""
        group = f"{self.name}-g{self.world.serial()}"
        callbacks = {name: {"payload": {"n": self.world.serial()}, "queue": self.queue()} for name in ("on_concluded", "on_succeeded")}
        made = await self.again("make group", "POST", "/groups", {"id": group, **{k: v for k, v in callbacks.items() if self.chance(0.8)}})
        if made is None or made.status not in (200, 201):
            return
        for _ in range(self.random.choice((0, 1, 3))):
            await self.submit(self.job(group=group))
        await self.think(self.world.plan.toil)
        ties = self.world.checker.ties
        if self.chance(0.2):
            ties.closed.add(group)
            ties.cancelled.add(group)
            await self.again("cancel group", "POST", f"/groups/{group}/cancel")
        elif self.chance(0.9):
            ties.closed.add(group)
            await self.again("close group", "POST", f"/groups/{group}/close")
        if self.chance(0.3):
            wait = self.random.choice(self.world.plan.waits)
            await self.ask("wait for group", "GET", f"/groups/{group}?wait={wait}", wait=float(wait))

    async def again(self, op: str, method: str, path: str, body: Any = None) -> Reply | None:
        """Ask until it is answered, three times at most."""
        for _ in range(3):
            reply = await self.ask(op, method, path, body)
            if reply is not None:
                return reply
        return None
