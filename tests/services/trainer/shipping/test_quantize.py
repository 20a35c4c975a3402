"""INT8 is measured against the model it comes from."""

import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.errors import DataError, ExportRefused
from services.trainer.shipping.export import write_onnx
from services.trainer.shipping.quantize import _write_int8, needs_reduced_range, quantize
from services.trainer.training.predictors import open_predictor
from shared.manifest import load_manifest
from shared.pipeline.preprocess import to_input


def test_int8_answers_nearly_the_same_in_a_third_of_the_size(model: Path, drawn: Dataset) -> None:
    done = quantize(model, drawn, model.parent / "int8", max_loss=1)
    faces = drawn.split("test").pixels
    whole, small = (open_predictor(path)(faces)["labels"] for path in (model, done.directory))
    assert np.abs(whole - small).mean() < 0.05
    assert done.comparison.size_ratio < 0.4
    manifest = load_manifest(done.directory)
    assert (manifest.precision, manifest.name) == ("int8", "int8")
    assert manifest.training.quantization is not None
    assert manifest.training.quantization.from_version == load_manifest(model).version
    assert "## INT8" in (done.directory / "card.md").read_text()
    graph = onnx.load(done.directory / "model.onnx")
    kinds = [node.op_type for node in graph.graph.node]
    assert "QuantizeLinear" in kinds
    assert kinds[-1] == "Softmax"
    assert "QuantizeLinear" not in kinds[kinds.index("Softmax") :]  # what follows the logits is in float


def test_one_odd_calibration_face_does_not_make_the_steps_coarse_for_all(tmp_path: Path) -> None:
    inputs = keras.Input((48, 48, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 5, activation="relu")(inputs))
    write_onnx(keras.Model(inputs, keras.layers.Dense(7, activation="softmax")(x)), tmp_path / "model.onnx")
    faces = np.full((64, 48, 48), 25, np.uint8)
    faces[0] = 250
    _write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", faces, reduced_range=False)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")  # of the faces, in whatever layout
    (scale,) = (onnx.numpy_helper.to_array(value) for value in graph.initializer if value.name == first.input[1])
    assert scale * 255 == pytest.approx((250 + 15 * 25) / 16 / 255, rel=0.01)  # not 250 / 255


def test_int8_that_loses_too_much_is_refused_and_nothing_written(model: Path, drawn: Dataset) -> None:
    target = Path(shutil.copytree(model, model.parent / "kept"))
    with pytest.raises(ExportRefused, match="--max-loss"):
        quantize(model, drawn, target, max_loss=-1)
    assert load_manifest(target).precision == "fp32"
    assert [path.name for path in model.parent.iterdir() if path.name.startswith(".")] == []


def test_normalization_after_an_activation_survives_int8(drawn: Dataset, tmp_path: Path) -> None:
    """The paper's order, where it folds into no convolution; beside channels that never answer, its factors differ."""
    keras.utils.set_random_seed(0)
    faces = drawn.pixels
    inputs = keras.Input((48, 48, 1))
    convolution = keras.layers.Conv2D(16, 5, strides=4, activation="relu")
    x = convolution(inputs)
    kernel, bias = convolution.get_weights()
    convolution.set_weights([kernel * np.where(np.arange(16) < 8, 50, 0), bias])
    values = np.asarray(keras.Model(inputs, x)(to_input(faces)))
    normalization = keras.layers.BatchNormalization()
    pooled = keras.layers.MaxPooling2D(4)(normalization(x))
    model = keras.Model(inputs, keras.layers.Dense(7, activation="softmax")(keras.layers.Flatten()(pooled)))
    normalization.set_weights([np.ones(16), np.ones(16), values.mean((0, 1, 2)), values.var((0, 1, 2))])
    write_onnx(model, tmp_path / "whole.onnx")
    _write_int8(tmp_path / "whole.onnx", tmp_path / "int8.onnx", faces, reduced_range=False)
    answers = []
    for name in ("whole", "int8"):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {session.get_inputs()[0].name: to_input(faces)})[0])
    assert np.abs(answers[0] - answers[1]).mean() < 0.008  # three times as much where it is quantized too


def test_figures_on_other_data_are_not_compared(model: Path, drawn: Dataset) -> None:
    with pytest.raises(DataError, match="trained on other data"):
        quantize(model, drawn.part(np.arange(len(drawn)) > 1), model.parent / "other")


def test_seven_bits_are_for_cpus_without_vnni() -> None:
    assert [needs_reduced_range(cpu) for cpu in ("avx2", "vnni", "arm")] == [True, False, False]
