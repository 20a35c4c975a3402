"""Each harm does what it is named for, and the same to every model."""

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.judging.robustness import HARMS, as_markdown, robustness
from services.trainer.training.predictors import Answers
from shared.pipeline.crop import MID_GREY


@pytest.fixture
def face(drawn: Dataset) -> np.ndarray:
    return np.asarray(drawn.pixels[0])


@pytest.mark.parametrize("name", HARMS)
def test_every_harm_grows_with_its_strength(name: str, drawn: Dataset) -> None:
    harm, strengths = HARMS[name]
    assert len(strengths) == 5

    def distance(strength: float) -> float:
        changes = [
            np.abs(harm(face, strength, np.random.default_rng(1)) - face.astype(float)).mean()
            for face in drawn.pixels[:10]
        ]
        return float(np.mean(changes))

    distances = [distance(strength) for strength in strengths]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_covering_hides_the_named_part_only(face: np.ndarray, rng: np.random.Generator) -> None:
    eyes = HARMS["eyes covered, share"][0](face, 1.0, rng)
    assert (eyes[10:24] == MID_GREY).all()
    assert (eyes[:9] == face[:9]).all()
    assert (eyes[25:] == face[25:]).all()
    mouth = HARMS["mouth covered, share"][0](face, 1.0, rng)
    assert (mouth[30:45] == MID_GREY).all()
    assert (mouth[:29] == face[:29]).all()


def test_low_resolution_keeps_the_size(face: np.ndarray, rng: np.random.Generator) -> None:
    coarse = HARMS["low resolution, side in px"][0](face, 8, rng)
    assert coarse.shape == face.shape
    assert len(np.unique(coarse[::6, ::6])) < 200


def test_a_model_that_reads_brightness_suffers_from_light_alone(drawn: Dataset) -> None:
    part = drawn.split("train")
    means = {face.mean().round(3): label for face, label in zip(part.pixels, part.labels, strict=True)}

    def predict(faces: np.ndarray) -> Answers:
        return {"labels": np.eye(7, dtype=np.float32)[[means.get(face.mean().round(3), 0) for face in faces]]}

    result = robustness(predict, drawn, "train")
    assert result.answers["labels"].clean >= 0.9
    assert result.answers["labels"].harms["darker, factor"]["0.15"] < 0.3
    assert result == robustness(predict, drawn, "train")
    table = "\n".join(as_markdown(result))
    assert table.count("\n| ") == len(HARMS) + 1
