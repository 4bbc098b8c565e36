"""The Query protocol: the action and its input as a form's parameters, its result as XML.

Lists and maps are flattened into names: `AttributeName.1`, `Attribute.1.Name`, `SendMessageBatchRequestEntry.2.MessageBody`.
No XML is ever read here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Raw, Struct, inspect

from jobqueue.api.dialects.sqs.bodies import fit
from jobqueue.api.dialects.sqs.call import Spoken
from jobqueue.api.dialects.sqs.errors import SqsError, unreadable
from jobqueue.api.dialects.sqs.json import refusal
from jobqueue.http.answers import Answer

MEDIA = b"text/xml"
NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
PARAMETERS_MAX = 4_096
"""The most parameters of one request. A batch of ten messages with ten attributes each has about 400."""

_SINGULAR = {
    "AWSAccountIds": "AWSAccountId",
    "Actions": "ActionName",
    "AttributeNames": "AttributeName",
    "Attributes": "Attribute",
    "MessageAttributeNames": "MessageAttributeName",
    "MessageAttributes": "MessageAttribute",
    "MessageSystemAttributeNames": "MessageSystemAttributeName",
    "MessageSystemAttributes": "MessageSystemAttribute",
    "QueueUrls": "QueueUrl",
    "TagKeys": "TagKey",
    "Tags": "Tag",
    "queueUrls": "QueueUrl",
    "tags": "Tag",
}
"""The names of lists of texts, and of maps, in parameters and elements, by their fields. Lists of structures have the names of the
structures.
"""

_LONG_CHARS = 65_536
_DEPTH_MAX = 8
_INDEX_DIGITS_MAX = 9

Tree = dict[str, Any]


def pairs_of(text: str) -> Sequence[tuple[str, str]]:
    """The parameters of a form or a query. Raises SqsError."""
    try:
        if len(text) < _LONG_CHARS:
            return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
        if text.count("&") < PARAMETERS_MAX:
            parts = (part.partition("=") for part in text.split("&") if part)
            return [(_undone(name), _undone(value)) for name, _, value in parts]
    except UnicodeDecodeError:
        raise unreadable("The parameters are not UTF-8 once their percent-encoding is undone.") from None
    except ValueError:
        pass
    raise unreadable(f"The request has more than {PARAMETERS_MAX} parameters.")


def _undone(text: str) -> str:
    """A text with its percent-encoding decoded. Raises UnicodeDecodeError, also for a % that encodes nothing, which only short texts can
    contain.

    The standard library decodes them one by one, which takes half a second for 4 MiB and blocks all other requests. The codec of Python's
    own escapes takes 20 ms.
    """
    octets = text.replace("+", " ").encode()
    if b"%" in octets:
        octets = octets.replace(b"\\", b"\\x5c").replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")
    return octets.decode()


# Decoding parameters to inputs.


def tree_of(pairs: Iterable[tuple[str, str]]) -> Tree:
    """Parameters as a tree by the parts of their names; the leaves are texts."""
    tree: Tree = {}
    for name, value in pairs:
        *path, last = name.split(".", _DEPTH_MAX)
        branch = tree
        for part in path:
            inner = branch.get(part)
            if type(inner) is not dict:
                inner = branch[part] = {}
            branch = inner
        branch[last] = value
    return tree


class Decoder:
    """Decodes one action's input from its parameters."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._read = _reader(inspect.type_info(kind), "")

    def __call__(self, pairs: Iterable[tuple[str, str]]) -> Any:
        """The input. Raises SqsError."""
        try:
            return msgspec.convert(self._read(tree_of(pairs)), self._kind, strict=False)
        except (msgspec.ValidationError, ValueError) as error:
            raise refusal(error) from None


def _as_it_is(value: Any) -> Any:
    return value


def _reader(node: inspect.Type, field: str) -> Callable[[Any], Any]:
    """A function that turns a branch of parameters into what msgspec can convert to a type, which is not a union. field: the field of that
    type.
    """
    match node:
        case inspect.StructType(fields=fields):
            known = [(each.encode_name, _names(each), _reader(each.type, each.encode_name)) for each in fields]
            return lambda branch: _structure(branch, known)
        case inspect.ListType(item_type=item):
            read = _reader(item, field)
            return lambda branch: [read(value) for value in _in_order(branch)]
        case inspect.DictType(value_type=inner):
            read = _reader(inner, field)
            key, value = _entry_names(field)
            return lambda branch: _map(branch, key, value, read)
        case _:
            return _as_it_is


