"""A run trains, goes on after a stop, and becomes a directory that the service opens."""

import json
from pathlib import Path

import numpy as np
import pytest

from services.trainer.detector.config import DetectorConfig
from services.trainer.detector.export import export
from services.trainer.detector.network import build
from services.trainer.detector.onnx_graph import INPUT, detector_graph
from services.trainer.detector.train import STATE_FILE, train
from services.trainer.errors import WorkdirError
from shared.errors import DetectorError
from shared.pipeline.mien import open_mien
from shared.pipeline.session import open_session
from shared.pipeline.single_shot import OUTPUTS

TINY = DetectorConfig(
    steps=4, side_px=64, batch_size=2, save_every=2, mine_every=2, warmup_steps=1, validation_batches=1
)


@pytest.fixture(scope="module")
def run(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, stopped after two and gone on with."""
    workdir = tmp_path_factory.mktemp("run")
    for steps in (2, 4):
        train(TINY.model_copy(update={"steps": steps}), packed, workdir, lambda _: None)
    return workdir


@pytest.fixture(scope="module")
def exported(run: Path, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "detector"
    export(run, packed, {}, 16, directory)
    return directory


def test_a_stopped_run_goes_on_where_it_was(run: Path) -> None:
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [record["step"] for record in history] == [2, 4]
    with np.load(run / STATE_FILE) as state:
        assert int(state["step"]) == 4


def test_a_run_on_other_data_is_refused(run: Path, packed: Path, tmp_path: Path) -> None:
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    report = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(report | {"sources_sha256": {}}))
    with pytest.raises(WorkdirError, match="other data"):
        train(TINY, tmp_path, run, lambda _: None)


def test_what_is_exported_is_what_the_service_opens(exported: Path) -> None:
    detector = open_mien(exported, 1024)
    assert detector.name == "mien"
    assert detector.detect(np.zeros((48, 200, 3), np.uint8), 1.0) == []
    assert "Finds faces" in (exported / "card.md").read_text()


def test_a_detector_that_was_changed_is_refused(exported: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes((exported / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(DetectorError, match="not the file its manifest describes"):
        open_mien(tmp_path, 1024)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"points": ["nose"]}))
    with pytest.raises(DetectorError, match="points"):
        open_mien(tmp_path, 1024)


def test_another_network_under_our_manifest_is_refused(exported: Path, tmp_path: Path) -> None:
    from shared.detector_manifest import load_detector_manifest
    from shared.manifest import sha256_of
    from tests.conftest import SHIPPED_MODEL

    other = (SHIPPED_MODEL / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(other)
    manifest = load_detector_manifest(exported)
    manifest.model_copy(update={"sha256": sha256_of(tmp_path / "model.onnx")}).save(tmp_path)
    with pytest.raises(DetectorError, match="has the points"):
        open_mien(tmp_path, 1024)


def test_an_empty_folder_is_no_run(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="no trained detector"):
        export(tmp_path, packed, {}, 16, tmp_path / "out")


def test_points_are_stretched_about_their_middle() -> None:
    rng, network = np.random.default_rng(0), build()
    for layer in network.layers:
        if getattr(layer, "use_bias", False):  # the heads; a fresh one puts all points on one place
            layer.bias.assign(rng.normal(0, 1, layer.bias.shape))
    picture = rng.uniform(0, 255, (1, 3, 64, 96)).astype(np.float32)
    graphs = [detector_graph(network, stretch=stretch).SerializeToString() for stretch in (1.0, 1.25)]
    plain, wider = (open_session(graph, threads=1).run(OUTPUTS, {INPUT: picture}) for graph in graphs)
    for name, before, after in zip(OUTPUTS, plain, wider, strict=True):
        if name.startswith("kps"):
            points, moved = before.reshape(-1, 5, 2), after.reshape(-1, 5, 2)
            middle = points.mean(axis=1, keepdims=True)
            assert np.ptp(points - middle) > 0.5
            assert np.allclose(moved - middle, 1.25 * (points - middle), rtol=1e-3, atol=1e-5)
        else:
            assert np.array_equal(before, after)
