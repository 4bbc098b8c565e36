"""Messages of Amazon SQS's API on the command line: jobs like any other."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

from click.testing import Result

Run = Callable[..., Result]


def asked(url: str, action: str, **given: Any) -> Any:
    """What an action of the JSON protocol is answered."""
    headers = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/sqs", json.dumps(given).encode(), headers)) as answer:
        return json.loads(answer.read() or b"{}")


def test_a_message_is_listed_shown_and_cancelled(run: Run, url: str) -> None:
    """With its group as key and its attributes as headers; a cancelled one is received by nobody."""
    asked(url, "CreateQueue", QueueName="mail")
    attributes = {"n": {"DataType": "Number", "StringValue": "5"}}
    sent = asked(url, "SendMessage", QueueUrl="mail", MessageBody="ann", MessageGroupId="g", MessageAttributes=attributes)
    (job,) = [json.loads(line) for line in run("list", "--queue", "mail", "--key", "g", "--json").stdout.splitlines()]
    assert (job["id"], job["status"], job["key"]) == (sent["MessageId"], "queued", "g")
    shown = run("get", sent["MessageId"]).stdout
    assert "ann" in shown
    assert "n:Number=5" in shown
    assert run("cancel", sent["MessageId"]).exit_code == 0
    assert asked(url, "ReceiveMessage", QueueUrl="mail") == {}
