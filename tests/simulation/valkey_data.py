"""What one node of the simulated Valkey has of one partition: its rows, its owner, and what the checker knows of them.

The functions are those of valkey.lua, written again; that they do the same is shown by tests/backend/store/test_valkey.py on real servers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checker import Seen

Commit = tuple[str, int]
"""The token it was made under, and its number."""


class Error(Exception):
    """An error reply."""


@dataclass
class Shadow:
    """What the checker knows of a commit: jobs by id, None for one that is forgotten, and the queues that are paused."""

    jobs: dict[str, Seen | None]
    paused: set[str]
    mark: int
    """Of the checker's changes, the last that is in it."""


@dataclass
class Data:
    """What one node has. have: every commit that is in it; tokens: every claim; jobs and paused: the checker's view of its rows."""

    owner: dict[str, str] = field(default_factory=dict)
    states: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    payloads: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    queues: dict[bytes, bytes] = field(default_factory=dict)
    counters: bytes | None = None
    members: dict[bytes, tuple[float, bytes]] = field(default_factory=dict)
    have: dict[Commit, None] = field(default_factory=dict)
    tokens: dict[str, None] = field(default_factory=dict)
    jobs: dict[str, Seen] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def copy(self) -> Data:
        """The same, apart."""
        return Data(
            dict(self.owner),
            {number: dict(rows) for number, rows in self.states.items()},
            {number: dict(rows) for number, rows in self.payloads.items()},
            dict(self.queues),
            self.counters,
            dict(self.members),
            dict(self.have),
            dict(self.tokens),
            dict(self.jobs),
            set(self.paused),
        )

    # The functions. now: by the primary's clock, also where a replica carries them out.

    def claim(self, now: float, a: list[bytes]) -> Any:
        name, address, seconds, force, nonce = (one.decode() for one in a)
        o = self.owner
        if "owner" in o and o["owner"] != name and force != "1" and float(o["until"]) > now:
            return [o["owner"], o["addr"], o["epoch"], f"{float(o['until']) - now:.6f}"]
        epoch = str(int(o.get("epoch", "0")) + 1)
        o |= {"owner": name, "addr": address, "epoch": epoch, "token": f"{epoch}:{nonce}", "until": f"{now + float(seconds):.6f}"}
        o.setdefault("change", "0")
        self.tokens[o["token"]] = None
        return [name, address, epoch, seconds]

    def holder(self, now: float) -> Any:
        o = self.owner
        return None if "owner" not in o else [o["owner"], o["addr"], o["epoch"], f"{float(o['until']) - now:.6f}"]

    def fence(self, token: bytes) -> None:
        if self.owner.get("token") != token.decode():
            raise Error(f"FENCED {self.owner.get('epoch', '0')}")

    def renew(self, now: float, a: list[bytes]) -> Any:
        self.fence(a[0])
        self.owner["until"] = f"{now + float(a[1]):.6f}"
        return int(self.owner["change"])

    def release(self, now: float, a: list[bytes]) -> Any:
        self.fence(a[0])
        for name in ("owner", "addr", "token", "until"):
            del self.owner[name]
        return 1

    def commit(self, now: float, a: list[bytes], shadow: Shadow | None) -> Any:
        self.fence(a[0])
        change, number = int(self.owner["change"]), int(a[1])
        if change < int(a[2]):
            raise Error(f"BEHIND {change}")
        if change >= number:
            raise Error(f"PAST {change}")
        at = 6
        for _ in range(int(a[5])):
            bucket, payloads, states, gone = (int(one) for one in a[at : at + 4])
            at += 4
            self.payloads.setdefault(bucket, {}).update(zip(a[at : at + payloads : 2], a[at + 1 : at + payloads : 2], strict=True))
            at += payloads
            rows = self.states.setdefault(bucket, {})
            rows.update(zip(a[at : at + states : 2], a[at + 1 : at + states : 2], strict=True))
            at += states
            for key in a[at : at + gone]:
                rows.pop(key, None)
                self.payloads[bucket].pop(key, None)
            at += gone
        for name, row in zip(a[at::2], a[at + 1 :: 2], strict=True):
            if row:
                self.queues[name] = row
            else:
                self.queues.pop(name, None)
        self.counters = a[4]
        self.owner["change"] = str(number)
        self.owner["until"] = f"{now + float(a[3]):.6f}"
        self.have[a[0].decode(), number] = None
        if shadow is not None:
            self.paused = set(shadow.paused)
            for job_id, seen in shadow.jobs.items():
                if seen is None:
                    self.jobs.pop(job_id, None)
                else:
                    self.jobs[job_id] = seen
        return 1

    def announce(self, now: float, a: list[bytes]) -> Any:
        self.members[a[0]] = now, a[1]
        self.members = {name: one for name, one in self.members.items() if now - one[0] <= 60}
        return [part for name, (seen, at) in self.members.items() for part in (name, at, f"{max(0.0, now - seen):.6f}")]

    def depart(self, now: float, a: list[bytes]) -> Any:
        return 0 if self.members.pop(a[0], None) is None else 1
