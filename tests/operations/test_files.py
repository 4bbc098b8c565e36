"""The files under docs/operations/scale-out say the same as each other, as the server's settings and as the schemas of who reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobqueue.api.mounts import Mounts
from jobqueue.backend.store.ownership import HAND_OVER_SECONDS, LEASE_SECONDS
from jobqueue.limits import Limits
from jobqueue.process.config import Settings, load
from tests.operations.stack import FILE, ROOT, VARIABLES, document

FOLDER = FILE.parent
UNIT = (FOLDER / "jobqueue.service").read_text(encoding="utf-8")
NGINX = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
MANIFEST = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")))


def kind(name: str) -> Any:
    """The document of a kind in kubernetes.yaml."""
    (found,) = [each for each in MANIFEST if each["kind"] == name]
    return found


def container() -> Any:
    (found,) = kind("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def compose_environment() -> dict[str, str]:
    return dict(document()["services"]["jobqueue-1"]["environment"])


def pod_environment() -> dict[str, str]:
    """As a pod would have it: secrets filled in, the downward API's address, and what names it."""
    secrets = {"token": "t", "peer-secret": "s" * 16, "store": "valkey://:p@a,b,c"}
    found: dict[str, str] = {}
    for variable in container()["env"]:
        if "value" in variable:
            value = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], variable["value"])
        elif "secretKeyRef" in variable["valueFrom"]:
            value = secrets.pop(variable["valueFrom"]["secretKeyRef"]["key"])
        else:
            assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
            value = "10.1.2.3"
        found[variable["name"]] = value
    assert secrets == {}, "the comment at the top makes secrets that nothing reads"
    return found


def unit_environment() -> dict[str, str]:
    """What the unit sets, and the file of secrets that its comment shows."""
    shown = dict(re.findall(r"^#   (JOBQUEUE_\w+)=(.*)$", UNIT, re.MULTILINE))
    shown |= {"JOBQUEUE_TOKEN": "t", "JOBQUEUE_PEER_SECRET": "s" * 16}
    return shown | {name: value.replace("%H", "queue-1") for name, value in re.findall(r"^Environment=(\w+)=(.*)$", UNIT, re.MULTILINE)}


def settings_of(environment: dict[str, str]) -> Settings:
    """As the server reads them; the image's host included, which the compose file and the manifest leave as it is."""
    return load({}, {"JOBQUEUE_HOST": "0.0.0.0", **environment}, Path("no .env"))


@pytest.mark.parametrize("environment", [compose_environment, pod_environment, unit_environment])
def test_the_server_takes_what_they_set(environment: Any) -> None:
    """Each has a store, is reached by the others beyond loopback, knows them by a secret, and asks for a token."""
    settings = settings_of(environment())
    assert settings.store is not None
    assert settings.store.startswith("valkey://")
    assert settings.peer_host == "0.0.0.0"
    assert settings.peer_address is not None
    assert settings.peer_address.endswith(f":{Settings().peer_port}")
    assert not settings.peer_address.startswith(("0.0.0.0", "127."))
    assert settings.peer_secret is not None
    assert settings.token is not None
    assert settings.data is None
    assert settings.acknowledge == "1"


def test_there_are_three_that_differ_by_address_alone() -> None:
    """Three servers have the same settings but for where the others reach each, and nginx asks all of them."""
    services = {name: service for name, service in document()["services"].items() if name.startswith("jobqueue-")}
    addresses = [service["environment"].pop("JOBQUEUE_PEER_ADDRESS") for service in services.values()]
    assert addresses == [f"{name}:{Settings().peer_port}" for name in services]
    assert len({str({**service, "networks": None}) for service in services.values()}) == 1
    assert re.findall(r"^    server (\S+):8080 ", NGINX, re.MULTILINE) == list(services)
    assert list(document()["services"]["nginx"]["depends_on"]) == list(services)
    assert kind("Deployment")["spec"]["replicas"] == len(services) == 3


