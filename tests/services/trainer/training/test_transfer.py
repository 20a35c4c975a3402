"""Pre-trained networks learn in two phases, and their ONNX is served like any other."""

import shutil
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.data.geometry import read_geometry
from services.trainer.errors import ConfigError
from services.trainer.shipping.export import export
from services.trainer.training.config import TrainConfig, TransferConfig
from services.trainer.training.networks import build
from services.trainer.training.train import Start, train
from services.trainer.training.transfer import BACKBONE, freeze
from services.trainer.training.workdir import Workdir
from shared.analysis import Options
from shared.analyzer import Analyzer
from shared.manifest import load_manifest
from shared.pictures import ImageLimits
from shared.pipeline.classify import open_classifier
from shared.pipeline.detect import HaarDetector
from tests.conftest import ROOT

CONFIG = TrainConfig(
    network="mobilenet-transfer", epochs=2, batch_size=28, transfer=TransferConfig(head_epochs=1, top_layers=6)
)


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    backbone = model.get_layer(BACKBONE)
    return {layer.name: layer.get_weights()[0] for layer in backbone.layers if layer.get_weights()}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose normalization fits them, as training would have left it: signals reach the end."""
    backbone = build("mobilenet-transfer").get_layer(BACKBONE)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    backbone(np.random.default_rng(0).normal(size=(8, 96, 96, 3)).astype(np.float32), training=True)
    path = tmp_path_factory.mktemp("pretrained") / "mobilenet.weights.h5"
    backbone.save_weights(path)
    return path


def test_the_head_learns_first_then_the_top_layers(drawn: Dataset, tmp_path: Path, pretrained: Path) -> None:
    before = kernels(build("mobilenet-transfer", str(pretrained)))
    train(CONFIG, drawn, tmp_path / "run", Start(pretrained=str(pretrained)), quiet=True)
    with np.load(tmp_path / "run/checkpoint.npz") as state:
        model = build("mobilenet-transfer")
        for number, variable in enumerate(model.variables):
            variable.assign(state[f"model{number}"])
    after = kernels(model)
    changed = {name for name in after if not np.allclose(after[name], before[name])}
    assert changed == {"conv_dw_13", "conv_pw_13"}


def test_a_run_stopped_between_its_phases_goes_on(drawn: Dataset, tmp_path: Path) -> None:
    """What the folder holds after the first phase is copied while the second runs."""

    def copy_after_the_first_epoch() -> None:
        while not (tmp_path / "straight/history.json").exists():
            time.sleep(0.01)
        shutil.copytree(tmp_path / "straight", tmp_path / "stopped", ignore=shutil.ignore_patterns(".*"))

    copying = threading.Thread(target=copy_after_the_first_epoch)
    copying.start()
    straight = train(CONFIG, drawn, tmp_path / "straight", Start(pretrained=None), quiet=True)
    copying.join()
    assert [record["epoch"] for record in Workdir(tmp_path / "stopped").read_history()] == [1]
    resumed = train(CONFIG, drawn, tmp_path / "stopped", Start(pretrained=None), quiet=True)
    assert [r["loss"] for r in resumed] == pytest.approx([r["loss"] for r in straight], abs=1e-4)


def test_the_exported_model_serves(drawn: Dataset, tmp_path: Path, jpeg: bytes) -> None:
    train(CONFIG, drawn, tmp_path / "run", Start(pretrained=None), quiet=True)
    directory = export(
        tmp_path / "run", drawn, read_geometry(ROOT / "services/trainer/data/geometry.json"), tmp_path / "model"
    ).directory
    manifest = load_manifest(directory)
    analyzer = Analyzer(manifest, open_classifier(directory, manifest, 1), HaarDetector(1024), ImageLimits())
    (face,) = analyzer.analyze(jpeg, Options()).faces
    assert sum(face.probabilities) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"), [("mobilenet-transfer", [-1, 1]), ("vgg16-transfer", [-103.939, 151.061])]
)
def test_the_network_s_own_preprocessing_is_inside(name: str, expected: list[float]) -> None:
    model = build(name)
    scaled = keras.Model(
        model.inputs[0], next(layer for layer in model.layers if type(layer).__name__ == "Rescaling").output
    )
    black_and_white = np.stack([np.zeros((48, 48, 1)), np.ones((48, 48, 1))]).astype(np.float32)
    values = keras.ops.convert_to_numpy(scaled(black_and_white))
    assert values.shape == (2, 96, 96, 3)
    assert values[:, 0, 0, 0] == pytest.approx(expected, abs=1e-3)


def test_normalization_stays_as_it_is() -> None:
    model = build("mobilenet-transfer")
    freeze(model, 20)
    backbone = model.get_layer(BACKBONE)
    learning = [layer for layer in backbone.layers if layer.trainable and layer.weights]
    assert learning
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in learning)


def test_weights_that_cannot_be_had_say_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise Exception("URL fetch failure: no network")

    monkeypatch.setattr("keras.src.applications.mobilenet.file_utils.get_file", offline)
    with pytest.raises(ConfigError, match=r"--weights PATH.*allows the download.*--weights none"):
        build("mobilenet-transfer", "imagenet")
    (tmp_path / "w.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="could not be read from"):
        build("mobilenet-transfer", str(tmp_path / "w.weights.h5"))


def test_two_phases_need_their_section(drawn: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[transfer\]"):
        train(CONFIG.model_copy(update={"transfer": None}), drawn, tmp_path, Start(pretrained=None), quiet=True)
