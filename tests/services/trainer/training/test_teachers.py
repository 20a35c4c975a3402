"""Trained models teach another: their answers are part of its targets, and the run remembers who they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.data.faces import Faces
from services.trainer.errors import ConfigError, DataError, WorkdirError
from services.trainer.training.batches import Lessons, TrainingBatches
from services.trainer.training.config import TargetConfig, TrainConfig
from services.trainer.training.predictors import open_predictor
from services.trainer.training.teachers import Taught, teach, together
from services.trainer.training.train import Start, train
from services.trainer.training.workdir import Workdir
from shared.manifest import Source

SAD_OR_ANGRY = np.array([0.4, 0, 0, 0, 0, 0.6, 0], np.float32)


@pytest.fixture
def teacher(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> Path:
    train(brief.model_copy(update={"epochs": 1}), drawn, tmp_path / "teacher", quiet=True)
    return tmp_path / "teacher"


@pytest.fixture
def pupil(brief: TrainConfig) -> TrainConfig:
    return brief.model_copy(update={"epochs": 1, "target": TargetConfig(teacher_weight=0.25)})


@pytest.fixture
def strangers(drawn: Dataset) -> Faces:
    """Faces that only teachers know, with a frame of eight pixels around them."""
    return Faces(np.pad(drawn.split("train").pixels[:20], ((0, 0), (8, 8), (8, 8)), mode="edge"), "strangers")


def told(data: Dataset, faces: Faces | None = None, answer: np.ndarray = SAD_OR_ANGRY) -> Taught:
    """Teachers that say the same of every face."""
    counts = (len(data.split("train")), len(faces.pixels) if faces else 0)
    said = [np.tile(answer, (count, 2, 1)) for count in counts]
    return Taught(said[0], said[1], data.sha256, faces.sha256 if faces else "", (Source(name="t", sha256="0" * 64),))


def test_teachers_say_the_mean_over_views_of_a_face_and_their_mirror_images(
    drawn: Dataset, strangers: Faces, teacher: Path
) -> None:
    taught = teach([teacher, teacher], drawn, strangers)
    mirrored = teach([teacher], replace(drawn, pixels=drawn.pixels[:, :, ::-1].copy()), strangers)
    assert taught.train.shape == (len(drawn.split("train")), 2, 7)
    assert taught.train.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert (taught.train[:, 0] == taught.train[:, 1]).all()  # a teacher with one answer gives it to both
    assert np.abs(taught.train - mirrored.train).max() < 0.02  # shifted views are not quite mirror images
    assert np.abs(taught.train[:, 0] - open_predictor(teacher)(drawn.split("train").pixels)["labels"]).max() > 1e-4
    assert np.allclose(taught.faces[:, 0], taught.train[:20, 0], atol=0.02)  # the same faces, framed


def test_teachers_are_heard_on_other_faces_as_they_teach(drawn: Dataset, teacher: Path) -> None:
    heard = together([teacher], drawn.split("train").pixels)
    taught = teach([teacher], drawn, None).train
    assert list(heard) == ["labels", "people"]
    assert np.abs(heard["people"] - taught[:, 1]).max() < 1e-6


def test_what_teachers_say_is_kept_for_these_faces_only(drawn: Dataset, strangers: Faces, tmp_path: Path) -> None:
    told(drawn, strangers).save(tmp_path / "taught.npz")
    kept = Taught.load(tmp_path / "taught.npz", drawn, strangers)
    assert np.allclose(kept.faces[0, 0], SAD_OR_ANGRY, atol=1e-3)
    assert kept.teachers == told(drawn).teachers
    with pytest.raises(DataError, match="other unlabeled faces"):
        Taught.load(tmp_path / "taught.npz", drawn, None)
    with pytest.raises(DataError, match="other data file"):
        Taught.load(tmp_path / "taught.npz", drawn.split("test"), strangers)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="damaged"):
        Taught.load(tmp_path / "broken.npz", drawn, strangers)


def test_what_older_trainers_kept_is_read(drawn: Dataset, tmp_path: Path) -> None:
    told(drawn).save(tmp_path / "taught.npz")
    with np.load(tmp_path / "taught.npz") as stored:
        parts = {name: stored[name] for name in stored.files}
    teachers = [{"name": "t", "sha256": "0" * 64, "pretrained": "imagenet"}]
    about = json.loads(str(parts.pop("about"))) | {"teachers": teachers}
    np.savez(tmp_path / "old.npz", about=np.array(json.dumps(about)), **parts)
    assert Taught.load(tmp_path / "old.npz", drawn, None).teachers == (Source.model_validate(teachers[0]),)
    about["teachers"] = ["t"]
    np.savez(tmp_path / "odd.npz", about=np.array(json.dumps(about)), **parts)
    with pytest.raises(DataError, match="damaged"):
        Taught.load(tmp_path / "odd.npz", drawn, None)


def test_targets_give_way_to_the_teachers_by_their_weight(
    drawn: Dataset, brief: TrainConfig, pupil: TrainConfig
) -> None:
    train_split = drawn.split("train")
    alone = TrainingBatches(Lessons(train_split), brief)
    helped = TrainingBatches(Lessons(train_split, told(drawn)), pupil)
    for (faces, targets), (same, mixed) in zip((alone[0], alone[2]), (helped[0], helped[2]), strict=True):
        assert (faces == same).all()
        assert np.allclose(mixed, 0.75 * targets + 0.25 * SAD_OR_ANGRY, atol=1e-6)


def test_unlabeled_faces_make_up_their_share_and_ask_for_what_teachers_say(
    drawn: Dataset, strangers: Faces, brief: TrainConfig
) -> None:
    config = brief.model_copy(
        update={"unlabeled_share": 0.5, "target": TargetConfig(teacher_weight=0.5), "batch_size": 8}
    )
    still = config.model_copy(update={"augment": type(config.augment)()})
    batches = TrainingBatches(Lessons(drawn.split("train"), told(drawn, strangers), strangers), still)
    assert len(batches) == 2 * len(drawn.split("train")) // 8
    faces, targets = (np.concatenate(parts) for parts in zip(*(batches[i] for i in range(len(batches))), strict=True))
    unlabeled = np.isclose(targets, SAD_OR_ANGRY, atol=1e-5).all(axis=1)
    assert unlabeled.mean() == pytest.approx(0.5, abs=0.01)
    known = {face.tobytes() for face in strangers.middle}
    assert {np.rint(face[..., 0] * 255).astype(np.uint8).tobytes() for face in faces[unlabeled]} <= known


def test_two_answers_are_asked_for_two_things(drawn: Dataset, brief: TrainConfig) -> None:
    votes = np.zeros((len(drawn), 10), np.uint8)
    votes[:, 0] = 10  # raters see neutral everywhere
    config = brief.model_copy(update={"people": TargetConfig(original_weight=0)})
    batches = TrainingBatches(Lessons(replace(drawn, votes=votes).split("train")), config)
    _, (labels, people) = batches[0]
    assert labels.shape == people.shape == (16, 7)
    assert people[:, 4] == pytest.approx(1)
    assert labels[:, 4].mean() < 0.5


def test_with_consistency_a_batch_shows_each_face_twice(drawn: Dataset, brief: TrainConfig) -> None:
    batches = TrainingBatches(Lessons(drawn.split("train")), brief.model_copy(update={"consistency": 1.0}))
    faces, targets = batches[0]
    assert (targets[:8] == targets[8:]).all()
    assert (faces[:8] != faces[8:]).any(axis=(1, 2, 3)).all()


def test_a_run_remembers_its_teachers(drawn: Dataset, pupil: TrainConfig, tmp_path: Path) -> None:
    train(pupil, drawn, tmp_path / "run", Start(taught=told(drawn)), quiet=True)
    run = Workdir(tmp_path / "run").read_run()
    assert run["teachers"] == [{"name": "t", "sha256": "0" * 64}]
    others = replace(told(drawn), teachers=(Source(name="t", sha256="1" * 64),))
    with pytest.raises(WorkdirError, match="teachers_sha256"):
        train(pupil, drawn, tmp_path / "run", Start(taught=others), quiet=True)


def test_teachers_that_cannot_be_leave_the_folder_free(
    drawn: Dataset, brief: TrainConfig, pupil: TrainConfig, tmp_path: Path
) -> None:
    unknown = brief.model_copy(update={"unlabeled_share": 0.5})
    for config, start in ((pupil, Start()), (brief, Start(taught=told(drawn))), (unknown, Start())):
        with pytest.raises(ConfigError, match=r"need each other|needs --faces"):
            train(config, drawn, tmp_path / "run", start, quiet=True)
    with pytest.raises(WorkdirError, match="holds no run"):
        teach([tmp_path / "nobody"], drawn, None)
    assert not (tmp_path / "run").exists()


def test_two_answers_are_trained_and_validated_each_on_its_own(
    drawn: Dataset, brief: TrainConfig, tmp_path: Path
) -> None:
    votes = np.zeros((len(drawn), 10), np.uint8)
    votes[np.arange(len(drawn)), [[4, 5, 6, 1, 0, 3, 2][label] for label in drawn.labels]] = 10
    config = brief.model_copy(
        update={"network": "mien-small:0.1", "epochs": 1, "consistency": 0.5, "people": TargetConfig(original_weight=0)}
    )
    history = train(config, replace(drawn, votes=votes), tmp_path / "run", quiet=True)
    assert {"accuracy", "val_accuracy", "val_consensus"} <= set(history[0])
    assert [output.shape for output in Workdir(tmp_path / "run").load_best().outputs] == [(None, 7), (None, 7)]
