"""Weights to start from: trained .keras files, or model directories, whose ONNX files are read back."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from services.trainer.errors import ConfigError
from services.trainer.training.networks import BRANCHES, build
from services.trainer.training.normalization import unfold
from services.trainer.training.predictors import HEADS, Predict, for_head, keras_predictor, mirrored, open_predictor
from shared.manifest import MANIFEST_FILE, MODEL_FILE, ModelManifest, load_manifest, sha256_of

_MIN_AGREEMENT: Final = 0.9  # of the most likely emotions; rounding to INT8 and temperature change a few
_CONVOLUTION: Final = re.compile(r"/conv2d(?:_(\d+))?_\d+/")


def initialize(model: keras.Model, sources: Sequence[Path], faces: npt.NDArray[np.uint8]) -> None:
    """Give a fresh network the weights of a .keras file or a model directory of the same network.

    A network with BRANCHES may begin with several `sources` instead, one for each branch. A second answer that the
    source does not have begins as its only one. `faces` (N, 48, 48) give back to the network the normalization that an
    export folds away, and show that it answers as the source does.
    Raises ConfigError when there is nothing there, or another network; ModelError for a model directory that fails
    verification.
    """
    if len(sources) > 1:
        _from_branches(model, sources, faces)
        return
    (source,) = sources
    try:
        if (source / MANIFEST_FILE).exists():
            _from_onnx(model, source, faces)
        elif source.is_file():
            model.set_weights(keras.models.load_model(source, compile=False).get_weights())
        else:
            raise ConfigError(f"There is no .keras file and no model directory {source} to start from.")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{source} has no weights for the network {model.name}: {error}.") from error


def sources_sha256(sources: Sequence[Path]) -> str | None:
    """What identifies weights to start from, wherever they lie; hashes joined by "+", None where there are none."""
    return "+".join(sha256_of(path / MODEL_FILE if path.is_dir() else path) for path in sources) or None


def _from_branches(model: keras.Model, sources: Sequence[Path], faces: npt.NDArray[np.uint8]) -> None:
    """The mean of the branches' logits is one dense layer over the features of all."""
    names = BRANCHES.get(model.name, ())
    if len(names) != len(sources):
        raise ConfigError(
            f"The network {model.name} starts from {len(names) or 1} trained network(s), not from {len(sources)}."
        )
    branches = [build(name, heads=HEADS if len(model.outputs) > 1 else ()) for name in names]
    for branch, source in zip(branches, sources, strict=True):
        initialize(branch, [source], faces)
    for kind in (layers.Conv2D, layers.BatchNormalization):
        trained = [layer for branch in branches for layer in _numbered(branch, kind)]
        for layer, other in zip(_numbered(model, kind), trained, strict=True):
            layer.set_weights(other.get_weights())
    for head in (layer for layer in model.layers if isinstance(layer, layers.Dense)):
        kernels, biases = zip(*(branch.get_layer(head.name).get_weights() for branch in branches), strict=True)
        head.set_weights([np.concatenate(kernels) / len(branches), np.mean(biases, axis=0)])


def _from_onnx(model: keras.Model, directory: Path, faces: npt.NDArray[np.uint8]) -> None:
    predict = open_predictor(directory)  # verifies the directory
    graph = _Graph(directory / MODEL_FILE)
    convolutions = _numbered(model, layers.Conv2D)
    norms = iter(_numbered(model, layers.BatchNormalization))
    pairs, biases = [], []
    for layer, (kernel, bias) in zip(convolutions, graph.convolutions(), strict=True):
        kernel = kernel.transpose(2, 3, 1, 0)
        if layer.kernel_size == (1, 1):  # `quantize` spreads it over the pixels of the mean before it
            kernel = kernel.sum(axis=(0, 1), keepdims=True)
        layer.set_weights([kernel, bias] if layer.use_bias else [kernel])
        if not layer.use_bias:
            pairs.append((layer, next(norms)))
            biases.append(bias)
    heads = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    dense = graph.dense()
    for number, head in enumerate(heads):
        head.set_weights(list(dense[min(number, len(dense) - 1)]))
    unfold(model, pairs, biases, faces)
    agreement = _agreement(model, load_manifest(directory), predict, faces[:512])
    if agreement < _MIN_AGREEMENT:
        raise ValueError(f"read back, it agrees with itself on {agreement:.0%} of faces")


def _agreement(model: keras.Model, manifest: ModelManifest, predict: Predict, faces: npt.NDArray[np.uint8]) -> float:
    """The share of faces on which the network and what was exported of it see the same emotion."""
    read = mirrored(keras_predictor(model)) if manifest.mirrored else keras_predictor(model)
    known = for_head(manifest.answers, HEADS[0])
    logits = np.log(for_head(read(faces), HEADS[0]) + 1e-9) / known.temperature + (known.shift or 0)
    return float((logits.argmax(axis=1) == for_head(predict(faces), HEADS[0]).argmax(axis=1)).mean())


def _numbered(model: keras.Model, kind: type) -> list[Any]:
    """Layers of a kind in the order in which they were made; `model.layers` is sorted by depth."""
    found = [layer for layer in model.layers if isinstance(layer, kind)]
    return sorted(found, key=lambda layer: int((re.search(r"_(\d+)$", layer.name) or [0, 0])[1]))


class _Graph:
    """The weights of an exported network, in fp32 whatever the file holds."""

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(path).graph
        self._nodes = list(graph.node)
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._maker = {output: node for node in graph.node for output in node.output}

    def convolutions(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Kernel (out, in, height, width) and bias of each, in the order in which the network made them."""
        found = []
        for node in (node for node in self._nodes if node.op_type == "Conv"):
            name = next((match for text in self._names(node) if (match := _CONVOLUTION.search(text))), None)
            if name is None:
                raise ValueError(f"{node.name} is no convolution that our trainer exported")
            found.append((int(name[1] or 0), self._value(node.input[1]), self._value(node.input[2])))
        return [(kernel, bias) for _, kernel, bias in sorted(found, key=lambda entry: entry[0])]

    def dense(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """Kernel (in, out) and bias of each head, labels before people."""
        heads = [node for node in self._nodes if node.op_type == "Gemm"]
        ordered = sorted(heads, key=lambda node: any("people" in name for name in self._names(node)))
        return [(self._value(node.input[1]), self._value(node.input[2])) for node in ordered]

    def _names(self, node: Any) -> list[str]:
        inputs = [self._maker[name].input[0] if name in self._maker else name for name in node.input[1:]]
        return [node.name, *inputs, *node.output]

    def _value(self, name: str) -> npt.NDArray[np.float32]:
        if name in self._stored:
            return np.asarray(self._stored[name], np.float32)
        stored, scale, *zero = (self._stored[part] for part in self._maker[name].input)
        axis = next((entry.i for entry in self._maker[name].attribute if entry.name == "axis"), 1)
        shape = [1] * stored.ndim
        if scale.ndim:
            shape[axis] = -1
        offset = zero[0].astype(np.float32).reshape(shape) if zero else np.float32(0)
        return np.asarray((stored.astype(np.float32) - offset) * scale.reshape(shape), np.float32)
