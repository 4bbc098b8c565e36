"""Where settings come from, how values are read, and what is said when one is bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobqueue.limits import DAY, GIB, KIB, MIB, Limits
from jobqueue.process.config import FIXED, SETTINGS, BadSetting, Settings, is_loopback, load


def loaded(folder: Path, flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, dotenv: str | None = None) -> Settings:
    path = folder / ".env"
    if dotenv is not None:
        path.write_text(dotenv, encoding="utf-8")
    return load(flags or {}, environ or {}, path)


def refusal(folder: Path, flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, dotenv: str | None = None) -> str:
    with pytest.raises(BadSetting) as raised:
        loaded(folder, flags, environ, dotenv)
    message = str(raised.value)
    assert "\n" not in message
    return message


def value_of(settings: Settings, field: str) -> object:
    return getattr(settings.limits if field in Limits.__struct_fields__ else settings, field)


def test_nothing_said_gives_the_defaults(tmp_path: Path) -> None:
    """Without a flag, a variable or a `.env`, settings are what Settings and Limits say."""
    assert loaded(tmp_path) == Settings()


OTHER = {
    "HOST": "127.0.0.9",
    "PORT": "1",
    "TOKEN": "t0ken",
    "LEVEL": "error",
    "N": "7",
    "SIZE": "7",
    "TIME": "7",
    "URL": "valkey://other:1",
    "HOST:PORT": "other:1",
    "REPLICAS": "2",
}
OTHER |= {"PREFIX=API": "/=classic", "MODULE": "package.module:worker", "NAME": "urgent,default", "FILE": "jobs.db", "WHEN": "off"}
OTHER |= {"FORMAT": "json", "WHICH": "on", "WAY": "plain", "RATE": "100/s:7", "ORIGIN": "https://queue.example.org"}
"""For each kind a value that is nobody's default."""


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_a_flag_a_variable_and_a_dotenv_line_in_that_order(setting, tmp_path: Path) -> None:
    """A flag wins over the environment, the environment over `.env`, `.env` over the default; each of the three is enough by itself."""
    default = value_of(Settings(), setting.field)
    other = OTHER.get(setting.kind.metavar, "false" if default is True else "true")
    # Neighbours are set apart so that one value alone never contradicts another.
    apart = {"max_payload_bytes": "1", "default_wait": "1", "min_lease": "1", "default_lease": "7", "default_max_attempts": "1"}
    apart |= {"tls_cert": "a.pem", "tls_key": "a.pem"}
    if setting.name in ("partitions", "processes"):
        apart["store"] = "valkey://a"
    apart = {name: text for name, text in apart.items() if name != setting.name}
    from_flag = loaded(tmp_path, {**apart, setting.name: other})
    assert value_of(from_flag, setting.field) == setting.read(other) != default
    assert loaded(tmp_path, apart, {setting.variable: other}) == from_flag
    assert loaded(tmp_path, apart, {}, f"{setting.variable}={other}") == from_flag
    assert loaded(tmp_path, {**apart, setting.name: other}, {setting.variable: "?"}, f"{setting.variable}=?") == from_flag
    assert loaded(tmp_path, apart, {setting.variable: other}, f"{setting.variable}=?") == from_flag


def test_each_field_is_one_setting_or_is_fixed() -> None:
    """Every field of Settings and Limits is filled by exactly one setting, but for those listed as the same on every server."""
    fields = [setting.field for setting in SETTINGS]
    assert len(fields) == len(set(fields)) == len({setting.name for setting in SETTINGS})
    assert {*fields, *FIXED} == {*Settings.__struct_fields__, *Limits.__struct_fields__} - {"limits"}
    assert not set(fields) & set(FIXED)


