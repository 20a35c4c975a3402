"""The version is pyproject.toml's, wherever it is repeated."""

import re
import tomllib

import pytest

from services.api.app import VERSION
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_application_has_the_project_s_version() -> None:
    assert VERSION == PROJECT


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("Dockerfile.api", r"^ARG VERSION=(.+)$"),
        ("Dockerfile.trainer", r"^ARG VERSION=(.+)$"),
        ("Dockerfile.batch", r"^ARG VERSION=(.+)$"),
        ("deploy/kubernetes/archive/rayjob.yaml", r"image: mien-batch:(.+)$"),
        ("deploy/kubernetes/base/deployment.yaml", r"image: mien-api:(.+)$"),
        ("CHANGELOG.md", r"^## (\d\S+)"),
    ],
)
def test_files_that_repeat_the_version_agree(path: str, pattern: str) -> None:
    found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == PROJECT