def test_nobody_is_cut_while_it_hands_over() -> None:
    """Docker, systemd and Kubernetes wait longer than the drain, and for the hand-over after it."""
    for environment, stops in (
        (compose_environment(), float(document()["services"]["jobqueue-1"]["stop_grace_period"].removesuffix("s"))),
        (unit_environment(), float(re.findall(r"TimeoutStopSec=(\d+)", UNIT)[0])),
        (pod_environment(), kind("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] - pre_stop()),
    ):
        assert stops > settings_of(environment).drain_seconds + 2 * HAND_OVER_SECONDS


def pre_stop() -> float:
    program, seconds = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    return float(seconds)


def test_nginx_repeats_nothing_that_may_have_been_done() -> None:
    """No POST goes to a second server once it was sent; dequeues that are a GET go to none; a held request is waited for."""
    assert re.findall(r"proxy_next_upstream ([^;]*);", NGINX) == ["error timeout", "off"]
    (pattern,) = re.findall(r'^    "~(\^GET [^"]*)" 1;', NGINX, re.MULTILINE)
    dequeues = {route.path for route in Mounts().routes() if route.method == "GET" and route.path.endswith(("/dequeue", "/next"))}
    assert dequeues == {"/classic/jobs/dequeue", "/simplequeue/jobs/next"}
    for path in dequeues:
        assert re.search(pattern, f"GET {path}")
        assert re.search(pattern, f"GET {path.removeprefix('/classic').removeprefix('/simplequeue')}"), "mounted at the root"
    assert not re.search(pattern, "POST /jobs/dequeue")
    assert not re.search(pattern, "GET /jobs/j")
    (waits,) = re.findall(r"proxy_read_timeout (\d+)s;", NGINX)
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", NGINX)
    assert int(waits) > Limits().wait_seconds_max
    assert int(kept) < Settings().idle_seconds
    assert "proxy_buffering off;" in NGINX


def test_an_update_leaves_one_to_hand_over_to() -> None:
    """A new pod comes before an old one goes; a drained node takes one at a time; nobody is unready for as long as a takeover lasts."""
    deployment = kind("Deployment")
    assert deployment["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    disruptions = kind("PodDisruptionBudget")["spec"]
    assert disruptions == {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    assert kind("Service")["spec"]["selector"] == labels
    public = {route.path for route in Mounts().routes() if route.public}
    probes = {name: container()[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz",
    }  # fmt: skip
    assert {probe["httpGet"]["path"] for probe in probes.values()} <= public
    assert probes["readiness"]["periodSeconds"] * (probes["readiness"]["failureThreshold"] - 1) > 2 * LEASE_SECONDS
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"http": Settings().port, "peers": Settings().peer_port}


def test_the_cluster_has_a_replica_to_spare() -> None:
    """Of each primary's replicas one may fail, and as many as `--acknowledge` asks for are left."""
    services = document()["services"]
    script = services["valkey-cluster"]["command"][-1]
    (replicas,) = re.findall(r"--cluster-replicas (\d)", script)
    assert int(replicas) > int(compose_environment()["JOBQUEUE_ACKNOWLEDGE"])
    formed = re.findall(r"(172\.\S+):6379", script)
    assert formed == [services[f"valkey-{n}"]["networks"]["queue"]["ipv4_address"] for n in range(1, 10)]
    assert len(formed) == 3 * (1 + int(replicas))
    page = (ROOT / "docs" / "scale-out.md").read_text(encoding="utf-8")
    settings = re.findall(r"^([a-z][a-z-]+) (\S+)$", document()["configs"]["valkey"]["content"], re.MULTILINE)
    for name, value in settings:
        if name not in ("dir", "requirepass", "primaryauth", "cluster-enabled"):
            assert f"`{name} {value}`" in page, f"docs/scale-out.md recommends another {name}"


# By the programs and schemas of who reads them.


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "scale-out/compose.yaml"])
def test_compose_files_keep_the_schema(name: str) -> None:
    """The compose specification's own schema has every key."""
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema, of the extra dev")
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FOLDER.parent / name))


@pytest.mark.parametrize("name", ["kubernetes.yaml", "scale-out/kubernetes.yaml"])
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_keep_the_schema(name: str, version: str) -> None:
    """Kubernetes' own schemas have every field, and each of its kind."""
    pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate, of the extra dev")
    import kubernetes_validate

    for each in yaml.safe_load_all((FOLDER.parent / name).read_text(encoding="utf-8")):
        kubernetes_validate.validate(each, version, strict=True)


def test_docker_compose_takes_the_file() -> None:
    """`docker compose config` accepts it."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed; install it to have compose.yaml checked by it")
    run("docker", "compose", "-f", str(FILE), "config", "-q", **VARIABLES)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing wrong, with a program where the unit says there is one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; install it to have this file checked by it")
    (tmp_path / "jobqueue.service").write_text(UNIT.replace("/opt/jobqueue/bin/jobqueue", shutil.which("true") or "/bin/true"))
    run("systemd-analyze", "verify", "--man=no", str(tmp_path / "jobqueue.service"))


def test_only_root_reads_the_units_secrets() -> None:
    """The page and the unit say how the file with the secrets is made: for root alone. The unit itself has none."""
    assert "install -m 0600 /dev/null /etc/jobqueue.env" in UNIT
    assert not re.search(r"^Environment=JOBQUEUE_(TOKEN|STORE|PEER_SECRET)", UNIT, re.MULTILINE)
