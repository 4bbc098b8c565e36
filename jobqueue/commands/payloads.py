"""Payloads, results and errors on the command line: from an argument, a file or stdin, as JSON text or as a plain string."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from jobqueue.commands.options import usage

_check = msgspec.json.Decoder().decode


def as_json(text: bytes, what: str) -> Raw:
    """JSON text, passed on unchanged. Exits with a hint if it is invalid."""
    # A byte order mark can be ignored (RFC 8259, section 8.1), and some programs write one at the start of files.
    stripped = text.removeprefix(BOM_UTF8).strip()
    try:
        _check(stripped)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = "it is empty" if not stripped else f"{error}; for a plain string, give --text"
        usage(f"{what} is not JSON: {hint}")
    return Raw(stripped)


def given(value: str, what: str, text: bool) -> Any:
    """A value from the command line."""
    return value if text else as_json(value.encode("utf-8", "surrogateescape"), what)


def read_payload(argument: str | None, file: str | None, text: bool) -> Any:
    """The payload, from its one source. Without an argument or a file it is read from stdin, unless that is a terminal."""
    if argument is not None and file is not None:
        usage("give the payload as an argument or with --file, not both")
    if argument is not None and argument != "-":
        return given(argument, "the payload", text)
    if file is not None and file != "-":
        data = Path(file).read_bytes()
        what = f"the file {file}"
    else:
        if argument is None and file is None and sys.stdin.isatty():
            usage("there is no payload; give it as an argument, with --file, or on stdin")
        data = sys.stdin.buffer.read()
        what = "stdin"
    if not text:
        return as_json(data, what)
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        usage(f"{what} is not UTF-8: {error}")
