"""kill -9 under clients of a FIFO queue who speak Amazon SQS's protocol. `python -m tests.faults.fifo --rounds 40`.

A real server with a file, killed at random moments and started again at once. Senders repeat what was not answered under the same
invocation, as SDKs do, and use deduplication ids again; receivers take up to ten at a time, delete what they have or let it be. What they
are answered is judged as in the simulation (tests/simulation/lane.py): order per group, one receive at a time for each, no duplicate, and
nothing lost.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import signal
import tempfile
import uuid
from pathlib import Path
from random import Random
from typing import Any, cast

import aiohttp

from tests.simulation.history import Ask, History
from tests.simulation.lane import BATCH_MAX, GROUPS, LANE, Lane
from tests.simulation.ledger import Ledger

from .process import Process

WINDOW_SECONDS = 300.0
VISIBILITY_SECONDS = 2
WAIT_SECONDS = 1
BACKLOG_MAX = 20
PAUSE_SECONDS = 0.2
CREDENTIAL = "AWS4-HMAC-SHA256 Credential=test/20270115/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"


class Town:
    """All clients, and what they know. port: where the server listens now. kills: how often it was killed."""

    def __init__(self, seed: int) -> None:
        self.luck = Random(seed)
        self.loop = asyncio.get_running_loop()
        self.history = History(cast(Any, self.loop))
        self.ledger = Ledger(self.history)
        self.lane = Lane(self.history, self.ledger, WINDOW_SECONDS)
        self.closing = False
        self.port = 0
        self.kills = 0
        self._asks = 0

    async def call(self, session: aiohttp.ClientSession, action: str, body: dict[str, Any], invocation: str) -> tuple[int, Any] | None:
        """The status and the JSON of an answer; None if there is none."""
        headers = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0", "Authorization": CREDENTIAL}
        headers["amz-sdk-invocation-id"] = invocation
        url = f"http://127.0.0.1:{self.port}/sqs"
        try:
            async with session.post(url, json={"QueueUrl": LANE, **body}, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    def invocation(self) -> str:
        """Of a new call."""
        return str(uuid.UUID(int=self.luck.getrandbits(128)))

    def ask(self, action: str) -> Ask:
        """A request, for what is said of it."""
        self._asks += 1
        ask = Ask(self._asks, action, "POST", "/sqs", b"")
        ask.sent_at = self.loop.time()
        return ask

    def check(self) -> None:
        """Raise AssertionError for the first thing that was wrong."""
        assert not self.history.faults, "\n".join(self.history.faults[:10])


async def _send(town: Town, name: str) -> None:
    lane, luck = town.lane, town.luck
    async with aiohttp.ClientSession() as session:
        serial = 0
        while not town.closing:
            entries, names, invocation = [], [], town.invocation()
            for number in range(luck.choice((1, 1, 3, BATCH_MAX))):
                serial += 1
                known = list(lane.messages.values())[-30:]
                key = luck.choice(known).key if known and luck.random() < 0.3 else f"{name}-{serial}"
                names.append(f"{name}:{serial}")
                entry = {"Id": str(number), "MessageBody": names[-1], "MessageGroupId": luck.choice(GROUPS), "MessageDeduplicationId": key}
                entries.append(entry)
                lane.alias[_id_of(invocation, entry)] = names[-1]
            while not town.closing or luck.random() < 0.9:
                sent_at = town.loop.time()
                for entry, message in zip(entries, names, strict=True):
                    lane.sends({"id": message, "key": entry["MessageGroupId"], "unique": {"key": entry["MessageDeduplicationId"]}}, sent_at)
                answer = await town.call(session, "SendMessageBatch", {"Entries": entries}, invocation)
                if answer is not None and answer[0] == 200:
                    _told(town, names, answer[1], sent_at)
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(luck.random() * 0.05)
            if sum(map(len, lane.there.values())) > BACKLOG_MAX:
                await asyncio.sleep(PAUSE_SECONDS)


def _told(town: Town, names: list[str], answer: Any, sent_at: float) -> None:
    lane = town.lane
    assert "Failed" not in answer, answer
    for result in answer["Successful"]:
        own = lane.messages[names[int(result["Id"])]]
        first = lane.alias.get(result["MessageId"])
        assert first is not None, f"{own.id} was answered with {result['MessageId']}, which nobody sent"
        created = first == own.id and not own.accepted
        number = result["SequenceNumber"]
        lane.answered(own.id, {"id": first, "created": created, "created_at": number}, sent_at, town.loop.time())


def _id_of(invocation: str, entry: dict[str, str]) -> str:
    """The id that the entry of a call is given, by what is in it: a UUID of version 5."""
    body = hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest()
    content = f"{entry['Id']}\0{body}\0{entry['MessageGroupId']}\0{entry['MessageDeduplicationId']}"
    digest = hashlib.sha1(f"\0{invocation}\0{content}".encode(), usedforsecurity=False).digest()[:16]
    return str(uuid.UUID(bytes=digest, version=5))


async def _receive(town: Town, name: str) -> None:
    lane, luck = town.lane, town.luck
    async with aiohttp.ClientSession() as session:
        serial = 0
        while not (town.closing and not any(lane.there.values())):
            serial += 1
            invocation, again = town.invocation(), False
            while True:
                ask = town.ask("receive")
                terms = {"MaxNumberOfMessages": luck.choice((1, 3, BATCH_MAX)), "WaitTimeSeconds": WAIT_SECONDS}
                terms |= {"VisibilityTimeout": VISIBILITY_SECONDS}
                answer = await town.call(session, "ReceiveMessage", {**terms, "AttributeNames": ["All"]}, invocation)
                if answer is not None:
                    break
                again = True
                await asyncio.sleep(0.05)
            if answer[0] != 200:
                await asyncio.sleep(0.05)
                continue
            jobs = [_job(message) for message in answer[1].get("Messages", [])]
            until = ask.sent_at + (0.0 if again else VISIBILITY_SECONDS)
            for job in jobs:
                town.ledger.delivered(ask, job["id"], job["lease"]["token"], b"", town.loop.time(), until)
            lane.received(ask, f"{name}.{serial}", jobs, town.loop.time(), again)
            await asyncio.sleep(luck.choice((0.0, 0.0, 0.02, 0.3)))
            await _delete(town, session, jobs)


def _job(message: Any) -> dict[str, Any]:
    token = base64.urlsafe_b64decode(message["ReceiptHandle"] + "==")[1:17].hex()
    attributes = message["Attributes"]
    job = {"id": message["MessageId"], "lease": {"token": token}, "handle": message["ReceiptHandle"]}
    return job | {"key": attributes["MessageGroupId"], "number": int(attributes["SequenceNumber"])}


async def _delete(town: Town, session: aiohttp.ClientSession, jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        if not town.closing and town.luck.random() < 0.1:
            # The rest of its group waits until this one's time is over.
            continue
        town.ledger.ends(job["lease"]["token"], town.loop.time())
        town.lane.ends(job["id"], town.loop.time())
        answer = await town.call(session, "DeleteMessage", {"ReceiptHandle": job["handle"]}, town.invocation())
        if answer is not None and answer[0] == 200:
            town.lane.ended(job["id"], job["lease"]["token"], town.loop.time())


async def kill(rounds: int, seed: int, folder: Path) -> Town:
    """Kill the server so many times, let all be received, and raise AssertionError for what was wrong."""
    town = Town(seed)
    flags = ("--data", str(folder / "jobs.db"))
    process = await asyncio.to_thread(Process, *flags)
    tasks: list[asyncio.Task[None]] = []
    try:
        town.port = process.port
        async with aiohttp.ClientSession() as session:
            body = {"QueueName": LANE, "Attributes": {"FifoQueue": "true"}}
            assert (await town.call(session, "CreateQueue", body, town.invocation()) or (0, None))[0] == 200
        tasks = [asyncio.create_task(_send(town, f"s{number}")) for number in range(3)]
        tasks += [asyncio.create_task(_receive(town, f"r{number}")) for number in range(4)]
        for _ in range(rounds):
            await asyncio.sleep(town.luck.uniform(0.1, 1.0))
            process.signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
            process.close()
            town.kills += 1
            process = await asyncio.to_thread(Process, *flags)
            town.port = process.port
        await asyncio.sleep(0.5)
        town.closing = True
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
        await _emptied(town)
        town.check()
        return town
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        process.close()


async def _emptied(town: Town) -> None:
    """Wait until nothing is left, and look for what was accepted and was never received."""
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(60):
            while True:
                answer = await town.call(session, "GetQueueAttributes", {"AttributeNames": ["All"]}, town.invocation())
                assert answer is not None
                counts = [answer[1]["Attributes"][f"ApproximateNumberOfMessages{more}"] for more in ("", "NotVisible", "Delayed")]
                if counts == ["0", "0", "0"]:
                    break
                found = await town.call(session, "ReceiveMessage", {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}, town.invocation())
                for message in [] if found is None else found[1].get("Messages", []):
                    town.lane.ends(message["MessageId"], town.loop.time())
                    await town.call(session, "DeleteMessage", {"ReceiptHandle": message["ReceiptHandle"]}, town.invocation())
    lost = [message.id for message in town.lane.messages.values() if message.accepted and message.gone_at > town.loop.time()]
    assert not lost, f"accepted, never received, and gone: {lost[:10]}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fifo", description="Kill a server under clients of a FIFO queue.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        town = asyncio.run(kill(options.rounds, options.seed, Path(folder)))
    print(f"in order, once, and none lost, after {town.kills} kills: {town.lane.counts}")


if __name__ == "__main__":
    main()
