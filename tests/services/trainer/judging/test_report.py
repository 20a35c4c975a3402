"""What a person gets to read: the report, comparisons, baselines; and who trains where."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import SPLITS, VOTE_COLUMNS, Dataset
from services.trainer.errors import ConfigError, DataError
from services.trainer.judging.baselines import hog_features, lbp_features, run_baselines
from services.trainer.judging.calibration import apply_temperature, fit_temperature
from services.trainer.judging.compare import compare, distinct_names, write_named
from services.trainer.judging.evaluate import evaluate, write_evaluation
from services.trainer.judging.report import report
from services.trainer.training.config import TrainConfig
from services.trainer.training.devices import use_devices
from services.trainer.training.metrics import score
from services.trainer.training.train import train
from tests.conftest import ROOT


@pytest.fixture
def voted(drawn: Dataset) -> Dataset:
    """The drawn faces with ten raters who agree with the label seven times."""
    names = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    votes = np.zeros((len(drawn), 10), np.uint8)
    for row, label in enumerate(drawn.labels):
        votes[row, VOTE_COLUMNS.index(names[label])] = 7
        votes[row, VOTE_COLUMNS.index("unknown")] = 3
    return Dataset(drawn.pixels, drawn.labels, drawn.splits, drawn.repeated, votes)


def test_the_report_is_one_page_with_everything_in_it(voted: Dataset, brief: TrainConfig, tmp_path: Path) -> None:
    train(brief, voted, tmp_path / "run", quiet=True)
    page = report(tmp_path / "run", voted, tmp_path / "report").read_text()
    for title in (
        "Scores",
        "Per class, test, labels",
        "Training",
        "Calibration",
        "Agreement",
        "Faces",
        "Where it looks",
        "Robustness",
    ):
        assert title in page, title
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)
    figures = re.findall(r'alt="[^"]+" src="data:image/png;base64,([^"]{2000,})"', page)
    assert len(figures) == 8
    names = {"confusion-labels", "curves", "reliability-labels", "mistakes", "right"}
    names |= {"explanations", "robustness", "classes"}
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == names
    assert json.loads((tmp_path / "report/robustness.json").read_text())["answers"]["labels"]["images"] == 21
    assert "test" in json.loads((tmp_path / "report/evaluation.json").read_text())


def test_the_temperature_makes_confidence_honest() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(7, 0.5), 4000)
    labels = np.array([rng.choice(7, p=row) for row in truth], np.int8)
    too_sure = apply_temperature(truth.astype(np.float32), 1 / 2.5)
    temperature = fit_temperature(too_sure, labels)
    assert temperature == pytest.approx(2.5, rel=0.1)
    calm = apply_temperature(too_sure, temperature)
    assert score(calm, labels).ece < 0.03 < score(too_sure, labels).ece
    assert (calm.argmax(axis=1) == too_sure.argmax(axis=1)).all()


def test_baselines_learn_the_drawn_faces_and_compare_puts_them_beside_a_run(drawn: Dataset, tmp_path: Path) -> None:
    results = run_baselines(drawn)
    accuracy = {name: metrics["test"]["labels"]["all"].accuracy for name, metrics in results.items()}
    assert accuracy["majority class"] == pytest.approx(1 / 7, abs=1e-3)
    assert accuracy["HOG + linear SVM"] > 0.6
    assert accuracy["LBP histogram + SVM"] > 0.3
    write_named(results, tmp_path / "baselines.json")
    (tmp_path / "run").mkdir()
    sure = np.eye(7, dtype=np.float32)[np.zeros(21, int)]
    write_evaluation(evaluate(lambda faces: {"labels": sure}, drawn, SPLITS[1:]), tmp_path / "run/evaluation.json")
    table = compare([tmp_path / "baselines.json", tmp_path / "run", ROOT / "models/default"]).as_markdown()
    assert len(table) == 2 + 3 + 2
    assert table[5].startswith("| run | 0.1429 | 0.1429 |")
    assert table[6].startswith("| default | 0.")
    with pytest.raises(DataError, match="not been evaluated yet"):
        compare([tmp_path])
    assert list(distinct_names([tmp_path / "a/run", tmp_path / "b/run", tmp_path / "c"])) == [
        "a/run",
        "b/run",
        f"{tmp_path.name}/c",
    ]


def test_features_have_their_shapes(drawn: Dataset) -> None:
    assert hog_features(drawn.pixels[:2]).shape == (2, 7 * 7 * 4 * 9)
    histograms = lbp_features(drawn.pixels[:2])
    assert histograms.shape == (2, 36 * 59)
    assert np.allclose((histograms**2).reshape(2, 36, 59).sum(axis=2), 1, atol=1e-5)


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
    (tmp_path / "run.toml").write_text('network = "mien-small"\nepochs = 1\nbatch_size = 14\n')
    command = [sys.executable, "-m", "services.trainer", "train", "--config", tmp_path / "run.toml"]
    arguments = ["--data", drawn_csv.with_suffix(".npz"), "--workdir", tmp_path / "run"]
    devices = ["--devices", "cpu:2"] if backend == "jax" else []
    environment = os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [*command, *arguments, *devices], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/run.json").read_text())["backend"] == backend
