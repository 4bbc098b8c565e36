"""The token file: one line for each token, with its SHA-256 in place of the token itself.

    # name  scopes           queues         sha256
    ci      enqueue,read     mail.*,bills   3b7e…
    ops     admin            *              90c1…

Words are separated by spaces or tabs, lists by commas; `#` begins a comment line. The server reads the file at start and at SIGHUP; this
module adds and removes lines.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from jobqueue.api.access.grants import SCOPES, Grant, Scope, digest_of, grant

TOKEN_PREFIX = "jq_"
"""The prefix of every token, by which scanners for leaked secrets can recognise it."""

TOKEN_BYTES = 32
"""Random bytes of a token: 256 bits, so that a fast hash is safe to keep."""

FILE_BYTES_MAX = 1 << 20
"""About 8,000 tokens."""

EVERY_QUEUE = "*"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_PATTERN = re.compile(r"[A-Za-z0-9._:*?\[\]!-]{1,80}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEADING = "# name  scopes  queues  sha256 of the token\n"


class BadTokens(Exception):
    """A token file, or a request to change one, that cannot be used. str() is one line: where and why."""


def read(path: str) -> list[Grant]:
    """The tokens of a file. Raises BadTokens, which names the file and the line."""
    return [found for _, found in _parsed(path, _text(path)) if found is not None]


def fresh(name: str, scopes: Iterable[str], queues: Iterable[str]) -> tuple[str, str]:
    """A new token, and its line for the file. Raises BadTokens."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    return token, line_of(name, scopes, queues, token)


def make(path: str, name: str, scopes: Iterable[str], queues: Iterable[str]) -> tuple[str, str]:
    """A new token, and its line, which is added to the file. The file is created if necessary. Raises BadTokens."""
    token, line = fresh(name, scopes, queues)
    with _locked(path):
        text = _text(path) if Path(path).exists() else _HEADING
        if any(found is not None and found.name == name for _, found in _parsed(path, text)):
            raise BadTokens(f"{path}: a token named {name} already exists; revoke it first, or choose another name")
        _write(path, text + "\n" * (text[-1:] not in ("", "\n")) + line + "\n")
    return token, line


def revoke(path: str, name: str) -> None:
    """Remove a token's line from the file. Raises BadTokens."""
    with _locked(path):
        parsed = list(_parsed(path, _text(path)))
        kept = [line for line, found in parsed if found is None or found.name != name]
        if len(kept) == len(parsed):
            raise BadTokens(f"{path}: there is no token named {name[:64]!r}")
        _write(path, "".join(f"{line}\n" for line in kept))


def line_of(name: str, scopes: Iterable[str], queues: Iterable[str], token: str) -> str:
    """A token's line. Raises BadTokens."""
    # Duplicates are harmless, but would stay in the file for ever.
    words = (name, ",".join(dict.fromkeys(scopes)), ",".join(dict.fromkeys(queues)) or EVERY_QUEUE)
    try:
        _grant((*words, digest_of(token).hex()))
    except ValueError as reason:
        raise BadTokens(str(reason)) from None
    return "  ".join((*words, digest_of(token).hex()))


def _grant(words: tuple[str, ...]) -> Grant:
    """What a line permits. Raises ValueError with the reason."""
    if len(words) != 4:
        raise ValueError(f"has {len(words)} words; name, scopes, queues and sha256 are needed")
    name, scopes, queues, digest = words
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"invalid token name {name[:80]!r}: use 1 to 64 of A-Z a-z 0-9 . _ : -, beginning with a letter or a digit")
    for scope in scopes.split(","):
        if scope not in SCOPES:
            raise ValueError(f"unknown scope {scope[:80]!r}: use {', '.join(SCOPES)}")
    patterns = queues.split(",")
    for pattern in patterns:
        if _PATTERN.fullmatch(pattern) is None:
            raise ValueError(f"{pattern[:80]!r} is not a pattern of queue names, such as mail.*")
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError("the last word is not a SHA-256; it has 64 digits, 0-9 and a-f")
    # A pattern that matches every name is dropped, so that it costs nothing.
    held = () if EVERY_QUEUE in patterns else tuple(patterns)
    return grant(name, bytes.fromhex(digest), map(Scope, scopes.split(",")), held)


def _parsed(path: str, text: str) -> Iterator[tuple[str, Grant | None]]:
    """Each line and what it permits, None for comments and empty lines. Raises BadTokens."""
    names: dict[str, int] = {}
    digests: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = tuple(line.split())
        if not words or words[0].startswith("#"):
            yield line, None
            continue
        try:
            found = _grant(words)
        except ValueError as reason:
            raise BadTokens(f"{path}, line {number}: {reason}") from None
        if found.name in names or found.digest in digests:
            other = names.get(found.name) or digests[found.digest]
            raise BadTokens(f"{path}, line {number}: has the {'name' if found.name in names else 'token'} of line {other}")
        names[found.name] = digests[found.digest] = number
        yield line, found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadTokens(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadTokens(f"{path}: is not UTF-8") from None
    if len(text) > FILE_BYTES_MAX:
        raise BadTokens(f"{path}: is larger than {FILE_BYTES_MAX} bytes")
    return text


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """One writer at a time: two commands must not undo each other's changes. The folder is locked, since the file itself is replaced."""
    import fcntl

    try:
        folder = os.open(Path(path).resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise BadTokens(f"{path}: its folder cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: str, text: str) -> None:
    """Replace the file in one step, so that a server never reads half of it; owner and permissions stay the same. Raises BadTokens."""
    real = Path(path).resolve()
    try:
        # mkstemp makes it readable only by its owner.
        handle, fresh = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
        try:
            with open(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(handle)
                if real.exists():
                    old = real.stat()
                    os.fchmod(handle, old.st_mode & 0o7777)
                    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(handle, old.st_uid, old.st_gid)
            os.replace(fresh, real)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise BadTokens(f"{path}: cannot be written: {error.strerror}") from None
