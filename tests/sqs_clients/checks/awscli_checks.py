"""The command `aws sqs`, as people and their scripts type it. Each call is a process of half a second, so there are few."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

AWS = str(Path(sys.executable).with_name("aws"))


# aws-cli ignores AWS_ENDPOINT_URL_SQS in the regions that it knows (aws-cli#8737). page_checks.py has the other way.
OPTION = ("--endpoint-url", os.environ["AWS_ENDPOINT_URL_SQS"])


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AWS, *OPTION, "sqs", *words], capture_output=True, text=True, timeout=60, check=False)


def aws(*words: str) -> Any:
    """What a command that must succeed prints, read as JSON."""
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def test_a_message_by_command(queue_name: str) -> None:
    """Create, send with an attribute, receive, hide no longer, receive again, delete, count."""
    url = aws("create-queue", "--queue-name", queue_name, "--attributes", "VisibilityTimeout=300")["QueueUrl"]
    attributes = '{"kind": {"DataType": "String", "StringValue": "greeting"}}'
    sent = aws("send-message", "--queue-url", url, "--message-body", "hello", "--message-attributes", attributes)

    asked = ("receive-message", "--queue-url", url, "--wait-time-seconds", "20")
    (message,) = aws(*asked, "--message-attribute-names", "All", "--attribute-names", "All")["Messages"]
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "hello")
    assert message["MessageAttributes"]["kind"]["StringValue"] == "greeting"
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    handle = ("--queue-url", url, "--receipt-handle", message["ReceiptHandle"])
    assert aws("change-message-visibility", *handle, "--visibility-timeout", "0") is None
    (message,) = aws(*asked)["Messages"]
    assert aws("delete-message", "--queue-url", url, "--receipt-handle", message["ReceiptHandle"]) is None
    counted = aws("get-queue-attributes", "--queue-url", url, "--attribute-names", "All")["Attributes"]
    assert {counted[f"ApproximateNumberOfMessages{kind}"] for kind in ("", "NotVisible", "Delayed")} == {"0"}
    assert counted["VisibilityTimeout"] == "300"


def test_a_batch_a_purge_and_an_error_by_command(queue_name: str) -> None:
    """Shorthand lists; a purge leaves nothing, so nothing is printed; of a queue that is gone the error is AWS's own."""
    url = aws("create-queue", "--queue-name", queue_name)["QueueUrl"]
    sent = aws("send-message-batch", "--queue-url", url, "--entries", "Id=a,MessageBody=1", "Id=b,MessageBody=2,DelaySeconds=60")
    assert [one["Id"] for one in sent["Successful"]] == ["a", "b"]
    aws("purge-queue", "--queue-url", url)
    assert aws("receive-message", "--queue-url", url) is None
    aws("delete-queue", "--queue-url", url)
    done = run("get-queue-url", "--queue-name", queue_name)
    assert done.returncode == 255, done.stderr
    assert "(AWS.SimpleQueueService.NonExistentQueue) when calling the GetQueueUrl operation" in done.stderr