@pytest.mark.parametrize(("text", "value"), [("65536", 65_536), ("64KiB", 64 * KIB), ("1MiB", MIB), ("3GiB", 3 * GIB), ("1 MiB", MIB)])
def test_a_size_is_bytes_or_binary_units(text: str, value: int, tmp_path: Path) -> None:
    """A size may be written in bytes, KiB, MiB or GiB."""
    assert loaded(tmp_path, {"max_payload_total_bytes": text, "max_payload_bytes": "1"}).limits.payload_total_bytes_max == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30.0), ("0.5", 0.5), ("30s", 30.0), ("5m", 300.0), ("1.5h", 5_400.0), ("30d", 30 * DAY), ("3650d", 3_650 * DAY)],
)
def test_a_duration_is_seconds_or_has_a_unit(text: str, value: float, tmp_path: Path) -> None:
    """A duration may be written in seconds, or with s, m, h or d."""
    assert loaded(tmp_path, {"max_delay": text}).limits.delay_seconds_max == value


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("max_jobs", "many", "is not a whole number"),
        ("max_jobs", "-1", "is not a whole number"),
        ("max_jobs", "1e3", "is not a whole number"),
        ("max_jobs", "٣", "is not a whole number"),
        ("max_jobs", "9" * 5_000, "is not a whole number"),
        ("max_jobs", "0", "must be above 0"),
        ("max_jobs", "", "is empty"),
        ("max_payload_bytes", "1MB", "is not a size"),
        ("max_payload_bytes", "1.5MiB", "is not a size"),
        ("max_wait", "nan", "is not a duration"),
        ("max_wait", "inf", "is not a duration"),
        ("max_wait", "5 minutes", "is not a duration"),
        ("max_wait", "0", "must be above 0"),
        ("max_delay", "3651d", "is longer than 3650d"),
        ("port", "65536", "is not a port"),
        ("port", "http", "is not a whole number"),
        ("host", "two words", "is not a host name"),
        ("host", "a..b", "is not a host name"),
        ("log_level", "loud", "is not one of debug, info, warning, error"),
        ("data", "folder/", "is not the name of a file"),
        ("data", "", "is empty"),
        ("sync", "sometimes", "is not one of always, interval, off"),
        ("log_format", "xml", "is not one of console, json"),
        ("access_log", "maybe", "is not one of off, sampled, on"),
        ("allow_anonymous", "maybe", "is neither true nor false"),
        ("sqs_url", "queue.example.org", "is not an origin"),
        ("sqs_url", "https://queue.example.org/sqs", "is not an origin"),
        ("sqs_url", "valkey://queue.example.org", "is not the server's address for clients"),
        ("sqs_url", "https://a.example.org,https://b.example.org", "is not the server's address for clients"),
    ],
)
def test_a_bad_value_is_refused_with_its_origin_and_the_reason(name: str, text: str, reason: str, tmp_path: Path) -> None:
    """The refusal is one line that says which setting, where it came from, and why."""
    setting = next(setting for setting in SETTINGS if setting.name == name)
    by_flag = refusal(tmp_path, {name: text})
    assert by_flag.startswith(f"{setting.flag}: ")
    assert reason in by_flag
    assert len(by_flag) < 250
    by_variable = refusal(tmp_path, {}, {setting.variable: text})
    assert by_variable.startswith(f"{setting.variable} in the environment: ")
    assert reason in by_variable
    by_line = refusal(tmp_path, {}, {}, f"# a comment\n\n{setting.variable}={text}\n")
    assert by_line.startswith(f"{setting.variable} in .env, line 3: ")
    assert reason in by_line


@pytest.mark.parametrize("token", ["", "two words", "é", "line\nend", "x" * 4_097], ids=["empty", "space", "accent", "newline", "long"])
def test_a_token_that_no_client_could_send_is_refused_and_not_shown(token: str, tmp_path: Path) -> None:
    """An empty token, or one that fits no Authorization header, is refused, and the message does not repeat it."""
    message = refusal(tmp_path, {}, {"JOBQUEUE_TOKEN": token})
    assert message.startswith("JOBQUEUE_TOKEN in the environment: ")
    assert not token or token not in message


def test_a_token_is_not_in_the_repr() -> None:
    """Settings written to a log do not show the token, and do show the rest."""
    shown = repr(Settings(token="hunter2", port=81))
    assert "hunter2" not in shown
    assert "token='***'" in shown
    assert "port=81" in shown
    assert "token=None" in repr(Settings())


@pytest.mark.parametrize("name", ["history_jobs", "history_bytes", "drain_timeout", "port"])
def test_zero_is_allowed_where_it_means_something(name: str, tmp_path: Path) -> None:
    """No history, no patience after SIGTERM and any free port are all written 0."""
    setting = next(setting for setting in SETTINGS if setting.name == name)
    assert value_of(loaded(tmp_path, {name: "0"}), setting.field) == 0


def test_contradicting_bounds_are_refused_by_the_names_an_operator_knows(tmp_path: Path) -> None:
    """Two settings that exclude each other are both named, each with where it came from, and no field of the code is."""
    message = refusal(tmp_path, {"max_wait": "10s"}, {"JOBQUEUE_DEFAULT_WAIT": "30s"})
    assert message == "JOBQUEUE_DEFAULT_WAIT in the environment (30.0) must not exceed --max-wait (10.0)"
    message = refusal(tmp_path, {}, {}, "JOBQUEUE_MAX_BODY_BYTES=1KiB")
    assert message == "the default of --max-payload-bytes (1048576) must not exceed JOBQUEUE_MAX_BODY_BYTES in .env, line 1 (1024)"


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting.default != "none"], ids=lambda setting: setting.name)
def test_a_default_is_shown_as_it_may_be_written(setting) -> None:
    """Each default in the help and the docs, given as a value, is the default."""
    assert setting.read(setting.default) == value_of(Settings(), setting.field)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LocalHost"])
