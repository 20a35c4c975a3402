"""A model directory with a network of one layer: real for everything but its answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.answers import AnswerName
from shared.emotions import EMOTIONS
from shared.manifest import Answer, DefaultPrior, Golden, load_manifest, sha256_of
from shared.pipeline.classify import unchecked_classifier
from shared.pipeline.preprocess import to_input
from tests.conftest import SHIPPED_MODEL

SIDE = 48


def make_model(directory: Path, frequencies: Mapping[AnswerName, tuple[float, ...] | None]) -> Path:
    """Write a model with these answers and natural shares; the second answer is the first shifted by one."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.01, (SIDE * SIDE, len(EMOTIONS))).astype(np.float32)
    last = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.roll(np.arange(7), -1), "shifted")]
    names = list(frequencies)
    nodes = [
        helper.make_node("Flatten", ["faces"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [names[0]]),
        *(helper.make_node("Gather", [names[0], "shifted"], [name], axis=1) for name in names[1:]),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, [None, SIDE, SIDE, 1])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 7]) for name in names]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", [faces], outputs, last), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    helper.set_model_props(model, {"labels": ",".join(EMOTIONS)})
    onnx.save(model, directory / "model.onnx")
    _save_manifest(directory, frequencies)
    return directory


def _save_manifest(directory: Path, frequencies: Mapping[AnswerName, tuple[float, ...] | None]) -> None:
    face = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE), np.uint8)
    answers = {name: Answer(temperature=1, frequencies=shares, golden=(0,) * 7) for name, shares in frequencies.items()}
    made = {
        "name": "tiny",
        "version": "tiny",
        "sha256": sha256_of(directory / "model.onnx"),
        "answers": answers,
        "default_prior": DefaultPrior(),
        "mirrored": False,
        "golden": Golden.of(face),
        "precision": "fp32",
    }
    manifest = load_manifest(SHIPPED_MODEL).model_copy(update=made)
    read = unchecked_classifier(directory, manifest).answers(to_input(face[np.newaxis]))
    golden = {name: tuple(float(value) for value in read[name][0]) for name in frequencies}
    told = {name: answer.model_copy(update={"golden": golden[name]}) for name, answer in answers.items()}
    manifest.model_copy(update={"answers": told}).save(directory)
