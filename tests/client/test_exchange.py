"""What the clients make of bytes: whole answers, however they come, and a named error for all else."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from jobqueue.client import exchange as module
from jobqueue.client.exchange import (
    HEAD_BYTES_MAX,
    HEADS_KNOWN_MAX,
    LINES_KNOWN_MAX,
    Answer,
    BadAnswer,
    Exchange,
    Lost,
    State,
    request_bytes,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"queues":[]}'
PLAIN = HEAD + b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 13\r\n\r\n" + BODY
CHUNKS = b'6\r\n{"queu\r\n7;x=y\r\nes":[]}\r\n0\r\nTrailer: x\r\n\r\n'


def zipped(answer: bytes, encoding: bytes = b"gzip") -> bytes:
    return HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (encoding, len(answer), answer)


ANSWERS = {
    "plain": (PLAIN, BODY),
    "in lower case": (PLAIN.replace(b"Content-Length", b"content-length"), BODY),
    "without space": (PLAIN.replace(b"Length: ", b"Length:"), BODY),
    "without a reason": (PLAIN.replace(b" OK", b""), BODY),
    "without a body": (b"HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n", b""),
    "without a body and a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 13\r\n\r\n", b""),
    "empty": (HEAD + b"Content-Length: 0\r\n\r\n", b""),
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, BODY),
    "zipped": (zipped(gzip.compress(BODY)), BODY),
    "deflated": (zipped(zlib.compress(BODY), b"Deflate"), BODY),
    "after others that are not the last word": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + PLAIN,
        BODY,
    ),
    "a problem": (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    "of HTTP/1.0, kept": (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
}
LAST = {
    "said to be the last": (PLAIN.replace(b"\r\nDate", b"\r\nConnection: x, Close\r\nDate"), BODY),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
}


def fed(exchange: Exchange, *pieces: bytes) -> Answer | None:
    """What comes with the last piece; before that nothing does."""
    for piece in pieces[:-1]:
        assert exchange.feed(piece) is None
    return exchange.feed(pieces[-1])


def cuts(answer: bytes) -> list[list[bytes]]:
    """In one piece, in two cut anywhere, byte by byte."""
    return [[answer], [bytes([byte]) for byte in answer], *([answer[:at], answer[at:]] for at in range(1, len(answer)))]


@pytest.mark.parametrize(("answer", "body"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_the_same_however_it_comes(answer: bytes, body: bytes) -> None:
    """In one piece, cut in two anywhere, byte by byte, one after the other on one connection."""
    exchange = Exchange()
    for pieces in cuts(answer):
        exchange.begin()
        found = fed(exchange, *pieces)
        assert found is not None
        assert (found.status, found.body) == (int(answer.rpartition(b"HTTP/1.")[2][2:5]), body)
        assert found.headers.get("retry-after") == ("7" if b"Retry" in answer else None)
        assert exchange.reusable


@pytest.mark.parametrize(("answer", "body"), LAST.values(), ids=LAST)
def test_an_answer_may_be_the_last(answer: bytes, body: bytes) -> None:
    """The connection takes no other request after it."""
    for pieces in cuts(answer):
        exchange = Exchange()
        exchange.begin()
        found = fed(exchange, *pieces)
        assert found is not None
        assert found.body == body
        assert not exchange.reusable
        with pytest.raises(Lost, match="before the request was sent"):
            exchange.begin()


@pytest.mark.parametrize("answer", [answer for answer, _ in (ANSWERS | LAST).values()], ids=ANSWERS | LAST)
def test_an_answer_that_is_cut_is_none(answer: bytes) -> None:
    """Wherever the connection ends before its last byte, in the head or in the body, that is said."""
    for at in range(len(answer)):
        exchange = Exchange()
        exchange.begin()
        assert exchange.feed(answer[:at]) is None
        with pytest.raises(BadAnswer, match=r"closed with(in the (head|body) of the|out an) answer"):
            exchange.end()
        assert exchange.state is State.OVER


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    """It is whole then, and only then."""
    for end in (b"", b"Connection: close\r\n"):
        exchange = Exchange()
        exchange.begin()
        assert exchange.feed(HEAD + end + b"\r\n" + BODY[:3]) is None
        assert exchange.feed(BODY[3:]) is None
        assert exchange.end() == Answer(200, exchange.head[1] if exchange.head else {}, BODY)
        assert not exchange.reusable


BAD = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "another version": b"HTTP/2 200\r\n\r\n",
    "HTTP/0.9": b"<html>\r\n",
    "a space too many": PLAIN.replace(b" 200", b"  200"),
    "no status": PLAIN.replace(b"200", b"20x"),
    "a status of one digit more": PLAIN.replace(b"200", b"2000"),
    "lines that end in LF alone": PLAIN.replace(b"\r\n", b"\n"),
    "one line that ends in LF alone": PLAIN.replace(b"OK\r\n", b"OK\n"),
    "a CR within a line": PLAIN.replace(b" GMT", b" GMT\rTransfer-Encoding: chunked"),
    "an LF within a line": PLAIN.replace(b" GMT", b" GMT\nTransfer-Encoding: chunked"),
    "a NUL within a line": PLAIN.replace(b" GMT", b"\0"),
    "a line that goes on with the next": PLAIN.replace(b"\r\nDate", b"\r\n Date"),
    "a space before the colon": PLAIN.replace(b"Date:", b"Date :"),
    "a line without a colon": PLAIN.replace(b"Date:", b"Date"),
    "a line without a name": PLAIN.replace(b"Date:", b":"),
    "a bad line in an answer before": b"HTTP/1.1 103 Early\r\nx\r\n\r\n" + PLAIN,
    "two lengths": PLAIN.replace(b"\r\nDate", b"\r\nContent-Length: 12\r\nDate"),
    "two equal lengths": PLAIN.replace(b"\r\nDate", b"\r\ncontent-length: 13\r\nDate"),
    "a list of lengths": PLAIN.replace(b": 13", b": 13, 13"),
    "a length with a sign": PLAIN.replace(b": 13", b": +13"),
    "a length in other digits": PLAIN.replace(b": 13", b": 1\xb3"),
    "a length that is none": PLAIN.replace(b": 13", b": 0xd"),
    "no length at all": PLAIN.replace(b": 13", b":"),
    "a length of twenty digits": PLAIN.replace(b": 13", b": 99999999999999999999"),
    "a length, and chunks": PLAIN.replace(b"\r\nDate", b"\r\nTransfer-Encoding: chunked\r\nDate"),
    "chunks within another coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body in a 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}",
    "chunks in a 204": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another protocol to come": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "a size that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    "a negative size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a size that ends in LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\n{\r\n0\r\n\r\n",
    "a size of nine digits": HEAD + b"Transfer-Encoding: chunked\r\n\r\n000000001\r\n",
    "a chunk longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "a trailer that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n",
    "an unknown encoding": zipped(BODY, b"br"),
    "an encoding that is not kept": zipped(BODY),
    "an encoding that is cut": zipped(gzip.compress(BODY)[:-3]),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
@pytest.mark.parametrize("learned", [b"", PLAIN], ids=["at first", "after a good one"])
def test_what_is_no_answer_is_refused(answer: bytes, learned: bytes) -> None:
    """By a named error, however it comes, also after an answer whose lines it shares; the connection is of no use any more."""
    for pieces in cuts(answer):
        exchange = Exchange()
        if learned:
            exchange.begin()
            assert exchange.feed(learned) is not None
        exchange.begin()
        with pytest.raises(BadAnswer):
            fed(exchange, *pieces)
        assert exchange.state is State.OVER
        assert exchange.end() is None


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: 0123456789\r\n"),
        (b"HTTP/1.1 200 ", b"OK"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nX: 0123456789\r\n\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 0123456789\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
    ],
    ids=["header lines", "a status line", "answers before the last", "trailers", "a line between chunks"],
)
def test_what_is_beside_a_body_has_a_bound(start: bytes, piece: bytes) -> None:
    """One that goes on and on is refused, not collected."""
    exchange = Exchange()
    exchange.begin()
    exchange.feed(start)
    with pytest.raises(BadAnswer):
        fed(exchange, *[piece * 100] * (HEAD_BYTES_MAX // len(piece) // 100 + 1))


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 101\r\n\r\n",
        HEAD + b"\r\n" + b"x" * 101,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 101,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101,
        zipped(gzip.compress(b"x" * 101)),
    ],
    ids=["by its length", "up to the end", "small chunks", "a large chunk", "compressed"],
)
def test_a_body_has_a_bound(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever way it is sent; what is announced too large is not waited for."""
    monkeypatch.setattr(module, "BODY_BYTES_MAX", 100)
    exchange = Exchange()
    exchange.begin()
    with pytest.raises(BadAnswer, match="more than 100 bytes"):
        exchange.feed(answer)


