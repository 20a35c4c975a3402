"""What a person meets who trains for the first time."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.trainer.__main__ import main
from services.trainer.data.dataset import Dataset
from services.trainer.training.config import OptimizerConfig, load_config
from services.trainer.training.train import build_optimizer
from shared.manifest import load_manifest
from tests.conftest import ROOT, SHIPPED_MODEL


def test_a_wrong_config_is_told_without_waiting_for_keras(tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text('network = "mien-small"\nepochs = 3\nsead = 1\n')
    program = (
        "import sys; from services.trainer.__main__ import main; "
        f"status = main(['train', '--config', {str(config)!r}, '--workdir', {str(tmp_path / 'run')!r}]); "
        "print(status, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "sead" in done.stderr


def test_nothing_but_the_answer_is_said(drawn: Dataset, tmp_path: Path) -> None:
    drawn.save(tmp_path / "drawn.npz")
    data = str(tmp_path / "drawn.npz")
    command = [sys.executable, "-m", "services.trainer", "evaluate", str(SHIPPED_MODEL), "--data", data]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("split")


@pytest.mark.parametrize("keep", ["1.5", "0", "-1", "half", "nan"])
def test_a_wrong_share_of_channels_is_refused(keep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "--workdir", str(tmp_path), "--keep", keep, "--out", str(tmp_path / "out")])
    assert f"{keep} is no share" in capsys.readouterr().err


def test_a_detector_that_would_not_be_used_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path), "--yunet", "yunet.onnx", "--out", str(tmp_path / "data.npz")]) == 2
    assert "add --detect" in capsys.readouterr().err


def test_the_configuration_for_own_faces_is_of_the_network_that_ships() -> None:
    config = load_config(ROOT / "services/trainer/configs/own-faces.toml")
    assert config.network == load_manifest(SHIPPED_MODEL).training.network


@pytest.mark.parametrize(("epochs", "momentum"), [(30, 0.998), (1, 0.985)])
def test_the_average_of_weights_reaches_back_over_a_share_of_the_steps(epochs: int, momentum: float) -> None:
    optimizer = build_optimizer(OptimizerConfig(ema=0.998), epochs, steps_per_epoch=449)
    assert optimizer.ema_momentum == pytest.approx(momentum, abs=5e-4)
