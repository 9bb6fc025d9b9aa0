"""The compose file and what it mounts: valid, pinned, on loopback alone, with nothing that leads nowhere.

Whether the programs take their configuration is for ``tests/stack/test_compose.py``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from ruamel.yaml import YAML

from loopwatch._settings import PREFIX, Settings

pytestmark = pytest.mark.alike

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
PARTS = ROOT / "dashboards" / "compose"
DOCKERFILE = PARTS / "Dockerfile"


def read(path: Path) -> Any:
    """Read a file of YAML 1.2, as compose has it."""
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


STACK = read(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, PurePosixPath, str]]:
    """Yield what a service mounts: from where, as what, and how."""
    for volume in service.get("volumes", ()):
        source, target, *mode = volume.split(":")
        yield source, PurePosixPath(target), ",".join(mode)


def on_the_host(service: dict[str, Any], path: str) -> Path:
    """Return the file of ours that a service sees as ``path``; fail if it sees none."""
    inside = PurePosixPath(path)
    for source, target, _ in mounts(service):
        if source.startswith("./") and (inside == target or target in inside.parents):
            return ROOT / source / inside.relative_to(target)
    pytest.fail(f"{path} is mounted from nowhere")


def test_it_is_valid() -> None:
    """By the compose specification's own schema, which the tool brings along."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_service
