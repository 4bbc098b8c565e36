"""Whatever botocore's validator lets pass is answered with what botocore's parser accepts: never a 500, never a connection that is cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api import harness
from tests.api.harness import Api, Wire
from tests.messages import Reply

from .model import LETTERS, inputs, operations, service, understood, written
from .speech import PROTOCOLS, Protocol, Sqs

STATUSES = {200, 400, 403, 404, 429}


async def answered(api: Api, wire: Wire, request: bytes) -> Reply:
    """The answer; where it is held, once its time is over."""
    asking = asyncio.create_task(wire.ask(request))
    while not asking.done():
        await asyncio.sleep(0)
        if api.backend.totals().waiters:
            api.clock.advance(20)
    return await asking


async def prepare(api: Api, protocol: Protocol) -> list[str]:
    """Queues with messages, some received: their handles."""
    sqs = Sqs(api, protocol)
    await sqs.make("dead")
    await sqs.make("q", RedrivePolicy=LETTERS)
    await sqs.put("one", MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}})
    await sqs.put('{"two": 2}')
    handles = [message["ReceiptHandle"] for message in await sqs.take()]
    await sqs.make("q.fifo", ContentBasedDeduplication="true", RedrivePolicy="")
    for group in ("g", "g", "h"):
        await sqs.put(group, MessageGroupId=group)
    return handles + [message["ReceiptHandle"] for message in await sqs.take()]


async def talk(protocol: Protocol, data: st.DataObject, calls: int) -> None:
    """Some calls, one after the other on one connection."""
    api = await harness.start()
    try:
        handles = await prepare(api, protocol)
        wire = await api.site.wire()
        inputs(protocol).handles = handles
        for _ in range(calls):
            name = data.draw(st.sampled_from(operations(protocol)), "action")
            operation = service(protocol).operation_model(name)
            asked: dict[str, Any] = data.draw(inputs(protocol).of_action[name], "input")
            reply = await answered(api, wire, written(operation, asked, protocol))
            assert reply.status in STATUSES, reply
            assert "connection" not in reply.headers, reply
            found = understood(operation, reply, protocol)
            if reply.status != 200:
                assert found["Error"]["Code"], reply
                assert found["Error"]["Message"], reply
            for message in found.get("Messages", ()):
                handles.append(message["ReceiptHandle"])
            if "TaskHandle" in found:
                handles.append(found["TaskHandle"])
    finally:
        await api.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_valid_input_is_answered(protocol: Protocol, data: st.DataObject) -> None:
    """In an answer that fits botocore's own model of it."""
    asyncio.run(talk(protocol, data, 6))


@pytest.mark.long
@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_valid_inputs_are_answered(protocol: Protocol, data: st.DataObject) -> None:
    """The same, with more of them."""
    asyncio.run(talk(protocol, data, 12))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("action", operations("json"))
@settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_action_is_there(protocol: Protocol, action: str, data: st.DataObject) -> None:
    """None of the model's is unknown."""

    async def once() -> None:
        api = await harness.start()
        try:
            operation = service(protocol).operation_model(action)
            asked = data.draw(inputs(protocol).of_action[action], "input")
            reply = await answered(api, await api.site.wire(), written(operation, asked, protocol))
            assert reply.status in STATUSES, reply
            found = understood(operation, reply, protocol)
            assert found.get("Error", {}).get("Code") != "InvalidAction", reply
        finally:
            await api.close()

    asyncio.run(once())