def test_this_machine_alone_needs_no_token(host: str, tmp_path: Path) -> None:
    """127.0.0.0/8, ::1 and localhost are served without a token."""
    assert is_loopback(host)
    assert loaded(tmp_path, {"host": host}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org", "localhost.example.org", "::ffff:127.0.0.1", "127.1"])
def test_other_addresses_need_a_token_or_the_word(host: str, tmp_path: Path) -> None:
    """Whatever others may reach is refused without a token, naming both ways out, and served with either."""
    message = refusal(tmp_path, {"host": host})
    assert host in message
    assert "JOBQUEUE_TOKEN" in message
    assert "--allow-anonymous" in message
    assert loaded(tmp_path, {"host": host, "token": "secret"}).token == "secret"
    assert loaded(tmp_path, {"host": host, "allow_anonymous": "true"}).allow_anonymous
    assert "--allow-anonymous" in refusal(tmp_path, {"host": host, "allow_anonymous": "false"}, {"JOBQUEUE_ALLOW_ANONYMOUS": "true"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("classic", "is not PREFIX=API"),
        ("/=klassik", "'klassik' is not an API"),
        ("/jobs=classic", "cannot be a prefix"),
        ("old=classic", "is not a prefix"),
        ("/a/=classic", "is not a prefix"),
        ("/=classic,/a=classic", "in two places"),
        ("/a=classic,/a=workpool", "cannot stand at"),
        ("/a=classic,/a/b=workpool", "cannot stand at"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    """With the reason, before anything listens."""
    assert reason in refusal(tmp_path, {"mount": text})


def test_several_apis_are_placed_at_once(tmp_path: Path) -> None:
    """With commas, as in a variable; the command line may repeat the flag."""
    assert loaded(tmp_path, {"mount": "/=classic, /v1=native"}).mounts == (("classic", "/"), ("native", "/v1"))


@pytest.mark.parametrize("name", ["", "a b", "a,", "a,,b"])
def test_a_pools_queue_that_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    """As everywhere a queue is named."""
    assert refusal(tmp_path, {"pool_queues": name})


@pytest.mark.parametrize("module", ["", "a/b.py", "a..b", "1a", "a:b:c", "a b"])
def test_a_pool_that_is_no_module_is_refused(module: str, tmp_path: Path) -> None:
    """Before anything is imported."""
    assert refusal(tmp_path, {"pool": module})


STORE = {"store": "valkey://u:hidden@h:1"}


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"data": "jobs.db"}, "--store: jobs are kept either in a store or in a file, but --data names a file"),
        ({"owner_lease": "1s"}, "--owner-lease: must be 2s or more"),
        ({"peer_host": "10.0.0.1"}, "refusing to listen on 10.0.0.1 for other servers without a secret or certificates"),
        ({"peer_cert": "a.pem"}, "--peer-cert: needs --peer-key and --peer-ca too"),
        ({"peer_ca": "a.pem", "peer_key": "a.pem"}, "--peer-key: needs --peer-cert too"),
        ({"peer_secret": "short"}, "--peer-secret: must have 16 characters or more"),
        ({"peer_host": "0.0.0.0", "peer_secret": "s" * 16}, "--peer-host: other servers cannot reach this one at 0.0.0.0"),
        ({"peer_address": "nowhere"}, "--peer-address: 'nowhere' is not HOST:PORT"),
        ({"store": "mysql://u:hidden@h"}, "--store: is not the URL of a store"),
    ],
)
def test_a_server_of_many_is_refused_what_cannot_work(flags: dict[str, str], reason: str, tmp_path: Path) -> None:
    """One line says which setting and why, and shows no password."""
    said = refusal(tmp_path, STORE | flags)
    assert said.startswith(reason)
    assert "hidden" not in said + repr(loaded(tmp_path, STORE))


def test_certificates_may_stand_in_for_the_secret(tmp_path: Path) -> None:
    """Beyond loopback servers may know each other by certificates, by the secret, or by both."""
    certificates = {"peer_cert": "cert.pem", "peer_key": "key.pem", "peer_ca": "ca.pem"}
    for known_by in (certificates, {"peer_secret": "s" * 16}, certificates | {"peer_secret": "s" * 16}):
        assert loaded(tmp_path, STORE | {"peer_host": "10.0.0.1"} | known_by).peer_host == "10.0.0.1"


@pytest.mark.parametrize("text", ["0", "129", "many"])
def test_the_number_of_partitions_has_bounds(text: str, tmp_path: Path) -> None:
    """From 1 to 128, as a store can have."""
    assert refusal(tmp_path, {"partitions": text, "store": "valkey://a"}).startswith(f"--partitions: {text!r} is not a ")


def test_only_a_store_has_partitions(tmp_path: Path) -> None:
    """A server that keeps its jobs in memory or a file has one; saying so is no contradiction."""
    assert refusal(tmp_path, {"partitions": "2"}) == "--partitions: only a store has partitions; set --store too"
    assert loaded(tmp_path, {"partitions": "1"}).partitions == 1
