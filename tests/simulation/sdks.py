"""Clients of a FIFO queue who speak Amazon SQS's JSON protocol, as SDKs do: what couriers.py has in the native one.

A message's body is the name that its sender gave it, since SQS gives it an id of its own, which is the same for all sends of one call.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

from .caller import Caller, Reply
from .clients import Client
from .couriers import Keeper, Receiver, Sender
from .history import Ask
from .lane import BATCH_MAX, LANE

URL = f"http://sim/sqs/000000000000/{LANE}"
CREDENTIAL = "Authorization: AWS4-HMAC-SHA256 Credential=sim/20270115/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
WAITS = (0, 1, 5, 20)


class Sdk(Caller):
    """How an SDK calls. asked: the last request."""

    asked: Ask

    async def call(self, op: str, action: str, body: dict[str, Any], invocation: str | None = None, **known: Any) -> Reply | None:
        """One request of a call. invocation: of the call, whose requests are all under it."""
        headers = [f"X-Amz-Target: AmazonSQS.{action}", "Content-Type: application/x-amz-json-1.0", CREDENTIAL]
        headers.append(f"amz-sdk-invocation-id: {invocation or self.invocation()}")
        self.asked = self.make(op, "POST", "/sqs", {"QueueUrl": URL, **body}, **known)
        return (await self.exchange([self.asked], headers=headers))[0]

    def invocation(self) -> str:
        """A new one."""
        return str(uuid.UUID(int=self.random.getrandbits(128)))

    def refused(self, reply: Reply | None, *codes: str) -> None:
        """A fault for an error that is none of these, nor one that any call may meet."""
        if reply is None or reply.status == 200 or reply.status in (408, 429, 503):
            return
        if reply.status != 400 or reply.headers.get("x-amzn-query-error", "").split(";")[0] not in codes:
            self.world.history.fault(f"{self.name} was answered {reply.status} {reply.body!r}")


class SdkSender(Sdk, Sender):
    """See Sender."""

    async def make_queue(self) -> bool:
        """See Sender."""
        body = {"QueueName": LANE, "Attributes": {"FifoQueue": "true", "VisibilityTimeout": "3"}}
        reply = await self.call("policy", "CreateQueue", body, paused=False)
        self.refused(reply)
        return reply is not None and reply.status == 200

    async def one(self, item: dict[str, Any]) -> None:
        """See Sender."""
        invocation = self.invocation()
        for _ in range(3):
            self.sends(item)
            sent_at = self.now
            reply = await self.call("enqueue", "SendMessage", _message(item), invocation)
            self.refused(reply)
            if reply is not None and reply.status == 200:
                self.told(item, reply.json, sent_at, reply)
            if reply is not None and not self.chance(0.1):
                return

    async def many(self, items: list[dict[str, Any]]) -> None:
        """See Sender."""
        invocation = self.invocation()
        entries = [{"Id": str(number), **_message(item)} for number, item in enumerate(items)]
        for _ in range(3):
            for item in items:
                self.sends(item)
            sent_at = self.now
            reply = await self.call("batch enqueue", "SendMessageBatch", {"Entries": entries}, invocation)
            self.refused(reply)
            if reply is not None and reply.status == 200:
                for result in reply.json.get("Successful", []):
                    self.told(items[int(result["Id"])], result, sent_at, reply)
            if reply is not None:
                return

    def sends(self, item: dict[str, Any]) -> None:
        """See Sender."""
        known = self.world.lane.messages.get(item["id"])
        self.world.ledger.submits(None if known is None else known.stored, self.now)
        self.world.lane.sends(item, self.now)

    def told(self, item: dict[str, Any], answer: dict[str, Any], sent_at: float, reply: Reply) -> None:
        """See Sender."""
        lane, stored, number = self.world.lane, answer["MessageId"], answer["SequenceNumber"]
        if answer["MD5OfMessageBody"] != _md5(item["id"]):
            self.world.history.fault(f"{item['id']} was answered with the sum of another body")
        if stored not in self.world.checker.made:
            self.world.history.fault(f"{item['id']} was answered with {stored}, which was never made")
            return
        name = lane.alias[stored] = json.loads(self.world.checker.made[stored])
        first, own = lane.messages[name], lane.messages[item["id"]]
        # SQS does not say so. One that was received and deleted before its sender heard of it has the number that it was received with.
        created = first is own and (own.created_at != number if own.accepted else own.number != int(number) or own.gone_at >= sent_at)
        first.stored = stored
        if first is own:
            self.world.acknowledged(stored, json.dumps(name).encode(), reply.life)
        lane.answered(item["id"], {"id": name, "created": created, "created_at": number, "sure": own.number is not None}, sent_at, self.now)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _message(item: dict[str, Any]) -> dict[str, Any]:
    return {"MessageBody": item["id"], "MessageGroupId": item["key"], "MessageDeduplicationId": item["unique"]["key"]}


class SdkReceiver(Sdk, Receiver):
    """See Receiver."""

    def terms(self, receive: str, repeated: bool) -> dict[str, Any]:
        """See Receiver."""
        seconds = self.random.choice((0, *self.world.plan.leases))
        terms = {"MaxNumberOfMessages": self.random.choice((1, 2, BATCH_MAX)), "WaitTimeSeconds": self.random.choice(WAITS)}
        terms |= {"VisibilityTimeout": seconds, "AttributeNames": ["All"]}
        if self.chance(0.5):
            terms["ReceiveRequestAttemptId"] = receive
        # An SDK sends a call that was not answered again whatever the call is, under its own id.
        return {"terms": terms, "invocation": self.invocation()} | ({"attempt_id": receive} if repeated else {})

    async def take(self, terms: dict[str, Any]) -> tuple[Ask, Reply | None]:
        """See Receiver."""
        asked = terms["terms"]
        known: dict[str, Any] = {
            "queues": (LANE,),
            "wait": float(asked["WaitTimeSeconds"]),
            "attempt": asked.get("ReceiveRequestAttemptId", terms["invocation"]),
            "lease_seconds": float(asked["VisibilityTimeout"]),
        }
        reply = await self.call("batch dequeue", "ReceiveMessage", asked, terms["invocation"], **known)
        self.refused(reply, "AWS.SimpleQueueService.NonExistentQueue")
        return self.asked, reply

    def read(self, reply: Reply) -> list[Any]:
        """See Receiver. As jobs, with what was received."""
        jobs = []
        for message in reply.json.get("Messages", []):
            handle, attributes = message["ReceiptHandle"], message["Attributes"]
            token = token_of(handle)
            known = self.world.lane.alias.setdefault(message["MessageId"], message["Body"])
            if known != message["Body"]:
                self.world.history.fault(f"{message['MessageId']} was {known} and is {message['Body']}")
            job = {"id": message["MessageId"], "payload": message["Body"], "handle": handle, "lease": {"token": token}}
            jobs.append(job | {"key": attributes["MessageGroupId"], "number": int(attributes["SequenceNumber"])})
        return jobs

    def deliver(self, ask: Ask, jobs: list[Any], reply: Reply) -> None:
        """See Worker. SQS does not say when a lease ends: it is as the server has it."""
        if not self.world.remembers(reply.life) or ask.link.client.half_closed:
            return
        for job in jobs:
            seen, token = self.world.checker.jobs.get(job["id"]), job["lease"]["token"]
            until = seen.until if seen is not None and seen.token == token else self.now
            self.world.ledger.delivered(ask, job["id"], token, json.dumps(job["payload"]).encode(), self.now, until)

    async def extend(self, jobs: list[Any]) -> None:
        """See Worker."""
        seconds = self.random.choice((1, 2, 5))
        for job in jobs:
            token = job["lease"]["token"]
            self.world.ledger.extends(token, self.now + seconds)
            sent_at = self.now
            if await self.change(job, seconds):
                self.world.ledger.extended(token, sent_at + seconds)

    async def give_back(self, jobs: list[Any]) -> list[Any]:
        """See Receiver."""
        self.world.ledger.ends(jobs[0]["lease"]["token"], self.now)
        self.world.lane.counts["zero"] += await self.change(jobs[0], 0)
        return jobs if self.chance(0.3) else jobs[1:]

    async def change(self, job: Any, seconds: int) -> bool:
        """Have a message be visible again in so many seconds; whether that was done."""
        body, tokens = {"ReceiptHandle": job["handle"], "VisibilityTimeout": seconds}, {job["id"]: job["lease"]["token"]}
        reply = await self.call("extend", "ChangeMessageVisibility", body, ids=(job["id"],), tokens=tokens)
        self.refused(reply, "InvalidParameterValue")
        return reply is not None and reply.status == 200

    async def delete(self, job: Any) -> None:
        """See Receiver."""
        job_id, token = job["id"], job["lease"]["token"]
        for _ in range(1 + self.chance(0.2)):
            self.world.ledger.ends(token, self.now)
            self.world.lane.ends(job_id, self.now)
            body = {"ReceiptHandle": job["handle"]}
            reply = await self.call("conclude", "DeleteMessage", body, ids=(job_id,), tokens={job_id: token})
            self.refused(reply, "InvalidParameterValue")
            if reply is not None and reply.status == 200:
                self.deleted(job_id, token, {"outcome": "succeeded"})

    async def delete_all(self, jobs: list[Any]) -> None:
        """See Receiver."""
        for job in jobs:
            self.world.ledger.ends(job["lease"]["token"], self.now)
            self.world.lane.ends(job["id"], self.now)
        tokens = {job["id"]: job["lease"]["token"] for job in jobs}
        entries = [{"Id": str(number), "ReceiptHandle": job["handle"]} for number, job in enumerate(jobs)]
        reply = await self.call("batch conclude", "DeleteMessageBatch", {"Entries": entries}, tokens=tokens)
        self.refused(reply)
        if reply is not None and reply.status == 200:
            for result in reply.json.get("Successful", []):
                job = jobs[int(result["Id"])]
                self.deleted(job["id"], job["lease"]["token"], {"outcome": "succeeded"})


def token_of(handle: str) -> str:
    """The lease's token in a receipt handle, as the dialect makes it: the version, the token, the job's id."""
    return base64.urlsafe_b64decode(handle + "=" * (-len(handle) % 4))[1:17].hex()


class SdkKeeper(Sdk, Keeper):
    """See Keeper."""

    async def purge(self) -> Reply | None:
        """See Keeper."""
        reply = await self.call("purge all", "PurgeQueue", {})
        self.refused(reply, "AWS.SimpleQueueService.NonExistentQueue")
        return reply


SDKS: dict[str, type[Client]] = {"sender": SdkSender, "receiver": SdkReceiver, "keeper": SdkKeeper}
