"""The manifests are what Kubernetes takes, and say the same as the rest of the project."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.api.settings import PREFIX, Settings
from tests.conftest import ROOT

FOLDER = ROOT / "deploy/kubernetes"
MANIFESTS = sorted(path for path in FOLDER.rglob("*.yaml") if path.name not in ("kustomization.yaml", "replicas.yaml"))
VERSIONS = ("1.28", "1.31", "1.34")


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_is_valid(path: Path, version: str) -> None:
    manifest = read(path)
    if manifest["apiVersion"].startswith("ray.io"):
        return  # test_rayjob.py
    if manifest["apiVersion"].startswith("monitoring.coreos.com"):
        assert manifest["spec"]["endpoints"][0]["port"] in {
            p["name"] for p in read(FOLDER / "base/service.yaml")["spec"]["ports"]
        }
        return
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_that_is_wrong_would_be_noticed() -> None:
    manifest = read(FOLDER / "base/deployment.yaml")
    manifest["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("kustomization.yaml")), ids=lambda path: path.parent.name)
def test_kustomizations_name_what_is_there_and_all_of_it(path: Path) -> None:
    kustomization = read(path)
    named = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", ()))]
    assert all((path.parent / name).exists() for name in named)
    assert {file.name for file in path.parent.glob("*.yaml")} - {"kustomization.yaml"} <= set(named)


def test_the_deployment_uses_real_settings_ports_and_the_image_s_user() -> None:
    (container,) = read(FOLDER / "base/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert set(values) <= known
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["metrics"] == int(values["MIEN_METRICS_PORT"])
    assert ports["http"] == Settings.model_fields["port"].default
    pod = read(FOLDER / "base/deployment.yaml")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False  # else the Service's name makes MIEN_PORT=tcp://…
    assert container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile.api").read_text()
    assert float(values["MIEN_DRAIN_DELAY_S"]) + 30 < pod["terminationGracePeriodSeconds"]


def test_selectors_select_the_pods() -> None:
    labels = read(FOLDER / "base/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    for name in ("service.yaml", "poddisruptionbudget.yaml", "networkpolicy.yaml"):
        spec = read(FOLDER / "base" / name)["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
