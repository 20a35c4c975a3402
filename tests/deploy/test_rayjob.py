"""The archive's RayJob: pods that Kubernetes takes, a command that exists, and the image's user."""

import re
import shlex
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.batch.__main__ import _parser
from tests.conftest import ROOT
from tests.deploy.test_kubernetes import VERSIONS

JOB: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kubernetes/archive/rayjob.yaml").read_text())
CLUSTER: dict[str, Any] = JOB["spec"]["rayClusterSpec"]
TEMPLATES = [CLUSTER["headGroupSpec"]["template"], *(group["template"] for group in CLUSTER["workerGroupSpecs"])]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("template", TEMPLATES, ids=["head", "workers"])
def test_its_pods_are_valid_and_run_without_privileges(template: dict[str, Any], version: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, version, strict=True)
    assert f"USER {pod['spec']['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile.batch").read_text()
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_it_runs_the_command_that_there_is_on_the_cluster_s_cores() -> None:
    python, m, module, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert (python, m, module) == ("python", "-m", "services.batch")
    options = _parser().parse_args(arguments)
    assert options.address == "auto"
    assert options.out.startswith("s3://")  # each node reaches it


def test_head_and_workers_have_the_same_ray_as_we_install() -> None:
    least, below = re.search(r"ray\[data\]>=([\d.]+),<([\d.]+)", (ROOT / "pyproject.toml").read_text()).groups()  # type: ignore[union-attr] # it is there
    numbers = [tuple(map(int, text.split("."))) for text in (least, CLUSTER["rayVersion"], below)]
    assert numbers[0] <= numbers[1] < numbers[2]
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # losing a worker must not end the job
