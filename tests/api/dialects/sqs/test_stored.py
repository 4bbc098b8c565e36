"""What is answered as done is stored: also where somebody else has done it, and waits for that."""

from __future__ import annotations

import asyncio

from tests.api.harness import Api, until
from tests.backend.journals import GatedJournal

from .speech import Sqs


async def test_a_queue_that_is_made_twice_is_answered_when_it_is_stored(api: Api, sqs: Sqs) -> None:
    """The second CreateQueue changes nothing, and is not answered before the first one, since a crash could still take the queue away."""
    journal = api.backend.journal = GatedJournal()
    first = asyncio.create_task(sqs.call("CreateQueue", {"QueueName": "q"}))
    await until(lambda: journal.waiting == 1)
    second = asyncio.create_task(sqs.call("CreateQueue", {"QueueName": "q"}))
    await until(lambda: journal.waiting == 2 or second.done())
    assert not second.done()
    journal.commit()
    assert await first == await second
