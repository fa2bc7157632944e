"""deploy/compose.yaml: by its schema, and that its parts fit together. The images themselves are not run here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.monitoring import run_tool
from tests.kafka_fixtures import apache_or_skip
from worker.broker import artifacts
from worker.broker.ports import LOOPBACK, free_port
from worker.commands.run import CLOSING_GRACE
from worker.config import load

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.deploy

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES = COMPOSE["services"]


def content(name: str) -> str:
    """A config that stands in the file; `$$` is compose's for `$`."""
    return COMPOSE["configs"][name]["content"].replace("$$", "$")


def test_it_is_a_compose_file():
    """By the specification's own schema."""
    pytest.importorskip("check_jsonschema", reason="needs the group deploy")
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", FILE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_is_mounted_is_there():
    """Each config and volume is defined and used, and files are where the file says."""
    mounted = {config["source"] for service in SERVICES.values() for config in service.get("configs", [])}
    assert mounted == set(COMPOSE["configs"])
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert volumes == set(COMPOSE["volumes"])
    for config in COMPOSE["configs"].values():
        assert "content" in config or (FILE.parent / config["file"]).is_file()
    assert (FILE.parent / SERVICES["winnow"]["build"] / "Dockerfile").is_file()


def test_nothing_listens_beyond_this_machine():
    """Nothing there has a login."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_worker_finds_brokers_and_topics(monkeypatch: pytest.MonkeyPatch):
    """Its settings load; topics are those that are made before it, brokers where Kafka says it is."""
    worker = SERVICES["winnow"]
    for name, value in worker["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load()
    made = re.search(r"for topic in (.*); do", SERVICES["topics"]["command"][0])
    assert made is not None
    assert set(made[1].split()) == {*settings.kafka.input_topics, *settings.written_topics}
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://{settings.kafka.bootstrap_servers}" in advertised.split(",")
    assert worker["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    grace = float(worker["stop_grace_period"].removesuffix("s"))
    assert grace > settings.shutdown.drain_ms / 1000 + CLOSING_GRACE
    assert worker["expose"] == [str(settings.serving.port)]
    assert f":{settings.serving.port}/healthz" in worker["healthcheck"]["test"][-1]


def test_the_worker_has_no_more_rights_than_on_kubernetes():
    """Read-only root, no capabilities, no new privileges, a bound on cores and memory."""
    worker = SERVICES["winnow"]
    assert worker["read_only"] is True
    assert worker["cap_drop"] == ["ALL"]
    assert worker["security_opt"] == ["no-new-privileges:true"]
    assert worker["cpus"]
    assert worker["mem_limit"]


def test_prometheus_takes_its_configuration(tmp_path: Path):
    """By promtool, with the alerts; every worker is scraped at its port, under whatever number there are."""
    configuration = yaml.safe_load(content("prometheus"))
    targets = {config["target"]: config["source"] for config in SERVICES["prometheus"]["configs"]}
    for number, rules in enumerate(configuration["rule_files"]):
        copied = tmp_path / f"{number}.yaml"
        shutil.copyfile(FILE.parent / COMPOSE["configs"][targets[rules]]["file"], copied)
        configuration["rule_files"][number] = str(copied)
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration), "utf-8")
    assert "SUCCESS" in run_tool("promtool", "check", "config", str(file))
    (scraped,) = [found for job in configuration["scrape_configs"] for found in job["dns_sd_configs"]]
    assert scraped["names"] == ["winnow"]
    assert [str(scraped["port"])] == SERVICES["winnow"]["expose"]
    assert f"--config.file={next(iter(targets))}" in SERVICES["prometheus"]["command"]


def test_grafana_finds_prometheus_and_the_dashboard():
    """The source is the other service at its port; the folder that is read holds the dashboard, the first page."""
    (source,) = yaml.safe_load(content("datasource"))["datasources"]
    address = urlsplit(source["url"])
    assert address.hostname in SERVICES
    assert SERVICES[address.hostname]["ports"] == [f"127.0.0.1:{address.port}:{address.port}"]
    (provider,) = yaml.safe_load(content("dashboards"))["providers"]
    targets = {config["source"]: config["target"] for config in SERVICES["grafana"]["configs"]}
    assert str(Path(targets["dashboard"]).parent) == provider["options"]["path"]
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == targets["dashboard"]
    for name, folder in (("datasource", "datasources"), ("dashboards", "dashboards")):
        assert Path(targets[name]).parent == Path("/etc/grafana/provisioning") / folder


def test_a_real_kafka_starts_with_its_settings():
    """Those of the environment as the image makes properties of them, with free ports and this machine's name."""
    assert SERVICES["kafka"]["image"] == SERVICES["topics"]["image"] == f"apache/kafka:{artifacts.kafka_version()}"
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    given.pop("log.dirs")
    ports = {name: free_port() for name in ("9092", "9093", "29092")}
    for name in ("listeners", "advertised.listeners", "controller.quorum.voters"):
        for port, free in ports.items():
            given[name] = re.sub(rf"(?<=[/@])[a-z]*:{port}\b", f"{LOOPBACK}:{free}", given[name])
    with apache_or_skip(properties=given, port=ports["9092"]) as kafka:
        kafka.create_topics({"messages": 6})
        assert sorted(brokers(f"{LOOPBACK}:{ports['29092']}")) == [f"{LOOPBACK}:{ports['29092']}"]


def brokers(servers: str) -> Iterator[str]:
    """The addresses that a client is told at one listener."""
    from confluent_kafka.admin import AdminClient

    metadata: Any = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=10)
    assert "messages" in metadata.topics
    return (f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())
