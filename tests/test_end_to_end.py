"""From drawn faces to a served model, by the commands that a user types."""

import json
import subprocess
import sys
import urllib.request
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from services.trainer.__main__ import main
from services.trainer.judging.evaluate import METRICS
from shared.emotions import EMOTIONS
from shared.manifest import load_manifest
from tests.conftest import ROOT, running_server
from tests.drawn import draw_face, write_csv

CONFIG = """
network = "mien-small"
epochs = 14
batch_size = 32
[optimizer]
learning_rate = 0.004
warmup_epochs = 1
ema = 0
[augment]
flip = true
shift_px = 2
"""


def trainer(*arguments: object, status: int = 0) -> str:
    command = [sys.executable, "-m", "services.trainer", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory made from drawn faces: prepare, train, evaluate, export."""
    home = tmp_path_factory.mktemp("end-to-end")
    source = write_csv(home / "faces.csv", {"Training": 64, "PublicTest": 8, "PrivateTest": 8}, seed=11)
    (home / "run.toml").write_text(CONFIG)
    assert "560 of 560 images kept" in trainer("prepare", source, "--name", "Drawn", "--out", home / "faces.npz")
    data = ("--data", home / "faces.npz")
    assert "best: epoch" in trainer("train", "--config", home / "run.toml", *data, "--workdir", home / "run")
    assert "macro-F1" in trainer("evaluate", home / "run", *data)
    assert "written" in trainer("export", "--workdir", home / "run", *data, "--out", home / "models/drawn")
    return home / "models/drawn"


def test_the_exported_model_says_what_it_is(exported: Path) -> None:
    manifest = load_manifest(exported)
    run = json.loads((exported.parents[1] / "run/run.json").read_text())
    assert manifest.training.data_sha256 == run["data_sha256"]
    assert manifest.training.commit == run["commit"]
    assert manifest.training.epochs == 14
    assert manifest.metrics["test"]["labels"]["all"].accuracy >= 0.9
    evaluated = json.loads((exported.parents[1] / "run/evaluation.json").read_text())
    confusion = manifest.metrics["test"]["labels"]["all"].confusion
    assert list(map(list, confusion)) == evaluated["test"]["labels"]["all"]["confusion"]
    graph = onnx.load(exported / "model.onnx")
    assert {prop.key: prop.value for prop in graph.metadata_props}["labels"] == ",".join(EMOTIONS)
    assert (graph.opset_import[0].version, graph.ir_version) == (17, 8)
    card = (exported / "card.md").read_text()
    assert f"{manifest.metrics['test']['labels']['all'].accuracy:.4f}" in card
    assert manifest.training.data_sha256 in card
    assert "those of Drawn" in card
    assert "FER2013" not in card
    assert "| validation | all images" in card


def test_the_served_model_reads_faces_it_has_never_seen(exported: Path) -> None:
    rng = np.random.default_rng(99)
    with running_server(model=exported) as url:
        for emotion in EMOTIONS:
            right = 0
            for _ in range(5):
                png = cv2.imencode(".png", draw_face(emotion, rng))[1].tobytes()
                request = urllib.request.Request(f"{url}/predict?detect=false", png, {"Content-Type": "image/png"})
                with urllib.request.urlopen(request, timeout=10) as response:
                    right += json.load(response)["faces"][0]["emotion"] == emotion
            assert right >= 4, emotion


def test_the_same_command_evaluates_the_exported_model(exported: Path) -> None:
    out = exported.parents[1] / "again.json"
    data = exported.parents[1] / "faces.npz"
    trainer("evaluate", exported, "--data", data, "--out", out)
    scores = json.loads(out.read_bytes())
    assert scores.pop("data").startswith("Drawn ")
    assert METRICS.validate_python(scores) == load_manifest(exported).metrics


def test_robustness_is_measured_into_the_card(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(exported.parents[1] / "faces.npz"), "--out", str(tmp_path / "robustness")]
    assert main(["robustness", str(exported), *data, "--card"]) == 0
    measured = json.loads((tmp_path / "robustness.json").read_text())["drawn"]
    kept = load_manifest(exported).robustness
    assert kept is not None
    assert asdict(kept) == measured
    weakest = measured["answers"]["labels"]["harms"]["blur, sigma in px"]["0.5"]
    card = (exported / "card.md").read_text()
    assert f"| blur, sigma in px | {weakest:.3f} (0.5) |" in card
    assert "(validation)" in card
    other = write_csv(tmp_path / "other.csv", {"Training": 2, "PublicTest": 1, "PrivateTest": 1})
    assert main(["prepare", str(other), "--out", str(tmp_path / "other.npz")]) == 0
    assert main(["robustness", str(exported), "--data", str(tmp_path / "other.npz"), "--card"]) == 2
    assert "trained on other data" in capsys.readouterr().err
    assert main(["robustness", str(exported.parents[1] / "run"), *data, "--card"]) == 2
    assert "There is no model" in capsys.readouterr().err


def test_errors_of_the_command_line_are_one_line_and_status_2(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = exported.parents[1]
    other = write_csv(tmp_path / "other.csv", {"Training": 2, "PublicTest": 1, "PrivateTest": 1})
    assert main(["prepare", str(other), "--out", str(tmp_path / "other.npz")]) == 0
    before = (exported / "manifest.json").read_bytes()
    data = ["--data", str(tmp_path / "other.npz")]
    assert main(["export", "--workdir", str(home / "run"), *data, "--out", str(exported)]) == 2
    refused = capsys.readouterr().err.splitlines()[-1]
    assert refused.startswith("error: ")
    assert "other data" in refused
    assert (exported / "manifest.json").read_bytes() == before
    assert main(["evaluate", str(tmp_path), *data]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path / "none.csv"), "--out", str(tmp_path / "none.npz")]) == 2
    assert "There is no file" in capsys.readouterr().err
