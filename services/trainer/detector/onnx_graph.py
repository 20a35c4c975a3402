"""A Keras detector in, the ONNX graph of YuNet's interface out, made only of operations that run fast.

Batch normalization is folded into the convolution before it and the scale of the input into the first one. Keras's
own exporter leaves both in the graph, and spends twenty operations on one enlargement.
"""

from typing import Any, Final, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from services.trainer.detector.network import OUTPUTS, STRIDES
from services.trainer.errors import ExportRefused
from shared.boxes import POINTS

OPSET: Final = 17
IR_VERSION: Final = 8
INPUT: Final = "input"
# For each stride, the factor by which the logit of its scores is multiplied, and the offset then added.
Scores: TypeAlias = tuple[tuple[float, float], ...]
UNCHANGED: Final[Scores] = ((1.0, 0.0),) * len(STRIDES)


class _Graph:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self.scale = 1.0  # of the input

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, name: str, values: Any) -> str:
        self.weights[name] = np.ascontiguousarray(values)
        return name


def detector_graph(model: keras.Model, scores: Scores = UNCHANGED, stretch: float = 1.0) -> onnx.ModelProto:
    """The network for pictures (1, 3, H, W) float32 BGR of 0 to 255, sides multiples of 32.

    Outputs cls, obj, bbox and kps of each stride as YuNet's, with places from a cell's corner. `scores` changes each
    stride's scores, `stretch` how far apart a face's points lie. Raises ExportRefused for an unknown layer.
    """
    graph = _Graph()
    names: dict[str, str] = {}
    levels = []
    for layer in model.layers:
        sources = keras.tree.flatten(layer.input) if names else []
        inputs = [names[tensor._keras_history.operation.name] for tensor in sources]
        names[layer.name] = _layer(graph, layer, inputs)
        if isinstance(layer, keras.layers.Reshape):
            levels.append(inputs[0])
    for level, (factor, shift) in zip(levels, scores, strict=True):
        _calibrate(graph, level, factor, shift, stretch)
    outputs = [name for level, stride in zip(levels, STRIDES, strict=True) for name in _outputs(graph, level, stride)]
    return _model(graph, outputs)


def _layer(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    """Add one layer; returns the name of its output."""
    match layer:
        case keras.layers.InputLayer():
            return INPUT
        case keras.layers.Rescaling():
            graph.scale = float(layer.scale)
            return inputs[0]
        case keras.layers.DepthwiseConv2D() | keras.layers.Conv2D():
            return _convolution(graph, layer, inputs[0])
        case keras.layers.BatchNormalization():
            return _fold(graph, layer, inputs[0])
        case keras.layers.Reshape() | keras.layers.Concatenate():
            return inputs[0]  # the levels stay apart
        case keras.layers.ReLU():
            return graph.add("Relu", inputs, layer.name)
        case keras.layers.Add():
            return graph.add("Add", inputs, layer.name)
        case keras.layers.UpSampling2D():
            attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            scales = graph.weight("twice", np.array([1, 1, 2, 2], np.float32))
            return graph.add("Resize", [inputs[0], "", scales], layer.name, mode="nearest", **attributes)
    raise ExportRefused(f"The detector's graph cannot express the layer {layer.name} ({type(layer).__name__}).")


def _convolution(graph: _Graph, layer: Any, source: str) -> str:
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32)  # (height, width, in, out)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    size, stride = kernel.shape[0], layer.strides[0]
    weights = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    if source == INPUT:
        weights = weights * np.float32(graph.scale)
    bias = keras.ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(len(weights), np.float32)
    before = (size - stride) // 2 if stride > 1 else (size - 1) // 2  # as Keras pads "same", for even sides
    after = size - stride - before
    names = [graph.weight(f"{layer.name}_weight", weights), graph.weight(f"{layer.name}_bias", bias)]
    return graph.add(
        "Conv",
        [source, *names],
        layer.name,
        kernel_shape=[size, size],
        strides=[stride, stride],
        pads=[before, before, after, after],
        group=len(weights) if depthwise else 1,
    )


def _fold(graph: _Graph, layer: Any, convolution: str) -> str:
    """Fold a normalization into the weights of the convolution before it."""
    gamma, beta, mean, variance = map(
        keras.ops.convert_to_numpy, (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    factor = gamma / np.sqrt(variance + layer.epsilon)
    weights, bias = graph.weights[f"{convolution}_weight"], graph.weights[f"{convolution}_bias"]
    graph.weight(f"{convolution}_weight", weights * factor[:, np.newaxis, np.newaxis, np.newaxis])
    graph.weight(f"{convolution}_bias", (bias - mean) * factor + beta)
    return convolution


def stretched(points: npt.NDArray[np.float32], stretch: float) -> npt.NDArray[np.float32]:
    """Points, (10, …) as x and y in turn, at `stretch` times their distance from their middle."""
    pairs = points.reshape(5, 2, *points.shape[1:])
    middle = pairs.mean(axis=0)
    return np.asarray(middle + np.float32(stretch) * (pairs - middle), np.float32).reshape(points.shape)


def _calibrate(graph: _Graph, head: str, factor: float, shift: float, stretch: float) -> None:
    """Change the answers of a head: the score's logit, the points, and places, which count from the cell's corner."""
    weights, bias = graph.weights[f"{head}_weight"].copy(), graph.weights[f"{head}_bias"].copy()
    weights[0] *= factor
    bias[0] = bias[0] * factor + shift
    weights[5:], bias[5:] = stretched(weights[5:], stretch), stretched(bias[5:], stretch)
    bias[[1, 2, *range(5, OUTPUTS)]] += 0.5
    graph.weight(f"{head}_weight", weights)
    graph.weight(f"{head}_bias", bias)


def _outputs(graph: _Graph, head: str, stride: int) -> list[str]:
    """The four answers of a level, (1, cells, values) each."""
    shape = graph.weight("rows", np.array([1, -1, OUTPUTS], np.int64))
    sizes = graph.weight("values", np.array([1, 4, 10], np.int64))
    last = graph.add("Transpose", [head], f"last_{stride}", perm=[0, 2, 3, 1])
    rows = graph.add("Reshape", [last, shape], f"rows_{stride}")
    names = [f"logit_{stride}", f"bbox_{stride}", f"kps_{stride}"]
    graph.nodes.append(helper.make_node("Split", [rows, sizes], names, axis=2))
    graph.add("Sigmoid", [names[0]], f"cls_{stride}")
    graph.add("Identity", [f"cls_{stride}"], f"obj_{stride}")
    return [f"cls_{stride}", f"obj_{stride}", *names[1:]]


def _model(graph: _Graph, outputs: list[str]) -> onnx.ModelProto:
    float_type = onnx.TensorProto.FLOAT
    picture = helper.make_tensor_value_info(INPUT, float_type, [1, 3, "height", "width"])
    values = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    answers = [
        helper.make_tensor_value_info(name, float_type, [1, f"cells_{name.split('_')[1]}", values[name.split("_")[0]]])
        for name in outputs
    ]
    weights = [numpy_helper.from_array(values, name) for name, values in graph.weights.items()]
    body = helper.make_graph(graph.nodes, "mien_detector", [picture], answers, weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, {"points": ",".join(POINTS)})
    onnx.checker.check_model(model, full_check=True)
    return model
