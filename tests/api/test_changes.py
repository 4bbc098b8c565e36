"""GET /queues?changed_since: who follows many queues is sent those that changed."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.api import changes

from .conftest import Serve
from .harness import Api, assert_problem
from .test_access import ask, fleet


def names(found: dict[str, Any]) -> list[str]:
    """Of the queues answered."""
    return [queue["name"] for queue in found["queues"]]


async def since(api: Api, token: str = "0", more: str = "") -> dict[str, Any]:
    """What changed."""
    found: dict[str, Any] = (await api.get(f"/queues?changed_since={token}{more}")).json
    return found


async def test_at_first_every_queue_is_sent(api: Api) -> None:
    """As a list of all has them, with what to ask for next."""
    for name in ("b", "a"):
        await api.put(f"/queues/{name}")
    listed = (await api.get("/queues")).json
    found = await since(api)
    assert found == listed | {"gone": [], "whole": True, "changes": found["changes"]}
    assert listed.keys() == {"queues", "cursor"}


async def test_only_what_changed_is_sent(api: Api) -> None:
    """Jobs, a pause, a policy and a new queue are changes; nothing is where nothing happened."""
    for name in ("a", "b", "c"):
        await api.put(f"/queues/{name}")
    first = await since(api)
    still = await since(api, first["changes"])
    assert still == {"queues": [], "cursor": None, "gone": [], "whole": False, "changes": first["changes"]}

    await api.enqueue(queue="b")
    second = await since(api, still["changes"])
    assert (names(second), second["whole"]) == (["b"], False)
    assert second["queues"] == [(await api.get("/queues/b")).json]
    await api.send("POST", "/queues/c/pause")
    await api.put("/queues/d")
    assert names(await since(api, second["changes"])) == ["c", "d"]
    assert names(await since(api, first["changes"])) == ["b", "c", "d"], "an older token has more behind it"


async def test_queues_that_were_deleted_are_named(api: Api) -> None:
    """Until they are made again."""
    for name in ("a", "b"):
        await api.put(f"/queues/{name}")
    first = await since(api)
    await api.send("DELETE", "/queues/a")
    second = await since(api, first["changes"])
    assert (names(second), second["gone"]) == ([], ["a"])
    await api.put("/queues/a")
    third = await since(api, first["changes"])
    assert (names(third), third["gone"]) == (["a"], [])
    assert (await since(api, third["changes"]))["gone"] == []


async def test_changes_come_in_pages(api: Api) -> None:
    """With the token of the first page, after which nothing is sent twice."""
    for name in "abcde":
        await api.put(f"/queues/{name}")
    first = await since(api, more="&limit=2")
    second = await since(api, more=f"&limit=2&cursor={first['cursor']}")
    third = await since(api, more=f"&limit=2&cursor={second['cursor']}")
    assert [names(page) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert third["cursor"] is None
    assert names(await since(api, first["changes"])) == []


async def test_more_is_gone_than_is_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything is sent, and the answer says so."""
    monkeypatch.setattr(changes, "GONE_MAX", 1)
    for name in ("a", "b", "c"):
        await api.put(f"/queues/{name}")
    first = await since(api)
    for name in ("a", "b"):
        await api.send("DELETE", f"/queues/{name}")
    second = await since(api, (await since(api))["changes"])
    assert (names(second), second["whole"]) == ([], False)
    late = await since(api, first["changes"])
    assert (names(late), late["gone"], late["whole"]) == (["c"], [], True)


async def test_a_token_of_another_run_asks_for_everything(api: Api) -> None:
    """As after a restart, or behind a balancer."""
    await api.put("/queues/a")
    found = await since(api, f"{'0' * 32}-7")
    assert (names(found), found["whole"]) == (["a"], True)


@pytest.mark.parametrize("token", ["", "x", "1", "0-0", "zz-1"])
async def test_what_was_never_answered_is_refused(api: Api, token: str) -> None:
    """And named."""
    assert_problem(await api.get(f"/queues?changed_since={token}"), 400, "bad_request", "changed_since")


async def test_the_bounds_of_a_page_hold(api: Api) -> None:
    """As without it."""
    assert_problem(await api.get("/queues?changed_since=0&limit=1001"), 400, "bad_request", "limit")


async def test_a_token_that_holds_for_some_queues_is_sent_those(serve: Serve) -> None:
    """What another token was answered is nothing to it, and queues that are not its own are neither changed nor gone."""
    api = await serve(access=fleet())
    for name in ("bills", "secret"):
        await ask(api, "PUT", f"/queues/{name}", {}, "root")
    first = (await ask(api, "GET", "/queues?changed_since=0", token="root")).json
    assert names(first) == ["bills", "secret"]
    own = (await ask(api, "GET", "/queues?changed_since=0")).json
    assert names(own) == ["bills"]
    for name in ("bills", "secret"):
        await ask(api, "POST", f"/queues/{name}/pause", token="root")
    own = (await ask(api, "GET", f"/queues?changed_since={own['changes']}")).json
    assert names(own) == ["bills"]
    for name in ("bills", "secret"):
        await ask(api, "DELETE", f"/queues/{name}", token="root")
    own = (await ask(api, "GET", f"/queues?changed_since={own['changes']}")).json
    assert (names(own), own["gone"]) == ([], ["bills"])
    whole = (await ask(api, "GET", f"/queues?changed_since={first['changes']}", token="root")).json
    assert (names(whole), whole["gone"]) == ([], ["bills", "secret"])
