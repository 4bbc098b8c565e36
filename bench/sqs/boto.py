"""A process with boto3 in it: `python -m bench.sqs.boto send|receive URL QUEUE-URL BATCH SECONDS-OR-COUNT`.

It says "ready" when its client is made, waits for a line, works, and says how many messages it sent, or that it has deleted as many as it
was told to.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from bench.sqs.raw import BODY


def _client(url: str) -> Any:
    import boto3

    return boto3.client("sqs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="bench", aws_secret_access_key="bench")


def send(client: Any, queue: str, batch: int, seconds: float) -> int:
    """Send for so long; how many."""
    until, sent = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        if batch == 1:
            client.send_message(QueueUrl=queue, MessageBody=BODY)
        else:
            client.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(n), "MessageBody": BODY} for n in range(batch)])
        sent += batch
    return sent


def receive(client: Any, queue: str, batch: int) -> None:
    """Receive and delete until told to stop, and say how many after each."""
    done = 0
    while True:
        found = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=batch, WaitTimeSeconds=1).get("Messages", [])
        if batch == 1 and found:
            client.delete_message(QueueUrl=queue, ReceiptHandle=found[0]["ReceiptHandle"])
        elif found:
            entries = [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(found)]
            client.delete_message_batch(QueueUrl=queue, Entries=entries)
        done += len(found)
        if found:
            print(done, flush=True)


def main() -> None:
    """See above."""
    what, url, queue, batch, *rest = sys.argv[1:]
    client = _client(url)
    client.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "send":
        print(send(client, queue, int(batch), float(rest[0])), flush=True)
    else:
        receive(client, queue, int(batch))


if __name__ == "__main__":
    main()
