"""A model that reads each face and its mirror image, in one file."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.commands.arguments import GEOMETRY
from services.trainer.data.dataset import Dataset
from services.trainer.data.geometry import read_geometry
from services.trainer.judging.calibration import Calibration, calibrated
from services.trainer.shipping.export import export
from services.trainer.shipping.quantize import quantize
from services.trainer.training.initial import initialize
from services.trainer.training.networks import build
from services.trainer.training.predictors import keras_predictor, open_predictor
from shared.assembly import open_analyzer
from shared.manifest import load_manifest
from shared.pipeline.classify import Classifier
from shared.pipeline.preprocess import mirror_image


@pytest.fixture(scope="module")
def mirrored(run: Path, drawn: Dataset) -> Path:
    return export(run, drawn, read_geometry(GEOMETRY), run.parent / "models/mirrored", mirror=True).directory


@pytest.fixture(scope="module")
def small(mirrored: Path, drawn: Dataset) -> Path:
    """The same in INT8."""
    return quantize(mirrored, drawn, mirrored.parent / "mirrored-int8", max_loss=1).directory


@pytest.mark.parametrize("which", ["mirrored", "small"])
def test_a_face_and_its_mirror_image_get_the_same_answer(
    drawn: Dataset, which: str, request: pytest.FixtureRequest
) -> None:
    faces, predict = drawn.split("test").pixels, open_predictor(request.getfixturevalue(which))
    assert np.abs(predict(faces)["labels"] - predict(mirror_image(faces))["labels"]).max() < 1e-5


def test_it_is_the_geometric_mean_of_both_readings(run: Path, mirrored: Path, drawn: Dataset) -> None:
    faces = drawn.split("test").pixels
    once = open_predictor(run)
    mean = np.sqrt(once(faces)["labels"] * once(mirror_image(faces))["labels"])
    known = load_manifest(mirrored).answers["labels"]
    assert known.shift is not None
    expected = calibrated(mean, Calibration(known.temperature, known.shift))
    assert open_predictor(mirrored)(faces)["labels"] == pytest.approx(expected, abs=1e-4)


def test_the_manifest_says_so_and_the_service_does_not_read_it_twice_again(mirrored: Path, model: Path) -> None:
    assert load_manifest(mirrored).mirrored
    assert not load_manifest(model).mirrored
    assert isinstance(open_analyzer(mirrored, "haar", mirror=True).classifier, Classifier)
    assert not isinstance(open_analyzer(model, "haar", mirror=True).classifier, Classifier)


def test_training_can_begin_with_what_ships_of_it(run: Path, small: Path, drawn: Dataset) -> None:
    again = build("mien-small")
    initialize(again, [small], drawn.pixels)
    ours, theirs = (read(drawn.pixels)["labels"] for read in (keras_predictor(again), open_predictor(run)))
    assert np.abs(ours - theirs).mean() < 0.05  # what INT8 rounds
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.9
