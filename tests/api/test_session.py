"""POST and DELETE /session: one sign-in of a browser, which only this server's own pages can use."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import admin, digest_of, grant
from jobqueue.api.access.session import TOKEN_BYTES_MAX
from jobqueue.api.routes import Scope

from .conftest import Serve
from .harness import Api, Reply, assert_problem, request, until

TOKEN = "0123456789abcdef"
HOME = {"Origin": "http://test", "Host": "test", "Sec-Fetch-Site": "same-origin"}
"""What a browser says of a page of this server."""

COOKIE = re.compile(r"(jobqueue-session-[0-9a-f]{16})=([A-Za-z0-9_-]+); HttpOnly; SameSite=Strict")


class Halves(NamedTuple):
    """What the page has of a session, and what the browser sends with it."""

    session: str
    cookie: str

    @property
    def headers(self) -> dict[str, str]:
        """Both, as a request brings them."""
        return {"Jobqueue-Session": self.session, "Cookie": self.cookie}


def halves(reply: Reply) -> Halves:
    """Those that the answer to a sign-in gives."""
    assert reply.status == 200, reply
    match = COOKIE.fullmatch(reply.headers["set-cookie"])
    assert match is not None, reply.headers
    return Halves(reply.json["session"], f"{match[1]}={match[2]}")


async def signed_in(api: Api, token: str = TOKEN, **headers: str) -> Halves:
    """A session."""
    return halves(await api.send("POST", "/session", None, {"Authorization": f"Bearer {token}", **HOME, **headers}))


@pytest.fixture
async def guarded(serve: Serve) -> Api:
    """A server that asks for TOKEN, and a client that has none."""
    return await serve(token=TOKEN, send_token=False)


async def test_both_halves_are_the_token(guarded: Api) -> None:
    """With them a request is served as with the token, what reads and what changes."""
    session = await signed_in(guarded)
    reply = await guarded.send("GET", "/token", None, session.headers)
    assert (reply.status, reply.json["name"]) == (200, "--token")
    assert (await guarded.send("POST", "/jobs/enqueue", b'{"payload":1}', {**session.headers, **HOME})).status == 201
    assert (await guarded.send("DELETE", "/queues/none", None, session.headers)).status == 404


async def test_neither_half_is_worth_anything_alone(guarded: Api) -> None:
    """Nor with the half of another session, nor one that was changed; and neither has a part of the token in it."""
    one, two = await signed_in(guarded), await signed_in(guarded)
    assert one.session != two.session
    for text in (*one, *two):
        assert TOKEN not in text
    name, mixed = one.cookie.partition("=")[0], two.cookie.partition("=")[2]
    wrong = [
        {"Jobqueue-Session": one.session},
        {"Cookie": one.cookie},
        {"Jobqueue-Session": one.session, "Cookie": two.cookie},
        {"Jobqueue-Session": one.session, "Cookie": f"{name}={mixed}"},
        {"Jobqueue-Session": one.session[:-2], "Cookie": one.cookie},
        {"Jobqueue-Session": one.session, "Cookie": f"{name}="},
        {"Jobqueue-Session": one.session, "Cookie": f"{name}=é!"},
        {"Jobqueue-Session": TOKEN, "Cookie": one.cookie},
        {"Jobqueue-Session": "", "Cookie": one.cookie},
        {"Jobqueue-Session": f"{one.session}.x", "Cookie": one.cookie},
    ]
    for headers in wrong:
        assert_problem(await guarded.send("GET", "/token", None, headers), 401, "unauthorized")


async def test_other_cookies_do_not_matter(guarded: Api) -> None:
    """Cookies of other servers of the host come along, and sessions of other ports."""
    session, other = await signed_in(guarded), await signed_in(guarded)
    for cookie in (f"a=b; {other.cookie}; {session.cookie}", f"{session.cookie};x", f"=; ;;{session.cookie}; y=="):
        assert (await guarded.send("GET", "/token", None, {**session.headers, "Cookie": cookie})).status == 200


async def test_a_token_that_is_sent_itself_comes_first(guarded: Api) -> None:
    """A wrong one is not made good by a session."""
    session = await signed_in(guarded)
    assert_problem(await guarded.send("GET", "/token", None, {**session.headers, "Authorization": "Bearer wrong"}), 401, "unauthorized")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}])
async def test_only_a_token_signs_in(guarded: Api, headers: dict[str, str]) -> None:
    """Anything else sets no cookie."""
    reply = await guarded.send("POST", "/session", None, headers)
    assert_problem(reply, 401, "unauthorized")
    assert "set-cookie" not in reply.headers


async def test_a_session_makes_no_session(guarded: Api) -> None:
    """It is the token that signs in."""
    session = await signed_in(guarded)
    reply = await guarded.send("POST", "/session", None, session.headers)
    assert_problem(reply, 400, "bad_request", "Authorization")
    assert "set-cookie" not in reply.headers


async def test_a_token_too_long_for_a_cookie_cannot_sign_in(serve: Serve) -> None:
    """The longest that fits can."""
    access = Access(Keys([admin("x" * TOKEN_BYTES_MAX), admin("x" * (TOKEN_BYTES_MAX + 1))]))
    api = await serve(access=access)
    longest = await signed_in(api, "x" * TOKEN_BYTES_MAX)
    assert len(longest.cookie) < 4_096
    assert (await api.send("GET", "/token", None, longest.headers)).status == 200
    reply = await api.send("POST", "/session", None, {"Authorization": f"Bearer {'x' * (TOKEN_BYTES_MAX + 1)}"})
    assert_problem(reply, 400, "bad_request", "Authorization")


@pytest.mark.parametrize("token", ["tökén-\U0001f511", "a", "jq_" + "é" * 300])
async def test_a_token_need_not_be_ascii(serve: Serve, token: str) -> None:
    """Whatever its bytes are, both halves make it again."""
    api = await serve(access=Access(Keys([admin(token)])))
    wire = await api.site.wire()
    session = halves(await wire.ask(request("POST", "/session", None, f"Authorization: Bearer {token}")))
    assert (await api.send("GET", "/token", None, session.headers)).status == 200


async def test_the_cookie_ends_with_the_browsers_session_and_stays_in_its_folder(guarded: Api) -> None:
    """No Expires, no Max-Age, no Domain, and no Path: it holds where the browser found the server, also behind a prefix."""
    reply = await guarded.send("POST", "/session", None, {"Authorization": f"Bearer {TOKEN}", **HOME})
    assert COOKIE.fullmatch(reply.headers["set-cookie"])
    assert reply.headers["cache-control"] == "no-store"


async def test_over_tls_the_cookie_is_secure(guarded: Api) -> None:
    """A proxy may end TLS: the page's origin says so."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://test", "Host": "test"}
    reply = await guarded.send("POST", "/session", None, headers)
    assert reply.headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict; Secure")


