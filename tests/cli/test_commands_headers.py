"""Headers, and how a queue's jobs wait, on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from click.testing import Result

from jobqueue import Client, Header

Run = Callable[..., Result]


def shown(result: Result) -> list[list[str]]:
    """The lines of what is shown of one thing, each as its name and its value."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines()]


def test_headers_go_with_a_job(run: Run, client: Client) -> None:
    """By --header, with a type or without; `get` gives them in the same form, and `dequeue` too."""
    given = ["--header", "tenant=a=b", "--header", "n:Number=5", "--header", "blob:Binary.png=AP8="]
    result = run("enqueue", "1", "--id", "j", *given)
    assert (result.exit_code, result.stdout) == (0, "j\n"), result.output
    assert client.job("j").headers == {"tenant": "a=b", "n": Header("Number", "5"), "blob": Header("Binary.png", "AP8=")}
    lines = [line.strip() for line in run("get", "j").stdout.splitlines()]
    assert {"tenant=a=b", "n:Number=5", "blob:Binary.png=AP8="} <= {re.split(r"  +", line)[-1] for line in lines}
    taken = json.loads(run("dequeue", "--json").stdout)
    assert taken["headers"]["tenant"] == "a=b"


def test_headers_of_lines(run: Run, client: Client) -> None:
    """With --items a line says its own; what it leaves out is as the options say."""
    given = '{"payload": 1, "id": "a", "headers": {"x": {"type": "Number", "value": "1"}}}\n{"payload": 2, "id": "b"}\n'
    result = run("enqueue", "--ndjson", "-", "--items", "--header", "x=y", given=given)
    assert (result.exit_code, result.stdout) == (0, "2 jobs submitted\n"), result.output
    assert [client.job(name).headers for name in ("a", "b")] == [{"x": Header("Number", "1")}, {"x": "y"}]


@pytest.mark.parametrize("given", [["x"], ["=y"], [""], [":Number=5"], ["x=1", "x=2"]])
def test_what_is_no_header_is_wrong_usage(given: list[str], run: Run, client: Client) -> None:
    """And makes no job; what the server refuses is said by its name."""
    options = [part for text in given for part in ("--header", text)]
    assert run("enqueue", "1", *options).exit_code == 2
    refused = run("enqueue", "1", "--header", "x:Int=5")
    assert refused.exit_code == 1
    assert "headers.x" in refused.stderr
    assert client.queues() == []


def test_how_jobs_wait_is_set_by_flags(run: Run, client: Client) -> None:
    """Times, or none; tags and attributes one by one, those without a value go."""
    made = run(
        "policy", "mail", "--create", "--delay", "30s", "--expires-in", "4d", "--tag", "team=a=b", "--tag", "old=", "--attribute", "N=n"
    )
    fields = dict(shown(made))
    assert (fields["delay"], fields["expires in"], fields["tags"], fields["attributes"]) == ("30s", "345600s", "team=a=b, old=", "N=n")
    assert {"created", "modified"} <= fields.keys()
    run("policy", "mail", "--tag", "old", "--tag", "new=1", "--delay", "none")
    policy = client.queue("mail").policy
    assert (policy.delay, policy.expires_in, policy.tags, policy.attributes) == (None, 345_600, {"team": "a=b", "new": "1"}, {"N": "n"})
    run("policy", "mail", "--expires-in", "none", "--attribute", "N")
    policy = client.queue("mail").policy
    assert (policy.expires_in, policy.attributes) == (None, {})


@pytest.mark.parametrize("options", [["--delay", "soon"], ["--expires-in", ""], ["--tag", "=x"], ["--attribute", "="]])
def test_what_is_none_of_these_is_wrong_usage(options: list[str], run: Run, client: Client) -> None:
    """Nothing is sent."""
    client.put_queue("mail")
    assert run("policy", "mail", *options).exit_code == 2