def test_what_nobody_asked_for_is_nobodys_answer() -> None:
    """Neither before a request nor behind an answer: the connection is closed."""
    for unasked in (b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", b"?"):
        exchange = Exchange()
        with pytest.raises(BadAnswer, match="nobody asked for"):
            exchange.feed(unasked)
        assert not exchange.reusable
    for answer, body in ANSWERS.values():
        exchange = Exchange()
        exchange.begin()
        found = exchange.feed(answer + b"H")
        assert found is not None
        assert found.body == body
        assert not exchange.reusable


def test_noise_is_never_an_answer() -> None:
    """Of answers with some bytes changed, each is either read as it stands or refused by a BadAnswer, however it is cut."""
    drawn = random.Random(14)
    answers = [answer for answer, _ in (ANSWERS | LAST).values()]
    for _ in range(1_000):
        noise = bytearray(drawn.choice(answers))
        for _ in range(drawn.randint(1, 3)):
            noise[drawn.randrange(len(noise))] = drawn.choice(b"\r\n\0: ,;x10\xff")
        found = []
        for pieces in ([bytes(noise)], [bytes([byte]) for byte in noise]):
            exchange = Exchange()
            exchange.begin()
            answer = None
            try:
                for piece in pieces:
                    answer = answer or exchange.feed(piece)
                answer = answer or exchange.end()
            except BadAnswer:
                pass
            found.append(answer)
        assert found[0] == found[1], bytes(noise)


def test_lines_that_are_known_are_bounded() -> None:
    """A server whose lines differ each time is not remembered without end, and long lines not at all."""
    for at in range(2 * LINES_KNOWN_MAX):
        exchange = Exchange()
        exchange.begin()
        assert exchange.feed(b"HTTP/1.1 204 None\r\nX-%d: y\r\nLocation: /%d\r\nLong: %s\r\n\r\n" % (at, at, b"x" * 200)) is not None
    assert 0 < len(module._known_lines) <= LINES_KNOWN_MAX
    assert not [line for line in module._known_lines if line.startswith((b"Location", b"Long"))]


def test_a_connect_has_no_body() -> None:
    """What a proxy says of lengths or of closing means nothing after it has connected; if it does not, its answer has a body."""
    for answer in (b"HTTP/1.0 200 Connection established\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"):
        exchange = Exchange()
        exchange.begin(connect=True)
        found = exchange.feed(answer)
        assert found is not None
        assert found.status == 200
        exchange.begin()
        assert exchange.feed(PLAIN) is not None
    exchange = Exchange()
    exchange.begin(connect=True)
    assert exchange.feed(b"HTTP/1.1 407 Who\r\nContent-Length: 2\r\n\r\n") is None
    assert exchange.feed(b"no") is not None


def test_a_stream_is_taken_as_it_comes() -> None:
    """Each piece once, without a bound on all of them; its end is that of the answer."""
    exchange = Exchange()
    exchange.begin(streaming=True)
    assert exchange.feed(HEAD) is None
    assert exchange.head is None
    assert exchange.feed(b"Transfer-Encoding: chunked\r\n\r\n") is None
    assert exchange.head is not None
    assert exchange.head[0] == 200
    taken = []
    for at in range(0, len(CHUNKS), 3):
        answer = exchange.feed(CHUNKS[at : at + 3])
        taken.append(exchange.take() if answer is None else answer.body)
    assert b"".join(taken) == BODY
    assert exchange.untaken == 0
    exchange = Exchange()
    exchange.begin(streaming=True)
    with pytest.raises(BadAnswer, match="encoded"):
        exchange.feed(zipped(gzip.compress(BODY)))


def test_an_answer_to_half_a_request_is_the_last() -> None:
    """What is left of the request would stand where the next one should."""
    for spoilt_first in (True, False):
        exchange = Exchange()
        exchange.begin()
        if spoilt_first:
            exchange.spoil()
        assert exchange.feed(PLAIN) is not None
        if not spoilt_first:
            exchange.spoil()
        assert not exchange.reusable


def test_a_request_is_written_with_its_length() -> None:
    """Wherever there may be a body; lines and target as they are given."""
    assert request_bytes("GET", "/queues", "Host: a\r\n", None) == b"GET /queues HTTP/1.1\r\nHost: a\r\n\r\n"
    assert request_bytes("POST", "/x", "Host: a\r\n", b"{}") == b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    assert request_bytes("DELETE", "/x", "", None) == b"DELETE /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    assert repr(Exchange()) == "<Exchange waits for nothing>"


def test_a_head_that_came_before_begins_a_stream_as_well() -> None:
    """What is known of a head is used only for an answer that is returned as a whole."""
    exchange = Exchange()
    for _ in range(2):
        exchange.begin()
        assert exchange.feed(PLAIN) is not None
    exchange.begin(streaming=True)
    assert exchange.feed(PLAIN[:-3]) is None
    assert exchange.head is not None
    assert exchange.take() == BODY[:-3]
    assert exchange.feed(PLAIN[-3:]) is not None


def test_heads_that_come_once_do_not_fill_the_memory() -> None:
    """A bounded number of heads is kept, and none that names the job it is about."""
    module._known_heads.clear()
    exchange = Exchange()
    for number in range(2 * HEADS_KNOWN_MAX):
        for line in (b"X-Number", b"Location"):
            exchange.begin()
            assert exchange.feed(HEAD + b"%b: %d\r\nContent-Length: 13\r\n\r\n" % (line, number) + BODY) is not None
        assert 0 < len(module._known_heads) <= HEADS_KNOWN_MAX
    assert not any(b"Location" in head for head in module._known_heads)
