"""Training learns, resumes as if nothing had happened, and keeps what it has."""

import dataclasses
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.errors import ConfigError, TrainingDiverged, TrainingInterrupted, WorkdirError
from services.trainer.training import networks
from services.trainer.training.ahead import made_ahead
from services.trainer.training.batches import Lessons, TrainingBatches
from services.trainer.training.config import OptimizerConfig, TrainConfig
from services.trainer.training.predictors import keras_predictor
from services.trainer.training.train import Start, build_optimizer, train
from services.trainer.training.workdir import Workdir
from shared.emotions import EMOTIONS
from tests.conftest import ROOT


def weights(workdir: Path) -> dict[str, np.ndarray]:
    with np.load(workdir / "checkpoint.npz") as state:
        return {name: state[name] for name in state.files if name != "history"}


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


@pytest.mark.parametrize("name", [name for name in networks.NETWORKS if name not in networks.BRANCHES])
def test_one_true_step_of_every_network(name: str, drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    config = brief.model_copy(update={"network": name, "epochs": 1})
    (record,) = train(config, drawn, tmp_path, quiet=True)
    assert np.isfinite(record["loss"])
    assert "Total params" in (tmp_path / "summary.txt").read_text()


def test_a_run_writes_down_what_it_is(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    history = train(brief, drawn, tmp_path, quiet=True)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["config"] == brief.model_dump(mode="json")
    assert run["data_sha256"] == drawn.sha256
    assert set(run) >= {"commit", "backend", "device", "versions", "started"}
    assert (run["pretrained"], run["init_sha256"]) == (None, None)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert json.loads((tmp_path / "history.json").read_text()) == history


def test_several_workers_make_the_same_batches(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    alone = train(brief, drawn, tmp_path / "alone", quiet=True)
    several = train(brief, drawn, tmp_path / "several", quiet=True, workers=2)
    assert without_seconds(several) == without_seconds(alone)


def test_a_worker_that_dies_is_told(drawn: Dataset, brief: TrainConfig) -> None:
    def train_until_one_dies() -> None:
        with made_ahead(TrainingBatches(Lessons(drawn.split("train")), brief), workers=2) as batches:
            batches[0]
            multiprocessing.active_children()[0].kill()
            try:
                for index in range(2 * len(batches)):
                    batches[index % len(batches)]
            except (EOFError, OSError) as error:
                raise RuntimeError("as a backend wraps it") from error

    with pytest.raises(TrainingInterrupted, match="the same command goes on"):
        train_until_one_dies()


def test_the_best_model_is_kept_without_its_optimizer(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    train(brief, drawn, tmp_path, quiet=True)
    with zipfile.ZipFile(tmp_path / "best.keras") as stored, stored.open("model.weights.h5") as file:
        assert "optimizer" not in h5py.File(io.BytesIO(file.read()))


def test_tensorboard_shows_training_and_validation(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = train(brief.model_copy(update={"tensorboard": True}), drawn, tmp_path, quiet=True)
    for folder, tag, key in (("train", "epoch_accuracy", "accuracy"), ("validation", "epoch_loss", "val_loss")):
        events = EventAccumulator(str(tmp_path / "tensorboard" / folder), size_guidance={"tensors": 0}).Reload()
        shown = [float(np.frombuffer(e.tensor_proto.tensor_content, np.float32)[0]) for e in events.Tensors(tag)]
        assert shown == pytest.approx([record[key] for record in history], abs=1e-5)


def test_consensus_is_what_the_raters_see(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    votes = np.zeros((len(drawn), 10), np.uint8)
    votes[:, VOTE_COLUMNS.index("happiness")] = 10  # whatever the label says
    data = dataclasses.replace(drawn, votes=votes)
    (record,) = train(brief.model_copy(update={"epochs": 1}), data, tmp_path, quiet=True)
    answers = keras_predictor(Workdir(tmp_path).load_best())(data.split("validation").pixels)
    assert record["val_consensus"] == pytest.approx(
        (answers["labels"].argmax(axis=1) == EMOTIONS.index("happy")).mean()
    )


def test_a_killed_run_goes_on_as_if_it_had_not_been(drawn: Dataset, drawn_csv: Path, tmp_path: Path) -> None:
    """Two runs by the command line, one of them killed for good in an epoch's middle, end with the same weights."""
    config = tmp_path / "run.toml"
    config.write_text('network = "tiny"\nepochs = 40\nbatch_size = 14\n[augment]\nflip = true\nmixup_alpha = 0.2\n')
    data = drawn_csv.with_suffix(".npz")

    def start(workdir: Path, workers: int = 1) -> subprocess.Popen[bytes]:
        command: list[str | Path] = [sys.executable, "-m", "services.trainer", "train", "--config", config]
        command += ["--data", data, "--workdir", workdir, "--workers", str(workers)]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    straight = start(tmp_path / "straight")
    killed = start(tmp_path / "killed", workers=2)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed/checkpoint.npz").exists():
        assert killed.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)
    workers = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    assert len(workers) >= 2
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # none waits for work forever
        assert time.monotonic() < deadline
        time.sleep(0.05)
    whole = Workdir(tmp_path / "killed").read_history()
    assert 1 <= len(whole) < 40
    assert start(tmp_path / "killed").wait() == 0
    assert straight.wait() == 0
    ours, theirs = (Workdir(tmp_path / name).read_history() for name in ("killed", "straight"))
    for mine, other in zip(without_seconds(ours), without_seconds(theirs), strict=True):
        assert mine == pytest.approx(other, abs=1e-4)
    straight_weights = weights(tmp_path / "straight")
    for name, value in weights(tmp_path / "killed").items():
        assert np.allclose(value, straight_weights[name], atol=1e-4), name


def test_patience_ends_a_run_early_and_stays_ended(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    hasty = OptimizerConfig(name="adam", learning_rate=0.5, schedule="constant", weight_decay=0, ema=0)
    config = brief.model_copy(update={"epochs": 40, "early_stopping_patience": 2, "optimizer": hasty})
    history = train(config, drawn, tmp_path, quiet=True)
    assert len(history) < 40
    losses = [record["val_loss"] for record in history]
    assert len(losses) - 1 - losses.index(min(losses)) == 2
    assert train(config, drawn, tmp_path, quiet=True) == history


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_epoch(
    drawn: Dataset, brief: TrainConfig, tmp_path: Path
) -> None:
    wild = OptimizerConfig(name="sgd", learning_rate=1e30, schedule="constant", weight_decay=0, ema=0)
    config = brief.model_copy(update={"optimizer": wild})
    with pytest.raises(TrainingDiverged, match=r"epoch 1, batch \d"):
        train(config, drawn, tmp_path, quiet=True)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_a_run_that_fails_ends_the_line_of_its_progress_bar(
    drawn: Dataset, brief: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = OptimizerConfig(name="sgd", learning_rate=1e30, schedule="constant", weight_decay=0, ema=0)
    with pytest.raises(TrainingDiverged) as failed:
        train(brief.model_copy(update={"optimizer": wild}), drawn, tmp_path)
    # `failed` still holds the bar, as the command line does when it prints the error.
    printed = capsys.readouterr().err
    assert "epoch 1/3" in printed
    assert printed.endswith("\n"), failed


def test_weights_that_are_no_numbers_after_the_last_batch_are_no_epoch(
    drawn: Dataset, brief: TrainConfig, tmp_path: Path
) -> None:
    """With one batch an epoch no later batch's loss can tell."""
    wild = OptimizerConfig(name="sgd", learning_rate=1e38, schedule="constant", weight_decay=0, ema=0)
    config = brief.model_copy(update={"optimizer": wild, "batch_size": 56})
    with pytest.raises(TrainingDiverged, match=r"validation loss became nan at the end of epoch 1"):
        train(config, drawn, tmp_path, quiet=True)
    assert not (tmp_path / "checkpoint.npz").exists()
    assert not (tmp_path / "best.keras").exists()


def test_the_best_model_holds_the_averaged_weights(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    # Enough steps that an average reaches back over some.
    averaged = brief.model_copy(update={"optimizer": OptimizerConfig(ema=0.9), "epochs": 1, "batch_size": 4})
    train(averaged, drawn, tmp_path, quiet=True)
    model, state = Workdir(tmp_path).load_best(), weights(tmp_path)
    kept = model.trainable_variables
    current = [state[f"model{number}"] for number, variable in enumerate(model.variables) if variable.trainable]
    averages = [value for name, value in state.items() if name.startswith("optimizer")]
    for variable, now in zip(kept, current, strict=True):
        value = np.asarray(variable)
        assert any(np.array_equal(value, average) for average in averages if average.shape == value.shape)
        assert not np.array_equal(value, now)


def test_a_run_may_start_from_the_weights_of_another(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    once = brief.model_copy(update={"epochs": 1})
    train(once, drawn, tmp_path / "first", quiet=True)
    still = OptimizerConfig(name="sgd", learning_rate=1e-9, schedule="constant", weight_decay=0, ema=0)
    start = Start(init=(tmp_path / "first/best.keras",))
    train(once.model_copy(update={"optimizer": still}), drawn, tmp_path / "second", start, quiet=True)
    first, second = (Workdir(tmp_path / name).load_best() for name in ("first", "second"))
    for before, after in zip(first.trainable_variables, second.trainable_variables, strict=True):
        assert np.allclose(np.asarray(before), np.asarray(after), atol=1e-6)
    (tmp_path / "second/best.keras").replace(tmp_path / "first/best.keras")
    with pytest.raises(WorkdirError, match="init_sha256"):
        train(once.model_copy(update={"optimizer": still}), drawn, tmp_path / "second", start, quiet=True)


def test_a_start_that_cannot_be_leaves_the_folder_free(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \.keras file"):
        train(brief, drawn, tmp_path / "run", Start(init=(tmp_path / "none.keras",)), quiet=True)
    networks.build("mien-small:0.5").save(tmp_path / "other.keras")
    with pytest.raises(ConfigError, match="no weights for the network"):
        train(brief, drawn, tmp_path / "run", Start(init=(tmp_path / "other.keras",)), quiet=True)
    assert not (tmp_path / "run").exists()


def test_biases_and_normalization_are_spared_by_weight_decay(brief: TrainConfig) -> None:
    for name in ("adam", "adamw", "sgd"):
        optimizer = build_optimizer(OptimizerConfig(name=name, weight_decay=0.5), epochs=1, steps_per_epoch=1)
        model = networks.build(brief.network)
        optimizer.build(model.trainable_variables)
        decayed = {
            variable.path.split("/")[-1]
            for variable in model.trainable_variables
            if optimizer._use_weight_decay(variable)
        }
        assert decayed == {"kernel"}, name


def test_half_precision_trains_and_keeps_a_model_in_full(drawn: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    config = brief.model_copy(update={"precision": "mixed_bfloat16", "epochs": 1})
    train(config, drawn, tmp_path, quiet=True)
    assert keras.config.dtype_policy().name == "float32"
    model = Workdir(tmp_path).load_best()
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
