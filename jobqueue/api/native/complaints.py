"""A decoder's error about a body or a query, turned into one of our errors: which field is wrong, and what is allowed there.

Types have their JSON names, since the reader wrote JSON or a URL.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

from jobqueue.engine.events import UNTOLD, Kind
from jobqueue.errors import BadRequest, missing
from jobqueue.model import Outcome

REASON_CHARS_MAX = 400
"""The most that is quoted of a decoder's message, which can repeat what the client sent."""

_WORD_CHARS_MAX = 100
_PATH = re.compile(r"(.*) - at `(?:key in )?\$\.?(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_WORD = re.compile(r"Invalid enum value '?(.*?)'?", re.DOTALL)
_TYPE = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?")
_BOUND = re.compile(r"Expected `(int|float)` [<>]=? .*")
_INDEX = re.compile(r"\[\d+\]")

_NAMES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "datetime": "a time",
    "null": "null",
}
_TIME = "must be an RFC 3339 time with an offset from UTC, such as 2026-11-26T09:00:00Z"


class Place:
    """What is allowed at one place of a body. words: the allowed words, if not any word is; fields: the fields that an object can have."""

    __slots__ = ("fields", "words")

    def __init__(self) -> None:
        self.words: tuple[str, ...] = ()
        self.fields: tuple[str, ...] = ()


@lru_cache(64)
def _places(kind: Any) -> dict[str, Place]:
    """What is allowed at each place of a type, by path, with `[...]` for any item. Made at the first error, so that other requests do not
    pay for it.
    """
    found: dict[str, Place] = {}

    def at(path: str) -> Place:
        return found.setdefault(path, Place())

    def walk(node: inspect.Type, path: str) -> None:
        match node:
            case inspect.EnumType(cls):
                at(path).words = tuple(member.value for member in cls if member not in UNTOLD or cls is not Kind)
            case inspect.LiteralType(values):
                at(path).words = tuple(map(str, values))
            case inspect.UnionType(types):
                for each in types:
                    walk(each, path)
            case inspect.StructType(fields=fields):
                at(path).fields = tuple(field.encode_name for field in fields)
                for field in fields:
                    walk(field.type, f"{path}.{field.encode_name}" if path else field.encode_name)
            case inspect.ListType(item_type=item) | inspect.DictType(value_type=item):
                walk(item, f"{path}[...]")
            case _:
                pass

    walk(inspect.type_info(kind), "")
    return found


def bad_field(error: msgspec.ValidationError, kind: Any = None, *, query: bool = False) -> BadRequest:
    """A decoder's error as one of ours: field and reason. kind: the type that it decodes; query: whether the fields are URL parameters,
    which have no types of their own.
    """
    text = str(error)
    path = ""
    match = _PATH.fullmatch(text)
    if match is not None:
        text, path = match[1], match[2]
    places = {} if kind is None else _places(kind)
    match = _FIELD.fullmatch(text)
    if match is not None:
        return _field(match[1] == "contains unknown", path, match[2], places, "parameter" if query else "field")
    place = places.get(_INDEX.sub("[...]", path))
    reason = _reason(text, path, place, query)
    return BadRequest(path[:200] or None, (reason if path else f"the body {reason}")[:REASON_CHARS_MAX])


def _field(unknown: bool, path: str, name: str, places: dict[str, Place], what: str) -> BadRequest:
    """An unknown field, or a required field that is missing."""
    whole = (f"{path}.{name}" if path else name)[:200]
    if not unknown:
        return missing(whole)
    place = places.get(_INDEX.sub("[...]", path))
    alike = [] if place is None else get_close_matches(name[:_WORD_CHARS_MAX], place.fields, 1)
    return BadRequest(whole or None, "is unknown", f"unknown {what} '{whole}'" + (f"; did you mean '{alike[0]}'?" if alike else ""))


def _reason(text: str, path: str, place: Place | None, query: bool) -> str:
    match = _WORD.fullmatch(text)
    if match is not None and place is not None and place.words:
        return f"must be {_either(place.words)}, not '{match[1][:_WORD_CHARS_MAX]}'{_hint(path, match[1])}"
    if "datetime" in text and "Expected" not in text:
        return _TIME
    match = _BOUND.fullmatch(text)
    if match is not None:
        # Outside the range of the decoder itself. Our own limits are checked later, and are named in their errors.
        return f"must be {_NAMES.get(match[1], match[1])} of a smaller size"
    match = _TYPE.fullmatch(text)
    if match is not None:
        return _type(match[1].split(" | "), match[2], query)
    if text.startswith("Expected `datetime`"):
        return _TIME
    return text[:1].lower() + text[1:]


def _type(expected: list[str], got: str | None, query: bool) -> str:
    """The required type, and the actual one."""
    if query:
        # Every parameter is text, and none is null.
        expected = [name for name in expected if name != "null"]
        if expected == ["bool"]:
            return "must be true or false"
        if expected == ["datetime"]:
            return _TIME
        return f"must be {_either([_NAMES.get(name, name) for name in expected])}"
    must = f"must be {_either([_NAMES.get(name, name) for name in expected])}"
    if "datetime" in expected:
        must = _TIME
    if got is None:
        return must
    return f"{must}, not {'a fraction' if got == 'float' and 'int' in expected else _NAMES.get(got, got)}"


def _either(names: list[str] | tuple[str, ...]) -> str:
    """a, b or c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _hint(path: str, word: str) -> str:
    """A hint if the word would be right in another place."""
    if path.rpartition(".")[2] == "status" and word in list(Outcome):
        return f"; how a job ended is its outcome: use {path.removesuffix('status')}outcome"
    return ""