async def test_signing_out_drops_the_cookie(guarded: Api) -> None:
    """That of the session that it is sent with, by the same name and attributes."""
    session = await signed_in(guarded)
    reply = await guarded.send("DELETE", "/session", None, {**session.headers, **HOME})
    name = session.cookie.partition("=")[0]
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["set-cookie"] == f"{name}=; HttpOnly; SameSite=Strict; Max-Age=0"


async def test_signing_in_again_replaces_the_session_from_before(guarded: Api) -> None:
    """The cookie takes its place, so a browser never has more than one for a server; the old half is worth nothing with it."""
    before = await signed_in(guarded)
    after = await signed_in(guarded, **{"Jobqueue-Session": before.session})
    assert after.cookie.partition("=")[0] == before.cookie.partition("=")[0]
    assert after != before
    assert (await guarded.send("GET", "/token", None, after.headers)).status == 200
    stale = {**after.headers, "Jobqueue-Session": before.session}
    assert_problem(await guarded.send("GET", "/token", None, stale), 401, "unauthorized")


# Pages of others.

FOREIGN = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "another port": {"Sec-Fetch-Site": "same-site"},
    "typed in by hand": {"Sec-Fetch-Site": "none"},
    "another origin": {"Origin": "http://elsewhere.example"},
    "another port, by its origin": {"Origin": "http://test:81"},
    "no origin at all": {"Origin": "null"},
    "two that disagree": {"Origin": "http://test", "Sec-Fetch-Site": "same-site"},
}


@pytest.mark.parametrize("case", sorted(FOREIGN))
@pytest.mark.parametrize(("method", "path"), [("GET", "/jobs"), ("GET", "/metrics"), ("POST", "/jobs/enqueue"), ("DELETE", "/session")])
async def test_no_page_of_another_origin_uses_a_session(guarded: Api, case: str, method: str, path: str) -> None:
    """403 for what reads too, and nothing changes, though both halves are right."""
    session = await signed_in(guarded)
    before = guarded.state()
    body = b'{"payload":1}' if method == "POST" else None
    reply = await guarded.send(method, path, body, {**session.headers, "Host": "test", **FOREIGN[case]})
    assert (reply.status, reply.json["code"], reply.json["field"] in ("Origin", "Sec-Fetch-Site")) == (403, "forbidden", True)
    assert "set-cookie" not in reply.headers
    assert guarded.state() == before


