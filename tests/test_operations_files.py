"""The files under docs/operations: they parse, and name only settings, metrics, routes and ports that exist."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientConnectionError, ClientSession, TCPConnector
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from jobqueue.api.app import build_app
from jobqueue.api.mounts import Mounts
from jobqueue.api.observe.metrics_server import cluster
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.process.config import SETTINGS, Settings
from jobqueue.process.settings import PREFIX
from tests.api.harness import Api, Site, start
from tests.api.test_stats import FRONT, OWNER, SEVERAL

ROOT = Path(__file__).parents[1]
FILES = ROOT / "docs" / "operations"
PORT = Settings().port
EVERY = sorted(path.relative_to(FILES).as_posix() for path in FILES.rglob("*") if path.is_file())


def text_of(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all(text_of(name)))


def kind(name: str) -> Any:
    """The document of a kind in kubernetes.yaml."""
    (found,) = [document for document in documents("kubernetes.yaml") if document["kind"] == name]
    return found


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)?", text)
    assert match is not None, text
    return int(match[1]) * (60 if match[2] == "m" else 1)


# Metrics.


async def exported(folder: Path) -> dict[str, set[str]]:
    """The labels of every series that a server with a file tells, by name; and of those that one of many tells beside them."""
    engine, clock = Engine(), ManualClock()
    backend = LocalBackend(engine=engine, clock=clock, journal=open_journal(str(folder / "jobs.db"), engine, clock))
    app = build_app(backend, Limits())
    site = await Site.start(app.server())
    api = Api(app, backend, clock, site, ClientSession(connector=TCPConnector(limit=0)), backend.close)
    try:
        await api.concluded()
        await api.put("/queues/limited", concurrency=1, per_key={"order": "halt"})
        page = (await api.get("/metrics")).body.decode()
        for seen in (FRONT, OWNER, SEVERAL):
            page += "".join(f"{sample.name} 1\n" for family in cluster(seen) for sample in family.samples)
    finally:
        await api.close()
    series: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, and where it stands."""
    for group in documents("alerts.yaml")[0]["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]
    for panel in json.loads(text_of("grafana.json"))["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for document in documents("keda.yaml"):
        for trigger in document["spec"].get("triggers", ()):
            yield f"KEDA {trigger['type']}", trigger["metadata"]["valueLocation"]


SERIES = re.compile(r"\b((?:jobqueue|process|python)_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
TARGET = {"instance", "job"}
"""Labels that Prometheus adds of itself."""


async def test_every_metric_named_exists_and_has_the_labels(tmp_path: Path) -> None:
    """Alerts, panels and the scaler name series that a scrape holds, with labels that these have."""
    series = await exported(tmp_path)
    looked_at = 0
    for where, expression in expressions():
        names = SERIES.findall(expression)
        assert names or "up{" in expression, where
        labels = set[str]()
        for name, matchers in names:
            assert name in series, f"{where}: {name}"
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert asked <= series[name] | TARGET, f"{where}: {name} has no {asked}"
            labels |= series[name]
            looked_at += 1
        for group in GROUPED.findall(expression):
            assert {label.strip() for label in group.split(",")} <= labels | TARGET, f"{where}: by {group}"
        assert expression.count("(") == expression.count(")"), where
    assert looked_at > 60


async def test_every_metric_of_the_queue_is_shown_or_alerted_on(tmp_path: Path) -> None:
    """Nothing that is told of jobs, leases, requests or the disk is left for nobody to look at."""
    named = {name for _, expression in expressions() for name, _ in SERIES.findall(expression)}
    plain = {name.removesuffix("_bucket") for name in named}
    unused = {
        name
        for name in await exported(tmp_path)
        if name.startswith("jobqueue_") and not name.endswith(("_created", "_sum", "_count")) and name.removesuffix("_bucket") not in plain
    }
    about_itself = {
        "jobqueue_build_info",
        "jobqueue_start_time_seconds",
        "jobqueue_uptime_seconds",
        "jobqueue_draining",
        "jobqueue_queues_summed",
    }
    assert unused <= about_itself


def test_every_alert_says_what_is_the_matter() -> None:
    """Each rule has a severity and a summary, and no two have one name."""
    rules = documents("alerts.yaml")[0]["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_the_dashboard_is_whole() -> None:
    """Panels have ids of their own, do not overlap, and use the variables that are there."""
    board = json.loads(text_of("grafana.json"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    variables = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval", "__all"}
    assert {first or second for first, second in re.findall(r"\$(?:{(\w+)}|(\w+))", text_of("grafana.json"))} <= variables


# Settings, ports, times.


OTHERS = {"--config", "--from-literal", "--build", "--wait"}
"""Flags of Caddy, kubectl and Docker; those of valkey-cli begin with --cluster."""


@pytest.mark.parametrize("name", EVERY)
def test_every_setting_named_exists(name: str) -> None:
    """A JOBQUEUE_ variable or a flag of the server in any of the files is one of the settings table."""
    variables = {setting.variable for setting in SETTINGS}
    flags = {setting.flag for setting in SETTINGS}
    text = text_of(name)
    told_otherwise = {"JOBQUEUE_..."} | ({"JOBQUEUE_PORT=tcp"} if name.endswith("kubernetes.yaml") else set())
    for variable in re.findall(rf"{PREFIX}[A-Z_]+", text):
        assert variable in variables or variable + "..." in told_otherwise, variable
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        assert flag in flags | OTHERS or flag.startswith("--cluster"), flag


@pytest.mark.parametrize("name", EVERY)
def test_every_file_has_its_place_in_the_page(name: str) -> None:
    """docs/operations.md leads to each of them; docs/scale-out.md to what is for many servers."""
    page = "scale-out.md" if name.startswith("scale-out/") else "operations.md"
    assert f"(operations/{name})" in (ROOT / "docs" / page).read_text(encoding="utf-8")


def container() -> Any:
    (found,) = kind("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def test_kubernetes_runs_one_that_is_probed() -> None:
    """One replica, stopped before the next starts; probes ask routes that need no token; a claim holds the file."""
    spec = kind("Deployment")["spec"]
    pod = spec["template"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"], pod["enableServiceLinks"]) == (1, "Recreate", False)
    public = {route.path for route in Mounts().routes() if route.public}
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    assert {probe["path"] for probe in probes.values()} <= public
    assert {probe["port"] for probe in probes.values()} == {"http"}
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == kind("PersistentVolumeClaim")["metadata"]["name"]
    (mount,) = container()["volumeMounts"]
    (data,) = [variable["value"] for variable in container()["env"] if variable["name"] == "JOBQUEUE_DATA"]
    assert data.startswith(mount["mountPath"] + "/")
    assert mount["name"] == volume["name"]


def test_ports_match() -> None:
    """Container, service, image, proxies and scaler all mean the server's port."""
    assert [port["containerPort"] for port in container()["ports"]] == [PORT]
    service = kind("Service")["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(PORT, "http")]
    assert service["selector"] == kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert f"EXPOSE {PORT}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert documents("compose.yaml")[0]["services"]["jobqueue"]["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert f"server 127.0.0.1:{PORT};" in text_of("nginx.conf")
    assert f"reverse_proxy 127.0.0.1:{PORT} " in text_of("Caddyfile")
    assert f"http://jobqueue:{PORT}/metrics" in text_of("keda.yaml")


def test_the_image_and_the_pod_have_one_user() -> None:
    """The volume belongs to whom the image runs as."""
    context = kind("Deployment")["spec"]["template"]["spec"]["securityContext"]
    user = f"{context['runAsUser']}:{context['runAsGroup']}"
    assert f"USER {user}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_whoever_stops_the_server_waits_for_its_drain() -> None:
    """systemd, Docker and Kubernetes give it longer than the drain that they set."""
    (drain,) = [variable["value"] for variable in container()["env"] if variable["name"] == "JOBQUEUE_DRAIN_TIMEOUT"]
    assert kind("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > seconds(drain)
    compose = documents("compose.yaml")[0]["services"]["jobqueue"]
    assert seconds(compose["stop_grace_period"]) > seconds(compose["environment"]["JOBQUEUE_DRAIN_TIMEOUT"])
    unit = text_of("jobqueue.service")
    drains, stops = re.search(r"DRAIN_TIMEOUT=(\d+s)", unit), re.search(r"TimeoutStopSec=(\d+)", unit)
    assert drains is not None
    assert stops is not None
    assert seconds(stops[1]) > seconds(drains[1])


def test_proxies_wait_longer_than_a_held_request() -> None:
    """A dequeue held to the server's cap is not cut by a proxy; idle connections are closed by the proxy before the server does."""
    longest, idle = Limits().wait_seconds_max, Settings().idle_seconds
    assert "proxy_set_header Host $http_host;" in text_of("nginx.conf")
    nginx, caddy = text_of("nginx.conf"), text_of("Caddyfile")
    proxies = (
        (nginx, r"proxy_read_timeout (\d+s)", r"keepalive_timeout (\d+s)"),
        (caddy, r"header_timeout (\d+s)", r"keepalive (\d+s)"),
    )
    for text, silent, kept in proxies:
        waits, keeps = re.search(silent, text), re.search(kept, text)
        assert waits is not None
        assert keeps is not None
        assert seconds(waits[1]) > longest
        assert seconds(keeps[1]) < idle
    assert "proxy_buffering off" in nginx
    assert "proxy_next_upstream off" in nginx
    assert "flush_interval -1" in caddy


def test_the_scaler_names_the_workers_and_its_secret() -> None:
    """Triggers refer to the authentication that stands beside them."""
    authentication, scaled = documents("keda.yaml")
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["type"] == "metrics-api"
        assert trigger["metadata"]["format"] == "prometheus"
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]


# With the programs that read them.


def checked(program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed; install it to have this file checked by it")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    """`nginx -t` accepts it, with a certificate of the test's."""
    trustme = pytest.importorskip("trustme", reason="needs trustme, of the extra test")
    server = trustme.CA().issue_cert("queue.example.org")
    server.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    text = re.sub(r"/etc/ssl/\S+(?=;)", str(tmp_path / "both.pem"), text_of("nginx.conf")).replace("listen 443", "listen 127.0.0.1:8443")
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n")
    checked("nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))


def test_caddy_takes_its_file() -> None:
    """`caddy validate` accepts it."""
    checked("caddy", "validate", "--adapter", "caddyfile", "--config", str(FILES / "Caddyfile"))


def test_systemd_takes_its_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing wrong, with a program where the unit says there is one."""
    text = text_of("jobqueue.service").replace("/opt/jobqueue/bin/jobqueue", shutil.which("true") or "/bin/true")
    (tmp_path / "jobqueue.service").write_text(text)
    checked("systemd-analyze", "verify", "--man=no", str(tmp_path / "jobqueue.service"))


def test_docker_compose_takes_its_file() -> None:
    """`docker compose config` accepts it."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed; install it to have compose.yaml checked by it")
    done = subprocess.run(
        ["docker", "compose", "-f", str(FILES / "compose.yaml"), "config", "-q"],
        capture_output=True, text=True, check=False, timeout=30, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "JOBQUEUE_TOKEN": "t"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


PREFIXED = """pid {folder}/pid;
error_log stderr;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    server {{
        listen 127.0.0.1:{port};
        location /queue/ {{ proxy_pass http://{host}/; proxy_set_header Host $http_host; }}
    }}
}}
"""


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed; install it to have ids sent through it")
async def test_ids_come_through_nginx_behind_a_prefix(tmp_path: Path) -> None:
    """Where its proxy_pass ends in a path, nginx undoes what is encoded in one; an id in the query, as Location has it, comes through."""
    api = await start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(PREFIXED.format(folder=tmp_path, port=port, host=f"{api.site.host}:{api.site.port}"))
    ids = ["a/b", "..", "100%", "?a#b", "a;b", "\\", "plain", "é ü", "a+b"]
    places = [(await api.post("/jobs/enqueue", payload=1, id=job_id)).headers["location"] for job_id in ids]
    nginx = await asyncio.create_subprocess_exec(
        "nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20), ClientSession() as session:
            front = f"http://127.0.0.1:{port}/queue"
            while True:
                try:
                    assert (await session.get(f"{front}/healthz?probe=1")).status == 200
                    break
                except ClientConnectionError:
                    await asyncio.sleep(0.01)
            for job_id, place in zip(ids, places, strict=True):
                async with session.get(URL(front + place, encoded=True)) as answer:
                    assert (answer.status, (await answer.json())["id"]) == (200, job_id)
            async with session.get(URL(f"{front}/jobs/a%2Fb", encoded=True)) as answer:
                assert answer.status == 404
    finally:
        nginx.terminate()
        await nginx.wait()
        await api.close()
