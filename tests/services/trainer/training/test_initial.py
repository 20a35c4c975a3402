"""A run starts from what a model directory holds, and only from the same network."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.errors import ConfigError
from services.trainer.judging.calibration import Calibration, calibrated
from services.trainer.training.initial import initialize
from services.trainer.training.networks import build
from services.trainer.training.predictors import HEADS, for_head, keras_predictor, mirrored, open_predictor
from shared.manifest import load_manifest
from tests.conftest import SHIPPED_MODEL
from tests.drawn import draw_face


@pytest.fixture
def faces(rng: np.random.Generator) -> np.ndarray:
    return np.stack([draw_face(emotion, rng) for emotion in ("happy", "sad", "surprise", "neutral") for _ in range(8)])


def test_a_network_of_two_answers_begins_as_what_ships(faces: np.ndarray) -> None:
    model, manifest = build("mien-base:0.9", heads=HEADS), load_manifest(SHIPPED_MODEL)
    initialize(model, [SHIPPED_MODEL], faces)
    shipped = open_predictor(SHIPPED_MODEL)(faces)
    for name, answer in mirrored(keras_predictor(model))(faces).items():
        known = manifest.answers[name]
        ours = calibrated(answer, Calibration(known.temperature, known.shift or Calibration(1).shift))
        assert (ours.argmax(axis=1) == for_head(shipped, name).argmax(axis=1)).mean() >= 0.9
        assert np.abs(ours - for_head(shipped, name)).mean() < 0.03  # up to INT8


def test_another_network_or_nothing_is_refused(faces: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no weights for the network mien-small"):
        initialize(build("mien-small"), [SHIPPED_MODEL], faces)
    with pytest.raises(ConfigError, match=r"no \.keras file and no model directory"):
        initialize(build("mien-small"), [tmp_path / "nothing"], faces)
    (tmp_path / "text.keras").write_text("weights")
    with pytest.raises(ConfigError, match="no weights"):
        initialize(build("mien-small"), [tmp_path / "text.keras"], faces)


def test_a_pair_begins_as_the_mean_of_its_two_branches(faces: np.ndarray, tmp_path: Path) -> None:
    branches = [build(name, heads=HEADS) for name in ("mien-base", "mien-small")]
    for number, branch in enumerate(branches):
        branch.save(tmp_path / f"{number}.keras")
    pair = build("mien-pair", heads=HEADS)
    initialize(pair, [tmp_path / "0.keras", tmp_path / "1.keras"], faces)
    answers = [keras_predictor(branch)(faces) for branch in branches]
    for name, answer in keras_predictor(pair)(faces).items():
        mean = np.sqrt(answers[0][name] * answers[1][name])
        assert np.abs(answer - mean / mean.sum(axis=1, keepdims=True)).max() < 1e-5


def test_a_pair_of_one_network_or_of_three_is_refused(faces: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="starts from 2"):
        initialize(build("mien-pair"), [tmp_path / "a", tmp_path / "b", tmp_path / "c"], faces)
    with pytest.raises(ConfigError, match="starts from 1"):
        initialize(build("mien-small"), [tmp_path / "a", tmp_path / "b"], faces)
