"""MobileNetV1 (Howard et al. 2017) as a teacher: trained on faces elsewhere, read from a .tflite file, fine-tuned here.

The file is EmotiEffLib's mobilenet_7.tflite: VGGFace2, then AffectNet, our seven classes in our order, 224x224 BGR
minus ImageNet's means. Its normalization is folded into its convolutions; training needs it back, so each convolution
gets the mean and variance that it sees on training faces, and a gamma and beta that keep the function.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from services.trainer.data.dataset import FACE_SIZE_PX
from services.trainer.errors import ConfigError
from services.trainer.training.normalization import unfold
from shared.emotions import EMOTIONS

NAME: Final = "mobilenet-v1"
# (filters, strides) of each depthwise-separable block after the first convolution.
_BLOCKS: Final = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
_CONVOLUTIONS: Final = 1 + 2 * len(_BLOCKS)
_BGR_MEANS: Final = (103.939, 116.779, 123.68)

_Weights = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]  # kernel and bias of each layer


def mobilenet_v1(side_px: int, heads: Sequence[str]) -> keras.Model:
    """The network at `side_px` a side, with a hidden layer and seven probabilities for each head: 3.2M parameters."""
    faces = keras.Input((FACE_SIZE_PX, FACE_SIZE_PX, 1), name="faces")
    x = layers.Resizing(side_px, side_px)(faces)
    x = layers.Concatenate()([x, x, x])
    x = layers.Rescaling(255.0, offset=[-mean for mean in _BGR_MEANS])(x)
    x = _normalized(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    for filters, strides in _BLOCKS:
        x = _normalized(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x))
        x = _normalized(layers.Conv2D(filters, 1, use_bias=False)(x))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(faces, [_head(x, name) for name in heads], name=f"{NAME}-{side_px}")


def load_tflite(model: keras.Model, path: Path, faces: npt.NDArray[np.uint8]) -> None:
    """Give a fresh `mobilenet_v1` the weights of mobilenet_7.tflite; `faces` (N, 48, 48) unfold its normalization.

    Raises ConfigError when the file is missing or is another network.
    """
    values = _read(path)
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)]
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    backbone, hidden, logits = values[:_CONVOLUTIONS], values[-2], values[-1]
    try:
        for (kernel, _), convolution in zip(backbone, convolutions, strict=True):
            convolution.set_weights([np.ascontiguousarray(kernel.transpose(1, 2, 3, 0))])
        for layer in model.layers:
            if layer.name.endswith("_hidden"):
                layer.set_weights([hidden[0].T, hidden[1]])
            elif layer.name.endswith("_logits"):
                layer.set_weights([logits[0].T, logits[1]])
        unfold(model, list(zip(convolutions, norms, strict=True)), [bias for _, bias in backbone], faces)
    except ValueError as error:
        raise ConfigError(f"{path} is not the network {NAME}: {error}.") from error


def _read(path: Path) -> _Weights:
    """Kernels and biases of the 27 convolutions and two dense layers of the file, dequantized, in order."""
    if not path.is_file():
        raise ConfigError(f"There is no file {path}; {NAME} starts from EmotiEffLib's mobilenet_7.tflite.")
    import tensorflow as tf  # only here: its interpreter reads the file, whatever backend trains

    try:
        interpreter = tf.lite.Interpreter(str(path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{path} is not a TensorFlow Lite model: {error}.") from error
    takes, gives = (
        tuple(details[0]["shape"]) for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    if takes != (1, 224, 224, 3) or gives != (1, len(EMOTIONS)):
        raise ConfigError(
            f"{path} takes {takes} and answers {gives}; {NAME} starts from a model that takes (1, 224, 224, 3) and "
            f"answers {len(EMOTIONS)} classes."
        )
    weights = _layers_of(interpreter)
    if len(weights) != _CONVOLUTIONS + 2:
        raise ConfigError(f"{path} has {len(weights)} layers with weights; {NAME} has {_CONVOLUTIONS + 2}.")
    return weights


def _layers_of(interpreter: Any) -> _Weights:
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()  # the interpreter has no public list of its operations
    maker = {output: operation for operation in operations for output in operation["outputs"]}

    def value(index: int) -> npt.NDArray[np.float32]:
        if index < 0:  # a layer without bias, which the network does not have
            return np.empty(0, np.float32)
        if index in maker and maker[index]["op_name"] == "DEQUANTIZE":
            index = maker[index]["inputs"][0]
        stored, scaling = interpreter.get_tensor(index), details[index]["quantization_parameters"]
        if stored.dtype != np.int8:
            return np.asarray(stored, np.float32)
        shape = [1] * stored.ndim
        if len(scaling["scales"]) > 1:
            shape[scaling["quantized_dimension"]] = -1
        centred = stored.astype(np.float32) - scaling["zero_points"].reshape(shape)
        return np.asarray(centred * scaling["scales"].reshape(shape), np.float32)

    weighted = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [(value(op["inputs"][1]), value(op["inputs"][2])) for op in operations if op["op_name"] in weighted]


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.95)(x))


def _head(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    hidden = layers.Dense(256, activation="relu", name=f"{name}_hidden")(x)
    return layers.Softmax(name=name)(layers.Dense(len(EMOTIONS), name=f"{name}_logits")(hidden))
