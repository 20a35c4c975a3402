"""Who trains where."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.errors import ConfigError
from services.trainer.training.devices import use_devices
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("many", "give a number"),
        ("0", "give a number"),
        ("gpu:9", "9 asked for, the .* backend sees"),
        ("tpu:1", "sees"),
    ],
)
def test_devices_that_are_not_there_are_told(wanted: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        use_devices(wanted, batch_size=16)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_same_configuration_trains_on_another_backend(
    backend: str, drawn_csv: Path, drawn: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed; `pip install {backend}` adds it")
    (tmp_path / "run.toml").write_text('network = "tiny"\nepochs = 1\nbatch_size = 14\n')
    command: list[str | Path] = [sys.executable, "-m", "services.trainer", "train", "--config", tmp_path / "run.toml"]
    arguments: list[str | Path] = ["--data", drawn_csv.with_suffix(".npz"), "--workdir", tmp_path / "run"]
    devices = ["--devices", "cpu:2"] if backend == "jax" else []
    environment = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [*command, *arguments, *devices], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/run.json").read_text())["backend"] == backend
