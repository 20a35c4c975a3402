"""Graphs that take less time, for the same answers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.trainer.shipping.fold import fold_mean_pooling, widen_scalars

MAP = np.random.default_rng(0).normal(size=(2, 4, 12, 12)).astype(np.float32)


def graph_of(
    *nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), **constants: npt.NDArray[np.float32]
) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4, 12, 12])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "small", [given], made, weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def run(model: onnx.ModelProto) -> list[npt.NDArray[np.float32]]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": MAP}))


def pooled(
    outputs: tuple[str, ...] = ("y",), side: int = 1, convolution: dict[str, Any] | None = None, **pooling: Any
) -> onnx.ModelProto:
    kernel = np.random.default_rng(1).normal(size=(6, 4, side, side)).astype(np.float32)
    return graph_of(
        helper.make_node("AveragePool", ["x"], ["mean"], **({"kernel_shape": [2, 2], "strides": [2, 2]} | pooling)),
        helper.make_node("Conv", ["mean", "kernel", "bias"], ["y"], **(convolution or {})),
        outputs=outputs,
        kernel=kernel,
        bias=np.arange(6, dtype=np.float32),
    )


def test_a_mean_and_the_convolution_after_it_become_one() -> None:
    model = pooled()
    before = run(model)
    fold_mean_pooling(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert run(model)[0] == pytest.approx(before[0], abs=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        pooled(strides=[1, 1]),
        pooled(pads=[1, 1, 1, 1]),
        pooled(ceil_mode=1),
        pooled(side=3),
        pooled(convolution={"strides": [2, 2]}),
        pooled(convolution={"pads": [1, 1, 1, 1]}),
        pooled(convolution={"auto_pad": "SAME_UPPER"}),
        pooled(outputs=("y", "mean")),
    ],
    ids=[
        "overlapping",
        "padded",
        "rounded up",
        "a larger kernel",
        "a convolution with steps",
        "a padded convolution",
        "a convolution that may pad",
        "a mean that is read elsewhere",
    ],
)
def test_other_means_stay(model: onnx.ModelProto) -> None:
    before = run(model)
    fold_mean_pooling(model.graph)
    assert [node.op_type for node in model.graph.node] == ["AveragePool", "Conv"]
    for after, expected in zip(run(model), before, strict=True):
        assert np.array_equal(after, expected)


def test_a_number_gets_the_dimensions_of_what_it_scales() -> None:
    two, one = np.array(2, np.float32), np.array([1], np.float32)
    model = graph_of(
        helper.make_node("Mul", ["x", "two"], ["z"]), helper.make_node("Add", ["one", "z"], ["y"]), two=two, one=one
    )
    before = run(model)
    widen_scalars(model)
    assert [list(value.dims) for value in model.graph.initializer] == [[1, 1, 1, 1]] * 2
    onnx.checker.check_model(model, full_check=True)
    assert np.array_equal(run(model)[0], before[0])


def test_what_else_reads_a_number_still_finds_it() -> None:
    low, wide = np.array(0.5, np.float32), np.ones((1, 1, 1, 1), np.float32)
    model = graph_of(
        helper.make_node("Mul", ["x", "low"], ["z"]),
        helper.make_node("Mul", ["wide", "low"], ["half"]),
        helper.make_node("Mul", ["z", "half"], ["quarter"]),
        helper.make_node("Clip", ["quarter", "low"], ["y"]),
        low=low,
        wide=wide,
    )
    before = run(model)
    widen_scalars(model)
    assert {value.name: list(value.dims) for value in model.graph.initializer}["low"] == []
    assert np.array_equal(run(model)[0], before[0])