@pytest.mark.parametrize("case", sorted(set(FOREIGN) - {"typed in by hand", "two that disagree"}))
async def test_no_page_of_another_origin_signs_a_browser_in(guarded: Api, case: str) -> None:
    """With a right token either."""
    reply = await guarded.send("POST", "/session", None, {"Authorization": f"Bearer {TOKEN}", "Host": "test", **FOREIGN[case]})
    assert_problem(reply, 403, "forbidden", "Origin")
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_form_can_send_uses_no_session(guarded: Api, kind: str) -> None:
    """A browser sends the cookie with it where it comes from this site, and never the header."""
    session = await signed_in(guarded)
    reply = await guarded.send("POST", "/jobs/enqueue", b'{"payload":1}', {"Cookie": session.cookie, "Content-Type": kind})
    assert_problem(reply, 401, "unauthorized")


async def test_no_other_origin_is_allowed_the_header(guarded: Api) -> None:
    """A browser asks first whether a page of another origin may send it, and is not answered that it may."""
    asked = {
        "Origin": "http://elsewhere.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "jobqueue-session",
    }
    reply = await guarded.send("OPTIONS", "/jobs", None, asked)
    assert reply.status == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_an_origin_that_is_allowed_may_use_a_session(serve: Serve) -> None:
    """Behind a proxy that changes Host the page's own origin has to be listed."""
    access = Access(Keys([admin(TOKEN)]), origins={"https://queue.example.org"})
    api = await serve(access=access)
    home = {"Origin": "https://queue.example.org", "Host": "internal", "Sec-Fetch-Site": "same-origin"}
    reply = await api.send("POST", "/session", None, {"Authorization": f"Bearer {TOKEN}", **home})
    match = re.fullmatch(r"([^=]+=[^;]+); HttpOnly; SameSite=Strict; Secure", reply.headers["set-cookie"])
    assert match is not None
    session = Halves(reply.json["session"], match[1])
    assert (await api.send("POST", "/jobs/enqueue", b'{"payload":1}', {**session.headers, **home})).status == 201


# Tokens and servers that change.


async def test_a_removed_token_ends_its_sessions(serve: Serve) -> None:
    """At once, those that are held too; one of another token goes on."""
    keeper, old = (grant(name, digest_of(name), [Scope.ADMIN]) for name in ("keeper", "old"))
    known = Keys([keeper, old])
    api = await serve(access=Access(known))
    ended, goes_on = await signed_in(api, "old"), await signed_in(api, "keeper")
    wire = await api.site.wire()
    lines = [f"{name}: {value}" for name, value in ended.headers.items()]
    wire.send(request("POST", "/jobs/dequeue", b'{"wait":50}', *lines))
    await until(lambda: api.backend.totals().waiters == 1)
    known.replace([keeper])
    assert_problem(await wire.reply(), 401, "unauthorized")
    assert_problem(await api.send("GET", "/token", None, ended.headers), 401, "unauthorized")
    assert (await api.send("GET", "/token", None, goes_on.headers)).status == 200


async def test_a_session_may_no_more_than_its_token(serve: Serve) -> None:
    """Scopes and queues are those of the token."""
    looker = grant("looker", digest_of("looker"), [Scope.READ], ["mail*"])
    api = await serve(access=Access(Keys([looker])))
    session = await signed_in(api, "looker")
    assert_problem(await api.send("POST", "/jobs/enqueue", b'{"payload":1}', {**session.headers, **HOME}), 403, "forbidden")
    assert_problem(await api.send("GET", "/queues/bills", None, session.headers), 403, "forbidden", "queue")


async def test_every_server_that_knows_the_token_knows_the_session(serve: Serve, guarded: Api) -> None:
    """Servers keep nothing of it, so another one, or another process, serves it too; one without the token does not."""
    session = await signed_in(guarded)
    for token, status in ((TOKEN, 200), ("another", 401)):
        other = await serve(token=token, send_token=False)
        assert (await other.send("GET", "/token", None, session.headers)).status == status


async def test_without_a_token_set_nobody_is_asked(api: Api) -> None:
    """And a session that is sent does not matter."""
    assert (await api.send("GET", "/jobs", None, {"Jobqueue-Session": "x"})).status == 200
