"""A model directory that was changed, or is not what it says, is not served."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from shared.emotions import EMOTIONS
from shared.errors import ModelError
from shared.manifest import Golden, ModelManifest, load_manifest, sha256_of
from shared.pipeline.classify import open_classifier
from tests.conftest import ROOT, SHIPPED_MODEL

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "model"))


def rewrite(directory: Path, change: Change) -> None:
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_graph(directory: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    graph = onnx.load(directory / "model.onnx")
    change(graph)
    onnx.save(graph, directory / "model.onnx")
    rewrite(directory, lambda content: content.update(sha256=sha256_of(directory / "model.onnx")))


def open_model(directory: Path) -> ModelManifest:
    manifest = load_manifest(directory)
    open_classifier(directory, manifest, threads=1)
    return manifest


def test_the_shipped_model_holds() -> None:
    assert open_model(SHIPPED_MODEL).labels == EMOTIONS


def test_a_saved_manifest_reads_back_the_same(directory: Path) -> None:
    manifest = load_manifest(directory)
    manifest.save(directory)
    assert load_manifest(directory) == manifest


def test_a_directory_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model in"):
        load_manifest(tmp_path)


def test_a_missing_onnx_file_is_named(directory: Path) -> None:
    (directory / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"no model\.onnx"):
        load_manifest(directory)


def test_one_changed_byte_is_noticed(directory: Path) -> None:
    data = bytearray((directory / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (directory / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="sha256"):
        load_manifest(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(labels=[*EMOTIONS[1:], EMOTIONS[0]]), "must be angry"),
        (lambda content: content.update(labels=["yes", "no"]), "labels yes, no"),
        (lambda content: content.update(colour="blue"), "colour"),
        (lambda content: content.pop("golden"), "golden"),
        (lambda content: content.update(format=3), "format"),
        (lambda content: content["golden"].update(probabilities=[float("nan")] * 7), "golden"),
        (lambda content: content["golden"].update(probabilities=[0.5, 0.5]), "golden"),
        (lambda content: content["training"].pop("data_sha256"), r"training\.data_sha256"),
        (lambda content: content["training"].update(quantization={}), r"training\.quantization"),
        (lambda content: content["metrics"]["test"]["labels"]["all"].pop("per_class"), "per_class"),
        (lambda content: content["golden"].update(face="!"), "golden"),
        (lambda content: content["crop"]["haar"].update(width=0), "crop.haar"),
        (lambda content: content["input"].update(scale=1.0), "scale"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(change: Change, message: str, directory: Path) -> None:
    rewrite(directory, change)
    with pytest.raises(ModelError, match=message):
        load_manifest(directory)


def test_a_manifest_of_format_1_that_lacks_something_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models/paper", tmp_path / "paper")
    rewrite(tmp_path / "paper", lambda content: content["metrics"]["test"]["all"].pop("per_class"))
    with pytest.raises(ModelError, match="format 1 with something missing"):
        load_manifest(tmp_path / "paper")


def test_a_manifest_that_is_no_json_is_refused(directory: Path) -> None:
    (directory / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="not a valid manifest"):
        load_manifest(directory)


def test_labels_of_another_graph_are_noticed(directory: Path) -> None:
    change_graph(directory, lambda graph: onnx.helper.set_model_props(graph, {"labels": "sad,happy"}))
    with pytest.raises(ModelError, match="has the labels 'sad,happy'"):
        open_model(directory)


def test_another_input_size_is_noticed(directory: Path) -> None:
    rewrite(directory, lambda content: content["input"].update(size_px=64))
    with pytest.raises(ModelError, match=r"golden\.face is not a face of 64x64"):
        open_model(directory)
    face = base64.b64encode(bytes(64 * 64)).decode()
    rewrite(directory, lambda content: content["golden"].update(face=face))
    with pytest.raises(ModelError, match="64x64"):
        open_model(directory)


def test_a_graph_that_answers_otherwise_is_noticed(directory: Path) -> None:
    def wrong(content: dict[str, Any]) -> None:
        content["golden"]["probabilities"] = [1, 0, 0, 0, 0, 0, 0]

    rewrite(directory, wrong)
    with pytest.raises(ModelError, match="golden"):
        open_model(directory)


def test_a_file_that_is_no_onnx_is_refused(directory: Path) -> None:
    (directory / "model.onnx").write_bytes(b"no graph")
    rewrite(directory, lambda content: content.update(sha256=sha256_of(directory / "model.onnx")))
    with pytest.raises(ModelError, match="cannot load"):
        open_model(directory)


def test_a_golden_face_keeps_its_pixels() -> None:
    manifest = load_manifest(SHIPPED_MODEL)
    face = manifest.golden.pixels(manifest.input.size_px)
    assert (Golden.of(face).pixels(48) == face).all()
