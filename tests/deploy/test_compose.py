"""Compose: what runs together agrees, is bounded, and is not published by accident."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.api.settings import PREFIX, Settings
from tests.conftest import ROOT


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


SERVICES = read(ROOT / "docker-compose.yml")["services"]
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


def test_compose_and_prometheus_agree() -> None:
    assert set(SERVICES) == {"api", "prometheus", "grafana", "trainer"}
    assert set(SERVICES["api"]["environment"]) <= SETTINGS
    target = read(ROOT / "deploy/prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == ["api:8000"]
    assert SERVICES["trainer"]["profiles"] == ["train"]
    shared = {volume.split(":")[0] for volume in SERVICES["api"]["volumes"]}
    assert shared & {volume.split(":")[0] for volume in SERVICES["trainer"]["volumes"]} == {"models"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["cpus"]
    assert service["mem_limit"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "an image without a version"


@pytest.mark.parametrize("name", ["api", "trainer"])
def test_our_own_images_have_a_root_that_cannot_be_written(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["tmpfs"] == ["/tmp"]  # noqa: S108 # in the container


def test_ports_are_published_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_who_publishes_the_api_must_set_a_key() -> None:
    class Loader(yaml.SafeLoader):
        """Reads Compose's own tag, which replaces a list instead of adding to it."""

    def override(loader: Loader, node: yaml.SequenceNode) -> tuple[str, list[str]]:
        return "override", loader.construct_sequence(node)

    Loader.add_constructor("!override", override)
    api = yaml.load((ROOT / "docker-compose.public.yml").read_text(), Loader)["services"]["api"]  # noqa: S506 # it is safe
    how, ports = api["ports"]
    assert how == "override"
    assert [port.replace("127.0.0.1:", "") for port in SERVICES["api"]["ports"]] == ports
    assert api["environment"]["MIEN_API_KEYS"].startswith("${MIEN_API_KEYS:?")
