"""A run's folder: what it refuses, what it tells, and which epoch it keeps."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.errors import WorkdirError
from services.trainer.training.config import TargetConfig, TrainConfig
from services.trainer.training.train import train
from services.trainer.training.workdir import Workdir, best_epoch, merit


def test_a_finished_run_is_not_trained_further(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    history = train(brief, drawn, tmp_path, quiet=True)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    assert train(brief, drawn, tmp_path, quiet=True) == history
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


def test_the_work_directory_of_another_run_is_refused(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    train(brief.model_copy(update={"epochs": 1}), drawn, tmp_path, quiet=True)
    with pytest.raises(WorkdirError, match=r"config\.epochs is 1 there and 3 here"):
        train(brief, drawn, tmp_path, quiet=True)
    with pytest.raises(WorkdirError, match="data_sha256"):
        train(brief.model_copy(update={"epochs": 1}), drawn.part(np.arange(98) > 2), tmp_path, quiet=True)


def test_a_damaged_checkpoint_is_told(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    train(brief.model_copy(update={"epochs": 1}), drawn, tmp_path, quiet=True)
    whole = (tmp_path / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorkdirError, match="damaged"):
        train(brief.model_copy(update={"epochs": 1}), drawn, tmp_path, quiet=True)


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="holds no run"):
        Workdir(tmp_path).read_run()
    with pytest.raises(WorkdirError, match="holds no run"):
        Workdir(tmp_path).load_best()


def test_a_run_killed_before_its_first_epoch_counts_has_no_model(
    drawn: Dataset, brief: TrainConfig, tmp_path: Path
) -> None:
    train(brief.model_copy(update={"epochs": 1}), drawn, tmp_path, quiet=True)
    for name in ("checkpoint.npz", "history.json"):  # what is written after best.keras
        (tmp_path / name).unlink()
    with pytest.raises(WorkdirError, match="no trained model yet"):
        Workdir(tmp_path).load_best()


def test_histories_without_consensus_are_compared_by_accuracy(brief: TrainConfig) -> None:
    old, new = {"epoch": 1, "val_accuracy": 0.69}, {"epoch": 2, "val_accuracy": 0.6, "val_consensus": 0.9}
    config = brief.model_copy(update={"target": TargetConfig(original_weight=0.5)})
    assert best_epoch([old, new], config) is old
    assert best_epoch([old | {"val_consensus": 0.7}, new], config) is new


def test_the_best_epoch_answers_to_what_was_asked_for(brief: TrainConfig) -> None:
    record = {"val_accuracy": 0.6, "val_consensus": 0.8}
    for weight, expected in ((1.0, 0.6), (0.25, 0.75)):
        config = brief.model_copy(update={"target": TargetConfig(original_weight=weight)})
        assert merit(record, config) == pytest.approx(expected)
