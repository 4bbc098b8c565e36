"""botocore's model of SQS: what its validator lets pass, how it writes a request, and what its parser makes of an answer.

botocore has dropped the Query protocol's names from its model, which older versions of it, and other languages, still have: `query_model`
puts them back.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any
from urllib.parse import urlencode

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator
from hypothesis import strategies as st

from tests.messages import Reply

from .speech import LISTS, MAPS, NAMESPACE, Protocol

QUEUES = ("q", "q.fifo", "dead")
URL = "http://test/sqs/000000000000/"
ARN = "arn:aws:sqs:us-east-1:000000000000:"
SETTINGS = (
    ("DelaySeconds", "1"),
    ("VisibilityTimeout", "0"),
    ("MaximumMessageSize", "1024"),
    ("ReceiveMessageWaitTimeSeconds", "20"),
    ("RedrivePolicy", ""),
    ("RedriveAllowPolicy", '{"redrivePermission": "denyAll"}'),
    ("Policy", "{}"),
    ("KmsMasterKeyId", "k"),
)
LETTERS = json.dumps({"deadLetterTargetArn": f"{ARN}dead", "maxReceiveCount": 2})

_MEMBERS = {
    **{f"{name[0].upper()}{name[1:]}": member for name, member in LISTS.items()},
    "QueueUrls": "QueueUrl",
    "queueUrls": "QueueUrl",
}


def _query_model(model: dict[str, Any]) -> dict[str, Any]:
    """The model with what the Query protocol calls lists, maps and their members."""
    model = copy.deepcopy(model)
    model["metadata"] |= {"protocol": "query", "protocols": ["query"], "xmlNamespace": NAMESPACE.strip("{}")}
    del model["metadata"]["awsQueryCompatible"]
    shapes = model["shapes"]
    for shape in shapes.values():
        for name, member in shape.get("members", {}).items():
            inner = shapes[member["shape"]]
            if inner["type"] == "map":
                member["locationName"], key = MAPS[name]
                inner["key"]["locationName"], inner["value"]["locationName"] = key, "Value"
            elif inner["type"] == "list":
                item = shapes[inner["member"]["shape"]]
                called = inner["member"]["shape"] if item["type"] == "structure" else _MEMBERS.get(name, name.removesuffix("s"))
                inner["member"]["locationName"] = called
                if item["type"] != "structure" and name.endswith("ListValues"):
                    member["locationName"] = called
    for operation in model["operations"].values():
        if "output" in operation:
            operation["output"] |= {"resultWrapper": operation["output"]["shape"]}
    return model


@cache
def service(protocol: Protocol) -> ServiceModel:
    """SQS as botocore knows it, in one protocol."""
    model = Loader().load_service_model("sqs", "service-2")
    return ServiceModel(model if protocol == "json" else _query_model(model), "sqs")


def operations(protocol: Protocol) -> list[str]:
    """The names of its actions."""
    return sorted(service(protocol).operation_names)


def written(operation: OperationModel, given: dict[str, Any], protocol: Protocol) -> bytes:
    """A request's bytes, as botocore serializes it. What its validator does not let pass raises."""
    report = ParamValidator().validate(given, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    asked = create_serializer(protocol, include_validation=False).serialize_to_request(given, operation)
    body = asked["body"] if isinstance(asked["body"], bytes) else urlencode(asked["body"], doseq=True).encode()
    lines = {"Host": "test", **asked["headers"], "Content-Length": str(len(body))}
    head = [f"{asked['method']} /sqs HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    return "\r\n".join(head).encode() + body


def understood(operation: OperationModel, reply: Reply, protocol: Protocol) -> Any:
    """What botocore's parser makes of an answer; a result is one that fits the model."""
    headers = {**reply.headers}
    answer = {"status_code": reply.status, "headers": headers, "body": reply.body}
    found = create_parser(protocol).parse(answer, operation.output_shape if reply.status == 200 else None)
    del found["ResponseMetadata"]
    if reply.status == 200 and operation.output_shape is not None:
        # An empty list of these is left out, by AWS too: a flattened one cannot be told from none.
        found = {**{name: [] for name in operation.output_shape.required_members}, **found}
        report = ParamValidator().validate(found, operation.output_shape)
        assert not report.has_errors(), report.generate_report()
    return found


class Inputs:
    """Strategies for inputs: of the model's shapes, with what makes sense to the server among them. handles: what has been received."""

    def __init__(self, protocol: Protocol) -> None:
        # A form cannot hold half a character; a JSON text can.
        self._text = st.text(st.characters(exclude_categories=() if protocol == "json" else ("Cs",)), max_size=12)
        self.handles = ["x"]
        self._known = st.integers(0, 31).map(lambda at: self.handles[at % len(self.handles)])
        # It takes long to make them: longer than to ask the server.
        self.of_action = {name: self.of(service(protocol).operation_model(name).input_shape) for name in operations(protocol)}

    def _texts(self, name: str) -> st.SearchStrategy[str]:
        if name in ("ReceiptHandle", "TaskHandle"):
            return self._mostly(self._known)
        known: tuple[str, ...] = {
            "QueueUrl": tuple(URL + queue for queue in QUEUES),
            "QueueName": QUEUES,
            "QueueNamePrefix": ("", "q"),
            "SourceArn": tuple(ARN + queue for queue in QUEUES),
            "DestinationArn": tuple(ARN + queue for queue in QUEUES),
            "Id": ("a", "b", "c"),
            "DataType": ("String", "Number", "Binary", "String.x"),
            "StringValue": ("1", "x"),
            "MessageBody": ("x", "{}", "[1]", '"x"', "é", "\x01"),
            "MessageGroupId": ("g", "h"),
            "MessageDeduplicationId": ("d", "e"),
            "Attributes": ("0", "1", "30", "60", "1024", "true", "false", "queue", "messageGroup", LETTERS, "{}", ""),
            "AttributeNames": ("All", "QueueArn", "SentTimestamp", "DelaySeconds"),
            "MessageSystemAttributeNames": ("All", "SenderId"),
            "MessageAttributeNames": ("All", ".*", "n", "n.*"),
            "MessageAttributes": ("n", "m"),
            "MessageSystemAttributes": ("AWSTraceHeader",),
        }.get(name, ())
        return self._mostly(st.sampled_from(known)) if known else self._text

    def _mostly(self, known: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        """What makes sense, and sometimes anything."""
        return st.integers(0, 9).flatmap(lambda die: known if die else self._text)

    def of(self, shape: Shape, name: str = "") -> st.SearchStrategy[Any]:
        """Values of a shape, which the validator lets pass."""
        kind = shape.type_name
        if kind == "structure":
            members = {each: self.of(inner, each) for each, inner in shape.members.items()}
            needed = {each: members.pop(each) for each in shape.required_members}
            if not members:
                return st.fixed_dictionaries(needed)
            # Few at a time: of many, one would be bad, and what the others do would never be seen.
            some = st.lists(st.sampled_from(sorted(members)), max_size=2, unique=True)
            return some.flatmap(lambda chosen: st.fixed_dictionaries({**needed, **{each: members[each] for each in chosen}}))
        if kind == "list" and name == "Entries":
            entry = self.of(shape.member, name)
            return st.lists(entry, min_size=1, max_size=3, unique_by=lambda one: one["Id"]) | st.lists(entry, max_size=11)
        if kind == "list":
            return st.lists(self.of(shape.member, name), max_size=11)
        if kind == "map" and name == "Attributes":
            single = st.sampled_from(SETTINGS).map(lambda pair: dict([pair]))
            return single | st.dictionaries(self._mostly(st.sampled_from(shape.key.enum)), self.of(shape.value, name), max_size=3)
        if kind == "map":
            key, value = self.of(shape.key, name), self.of(shape.value, name)
            return st.dictionaries(key, value, min_size=1, max_size=2) | st.dictionaries(key, value, max_size=12)
        if kind == "string":
            return self._texts(name)
        if kind == "blob":
            return st.binary(max_size=12)
        assert kind in ("integer", "long"), kind
        return st.integers(0, 10) | st.integers(-1, 30) | st.integers()


@cache
def inputs(protocol: Protocol) -> Inputs:
    """The strategies of a protocol."""
    return Inputs(protocol)