def _structure(branch: Any, known: list[tuple[str, tuple[str, ...], Callable[[Any], Any]]]) -> Any:
    if type(branch) is not dict:
        return branch
    found = {}
    for field, names, read in known:
        for name in names:
            if name in branch:
                found[field] = read(branch[name])
                break
    return found


def _names(field: inspect.Field) -> tuple[str, ...]:
    """The names that a field can have: the model's name, and its own."""
    name = field.encode_name
    node = field.type
    if isinstance(node, inspect.ListType) and isinstance(node.item_type, inspect.StructType):
        return node.item_type.cls.__name__, name
    return tuple(dict.fromkeys((_SINGULAR.get(name, name), name)))


def _entry_names(field: str) -> tuple[str, str]:
    return ("Key", "Value") if field in ("Tags", "tags") else ("Name", "Value")


def _in_order(branch: Any) -> list[Any]:
    """The items of a flattened list, ordered by their numbers. Some SDKs write an empty list as its name alone."""
    if type(branch) is not dict:
        return [branch] if branch else []
    numbers = sorted(int(number) for number in branch if number.isascii() and number.isdigit() and len(number) <= _INDEX_DIGITS_MAX)
    return [branch[str(number)] for number in numbers if str(number) in branch]


def _map(branch: Any, key: str, value: str, read: Callable[[Any], Any]) -> dict[str, Any]:
    found = {}
    for entry in _in_order(branch):
        if type(entry) is dict and type(entry.get(key)) is str:
            found[entry[key]] = read(entry.get(value, ""))
    return found


# Encoding results as XML.


def escaped(text: str) -> str:
    """A text as the content of an element. Characters that XML does not allow become U+FFFD, and CR becomes a reference, since parsers
    would turn it into LF.
    """
    text = fit(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#xD;") if "\r" in text else text


@cache
def _fields(kind: type[Struct]) -> list[tuple[str, str]]:
    """A structure's fields, and the names of their elements."""
    return [(field.name, field.encode_name) for field in msgspec.structs.fields(kind)]


def _write(parts: list[str], name: str, value: Any) -> None:
    """Append the elements of a field."""
    if value is UNSET or value is None:
        return
    if isinstance(value, str):
        parts.append(f"<{name}>{escaped(value)}</{name}>")
    elif isinstance(value, list | tuple):
        for item in value:
            _write(parts, type(item).__name__ if isinstance(item, Struct) else _SINGULAR.get(name, name), item)
    elif isinstance(value, dict):
        key_name, value_name = _entry_names(name)
        name = _SINGULAR.get(name, name)
        for key, inner in value.items():
            parts.append(f"<{name}><{key_name}>{escaped(key)}</{key_name}>")
            _write(parts, value_name, inner)
            parts.append(f"</{name}>")
    elif isinstance(value, Struct):
        parts.append(f"<{name}>")
        _write_fields(parts, value)
        parts.append(f"</{name}>")
    else:
        parts.append(f"<{name}>{_simple(value)}</{name}>")


def _write_fields(parts: list[str], value: Struct) -> None:
    for field, name in _fields(type(value)):
        _write(parts, name, getattr(value, field))


def _simple(value: Any) -> str:
    if isinstance(value, Raw):
        return escaped(str(msgspec.json.decode(value)))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def answer(name: str, result: Any, spoken: Spoken) -> Answer:
    """The answer of the action with this name. result: None for an action without one."""
    parts = [f'<?xml version="1.0"?><{name}Response xmlns="{NAMESPACE}">']
    if result is not None:
        parts.append(f"<{name}Result>")
        _write_fields(parts, result)
        parts.append(f"</{name}Result>")
    parts.append(f"<ResponseMetadata><RequestId>{spoken.id}</RequestId></ResponseMetadata></{name}Response>")
    return Answer(200, "".join(parts).encode(), MEDIA, b"x-amzn-RequestId: %b\r\n" % spoken.id.encode())


def failure(error: SqsError, spoken: Spoken) -> Answer:
    """The answer to a call that failed."""
    body = (
        f'<?xml version="1.0"?><ErrorResponse xmlns="{NAMESPACE}"><Error><Type>{"Sender" if error.sender else "Receiver"}</Type>'
        f"<Code>{escaped(error.code)}</Code><Message>{escaped(error.message)}</Message><Detail/></Error>"
        f"<RequestId>{spoken.id}</RequestId></ErrorResponse>"
    )
    return Answer(error.status, body.encode(), MEDIA, b"x-amzn-RequestId: %b\r\n" % spoken.id.encode())
