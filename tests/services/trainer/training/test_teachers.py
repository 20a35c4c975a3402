"""Trained models teach another: their answers are part of its targets, and the run remembers who they were."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.errors import ConfigError, WorkdirError
from services.trainer.training.batches import TrainingBatches
from services.trainer.training.config import TargetConfig, TrainConfig
from services.trainer.training.predictors import open_predictor
from services.trainer.training.teachers import taught_targets
from services.trainer.training.train import Start, train
from services.trainer.training.workdir import Workdir
from shared.manifest import sha256_of


@pytest.fixture
def teacher(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> Path:
    train(brief.model_copy(update={"epochs": 1}), drawn, tmp_path / "teacher", quiet=True)
    return tmp_path / "teacher"


@pytest.fixture
def taught(brief: TrainConfig) -> TrainConfig:
    return brief.model_copy(update={"epochs": 1, "target": TargetConfig(teacher_weight=0.25)})


def test_teachers_say_the_mean_of_each_face_and_its_mirror_image(drawn: Dataset, teacher: Path) -> None:
    faces = drawn.split("train").pixels
    predict, said = open_predictor(teacher), taught_targets([teacher, teacher], faces)
    assert np.allclose(said, (predict(faces) + predict(faces[:, :, ::-1].copy())) / 2, atol=1e-6)


def test_targets_give_way_to_the_teachers_by_their_weight(
    drawn: Dataset, brief: TrainConfig, taught: TrainConfig
) -> None:
    said = np.array([0.4, 0, 0, 0.6, 0, 0, 0], np.float32)
    alone = TrainingBatches(drawn.split("train"), brief)
    helped = TrainingBatches(drawn.split("train"), taught, lambda faces: np.tile(said, (len(faces), 1)))
    for (faces, targets), (same, mixed) in zip((alone[0], alone[2]), (helped[0], helped[2]), strict=True):
        assert (faces == same).all()
        assert np.allclose(mixed, 0.75 * targets + 0.25 * said, atol=1e-6)


def test_a_run_remembers_its_teachers(drawn: Dataset, teacher: Path, taught: TrainConfig, tmp_path: Path) -> None:
    train(taught, drawn, tmp_path / "run", Start(teachers=(teacher,)), quiet=True)
    assert Workdir(tmp_path / "run").read_run()["teachers_sha256"] == [sha256_of(teacher / "best.keras")]
    with pytest.raises(WorkdirError, match="teachers_sha256"):
        train(taught, drawn, tmp_path / "run", Start(teachers=(teacher, teacher)), quiet=True)


def test_teachers_that_cannot_be_leave_the_folder_free(
    drawn: Dataset, brief: TrainConfig, teacher: Path, taught: TrainConfig, tmp_path: Path
) -> None:
    for config, start in ((taught, Start()), (brief, Start(teachers=(teacher,)))):
        with pytest.raises(ConfigError, match="need each other"):
            train(config, drawn, tmp_path / "run", start, quiet=True)
    with pytest.raises(WorkdirError, match="holds no run"):
        train(taught, drawn, tmp_path / "run", Start(teachers=(tmp_path / "nobody",)), quiet=True)
    assert not (tmp_path / "run").exists()
