"""Messages of Amazon SQS's API on the dashboard: jobs like any other."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import pytest

from jobqueue import Client

from .conftest import Open, expect
from .test_queue import jobs

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def asked(url: str, action: str, **given: Any) -> Any:
    """What an action of the JSON protocol is answered."""
    headers = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"}
    request = urllib.request.Request(f"{url}/sqs", json.dumps(given).encode(), headers)

    def answer() -> Any:
        with urllib.request.urlopen(request) as found:
            return json.loads(found.read() or b"{}")

    return await asyncio.to_thread(answer)


async def test_a_message_is_shown_as_it_goes(open_page: Open, url: str, client: Client) -> None:
    """In its queue, live, and on its page with the body, the group and the attributes, until it is deleted."""
    await asked(url, "CreateQueue", QueueName="messages.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    page = await open_page(url, "#/queues/messages.fifo")
    attributes = {"kind": {"DataType": "String", "StringValue": "greeting"}, "n": {"DataType": "Number.int", "StringValue": "5"}}
    sent = await asked(
        url, "SendMessage", QueueUrl="messages.fifo", MessageBody="<b>hello</b>", MessageGroupId="g-7", MessageAttributes=attributes
    )
    await expect(jobs(page)).to_have_text([sent["MessageId"]])
    await jobs(page).get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(sent["MessageId"])
    await expect(page.get_by_role("main")).to_contain_text("<b>hello</b>")
    await expect(page.get_by_role("main")).to_contain_text("g-7")
    await expect(page.get_by_text("greeting", exact=True)).to_be_visible()
    await expect(page.get_by_text("5, Number.int")).to_be_visible()
    (message,) = (await asked(url, "ReceiveMessage", QueueUrl="messages.fifo"))["Messages"]
    await expect(page.get_by_text("In progress").first).to_be_visible()
    await asked(url, "DeleteMessage", QueueUrl="messages.fifo", ReceiptHandle=message["ReceiptHandle"])
    await expect(page.get_by_text("Succeeded").first).to_be_visible()