def test_nothing_listens_beyond_loopback(service: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", ()))
    assert re.fullmatch(r"service:\w+|bridge", service.get("network_mode", "bridge"))
    assert not {"privileged", "pid", "ipc", "devices", "cap_add"} & set(service)


def test_what_a_browser_needs_is_published() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:9090:9090", "127.0.0.1:3000:3000"]


def test_images_are_pinned() -> None:
    """To the patch; what has no such version is built here, and asked of no registry."""
    pinned = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.]+)*")
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    for service in SERVICES.values():
        assert service["image"] in built or pinned.fullmatch(service["image"])
        assert service["image"] not in built or service["pull_policy"] in {"build", "never"}
    (base,) = re.findall(r"^FROM (.+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned.fullmatch(base)


def test_the_collector_is_of_the_release_that_is_tested() -> None:
    tested = (ROOT / "tests" / "stack" / "otelcol.yaml").read_text(encoding="utf-8")
    (version,) = re.findall(r"otlpreceiver v([\d.]+)", tested)
    assert SERVICES["collector"]["image"].endswith(f":{version}")


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_checked_on(name: str) -> None:
    if name == "collector":
        jobs = {job["job_name"] for job in read(PARTS / "prometheus.yml")["scrape_configs"]}
        assert name in jobs  # its image has nothing to run a check with
        return
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"  # no shell in between
    assert {"interval", "timeout", "retries"} < set(check)


@each_service
def test_who_waits_waits_for_somebody(service: dict[str, Any]) -> None:
    for name, how in service.get("depends_on", {}).items():
        healthy = "service_healthy" if "healthcheck" in SERVICES[name] else "service_started"
        assert how["condition"] == healthy
    if "network_mode" in service:
        assert service["network_mode"].removeprefix("service:") in SERVICES


@each_service
def test_what_is_mounted_exists(service: dict[str, Any]) -> None:
    for source, _, mode in mounts(service):
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert mode == "ro"  # nothing writes into a checkout
        else:
            assert source in STACK["volumes"], source


def test_configurations_are_where_they_are_looked_for() -> None:
    for service in SERVICES.values():
        for word in service.get("command", ()):
            if found := re.fullmatch(r"--?config(?:\.file)?=(.+)", word):
                assert on_the_host(service, found[1]).is_file()
    grafana = SERVICES["grafana"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert on_the_host(grafana, home).is_file()
    for rules in read(PARTS / "prometheus.yml")["rule_files"]:
        assert on_the_host(SERVICES["prometheus"], rules).is_file()


def test_addresses_are_those_of_services() -> None:
    """And ports those that are listened on there, as the service or its configuration says."""
    aliases = {
        alias: name
        for name, service in SERVICES.items()
        for alias in [name, *service.get("networks", {}).get("default", {}).get("aliases", ())]
        if "network_mode" not in service
    }
    listening = {
        "llm": {"9464"},
        "collector": {"4317", "8888"},
        "tempo": {"3200", "4317"},
        "prometheus": {"9090"},
    }
    texts = [
        COMPOSE.read_text(encoding="utf-8"),
        *(path.read_text(encoding="utf-8") for path in PARTS.glob("*.yml")),
    ]
    found = {pair for text in texts for pair in re.findall(r"\b([a-z]+):(\d{4})\b", text)}
    assert {name for name, _ in found} == {"service", "collector", "tempo", "prometheus"}
    for name, port in found:
        assert port in listening[aliases[name]], f"{name}:{port}"


def test_the_service_is_told_what_it_knows() -> None:
    known = (ROOT / "examples" / "analysis_service" / "settings.py").read_text(encoding="utf-8")
    told = {name for service in SERVICES.values() for name in service.get("environment", {})}
    for name in told:
        assert not name.startswith("ANALYSIS_") or f'"{name}"' in known, name
    settings = {PREFIX + field.name.upper() for field in fields(Settings)}
    assert {name for name in told if name.startswith(PREFIX)} <= settings


def test_the_image_is_made_of_what_it_is_given() -> None:
    """What the Dockerfile copies exists, and is not left out of what it may copy from."""
    ignored = (PARTS / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


# What Grafana documents of provisioning: the keys in use, and their types.
SOURCE = {
    "name": str,
    "uid": str,
    "type": str,
    "access": str,
    "url": str,
    "isDefault": bool,
    "jsonData": dict,
}
OF_PROMETHEUS = {"manageAlerts": bool, "timeInterval": str, "exemplarTraceIdDestinations": list}
PROVIDER = {"name": str, "type": str, "folder": str, "options": dict}


def typed(given: dict[str, Any], known: dict[str, type], *required: str) -> None:
    assert set(required) <= set(given) <= set(known)
    for key, value in given.items():
        assert type(value) is known[key], key


def test_data_sources_are_as_grafana_documents_them() -> None:
    file = read(PARTS / "datasources.yml")
    assert set(file) == {"apiVersion", "datasources"}
    assert file["apiVersion"] == 1
    for source in file["datasources"]:
        typed(source, SOURCE, "name", "type", "access", "uid", "url")
        assert source["access"] == "proxy"
        assert source["type"] in {"prometheus", "tempo"}
    assert [source["uid"] for source in file["datasources"] if source.get("isDefault")] == ["prometheus"]


def test_exemplars_lead_to_their_trace() -> None:
    sources = {source["uid"]: source for source in read(PARTS / "datasources.yml")["datasources"]}
    settings = sources["prometheus"]["jsonData"]
    typed(settings, OF_PROMETHEUS)
    (destination,) = settings["exemplarTraceIdDestinations"]
    typed(destination, {"name": str, "datasourceUid": str}, "name", "datasourceUid")
    assert destination["name"] == "trace_id"  # the label that our exemplars have
    assert sources[destination["datasourceUid"]]["type"] == "tempo"
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]
    # It opens in Explore, which Grafana 12 lets no viewer use, whatever is set.
    assert SERVICES["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Editor"


def test_grafana_knows_how_often_is_scraped() -> None:
    sources = read(PARTS / "datasources.yml")["datasources"]
    (interval,) = [source["jsonData"]["timeInterval"] for source in sources if source["type"] == "prometheus"]
    assert interval == read(PARTS / "prometheus.yml")["global"]["scrape_interval"]


def test_dashboards_are_provisioned() -> None:
    """All that are shipped, from where they are mounted."""
    file = read(PARTS / "dashboards.yml")
    assert set(file) == {"apiVersion", "providers"}
    assert file["apiVersion"] == 1
    (provider,) = file["providers"]
    typed(provider, PROVIDER, "name", "type", "options")
    assert provider["type"] == "file"
    assert set(provider["options"]) == {"path"}
    found = on_the_host(SERVICES["grafana"], provider["options"]["path"])
    assert sorted(found.glob("*.json")) == sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
    targets = {str(target) for _, target, _ in mounts(SERVICES["grafana"])}
    for kind in ("datasources", "dashboards"):
        assert f"/etc/grafana/provisioning/{kind}/loopwatch.yml" in targets


def test_tempo_keeps_traces_where_it_may_write() -> None:
    """And listens where it is sent to, asked, and checked on."""
    settings, service = read(PARTS / "tempo.yml"), SERVICES["tempo"]
    writable = [target for source, target, mode in mounts(service) if not source.startswith(".") and not mode]
    trace = settings["storage"]["trace"]
    assert trace["backend"] == "local"
    for kind in ("local", "wal"):
        assert any(target in PurePosixPath(trace[kind]["path"]).parents for target in writable), kind
    assert settings["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "0.0.0.0:4317"
    port = settings["server"]["http_listen_port"]
    assert f"127.0.0.1:{port}/" in service["healthcheck"]["test"][-1]
    assert {f"http://tempo:{port}"} == {
        source["url"]
        for source in read(PARTS / "datasources.yml")["datasources"]
        if source["type"] == "tempo"
    }
    assert settings["usage_report"] == {"reporting_enabled": False}  # a demo tells nobody
