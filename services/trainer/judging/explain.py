"""Where a model looks: Grad-CAM from a Keras model, occlusion from anything that predicts (paper, 13)."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.errors import TrainerError
from services.trainer.training.predictors import PredictOne, answer_names
from shared.answers import AnswerName
from shared.emotions import EMOTIONS
from shared.pictures import GreyImage
from shared.pipeline.preprocess import to_input

_SMALLEST_MAP: Final = 4  # a coarser map says nothing about places
_PATCH_PX: Final = 8
_STEP_PX: Final = 4


def grad_cam(model: keras.Model, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Maps (N, h, w), 0 to 1, of the evidence for the predicted class in each face (Selvaraju et al. 2017).

    Taken at the last feature map of at least 4x4. Raises TrainerError for a model without one.
    """
    body, head = _split(model)
    features = body(to_input(faces))
    chosen = keras.ops.convert_to_numpy(head(features)).argmax(axis=1)
    gradients = _gradients(head, features, chosen)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weights * keras.ops.convert_to_numpy(features)).sum(axis=3), 0)
    return np.asarray(maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12), np.float32)


def answering(model: keras.Model, name: AnswerName) -> keras.Model:
    """`model` with one of its answers alone."""
    number = answer_names(model).index(name)
    return model if len(model.outputs) == 1 else keras.Model(model.inputs[0], model.outputs[number])


def occlusion(predict: PredictOne, face: GreyImage) -> npt.NDArray[np.float32]:
    """A map (size, size) of how much probability the predicted class loses when a grey patch covers a place."""
    size = face.shape[0]
    places = [
        (y, x) for y in range(0, size - _PATCH_PX + 1, _STEP_PX) for x in range(0, size - _PATCH_PX + 1, _STEP_PX)
    ]
    covered = np.repeat(face[np.newaxis], len(places) + 1, axis=0)
    for number, (y, x) in enumerate(places):
        covered[number, y : y + _PATCH_PX, x : x + _PATCH_PX] = round(float(face.mean()))
    probabilities = predict(covered)
    chosen = int(probabilities[-1].argmax())
    losses = np.maximum(probabilities[-1, chosen] - probabilities[:-1, chosen], 0)
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for (y, x), loss in zip(places, losses, strict=True):
        total[y : y + _PATCH_PX, x : x + _PATCH_PX] += loss
        count[y : y + _PATCH_PX, x : x + _PATCH_PX] += 1
    return np.asarray(total / np.maximum(count, 1), np.float32)


def _split(model: keras.Model) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """`model` split after its last feature map that is large enough."""
    number = next((n for n, layer in enumerate(model.layers) if isinstance(layer, keras.Model)), None)
    if number is not None:  # a nested backbone: its own split, with the layers before and after it
        before = keras.Model(model.inputs[0], model.layers[number - 1].output)
        after = keras.Model(model.layers[number + 1].input, model.outputs[0])
        body, head = _split(model.layers[number])
        return lambda faces: body(before(faces, training=False)), lambda maps: after(head(maps), training=False)
    for number, layer in reversed(list(enumerate(model.layers))):
        shape: tuple[int, ...] = getattr(layer.output, "shape", ())
        if len(shape) == 4 and min(shape[1], shape[2]) >= _SMALLEST_MAP and _has_learnt(model.layers[: number + 1]):
            return _parts(model, number)
    raise TrainerError(f"{model.name} has no feature map of at least {_SMALLEST_MAP}x{_SMALLEST_MAP} to explain.")


def _parts(model: keras.Model, number: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """`model` up to its layer `number`, and the rest."""
    maps = model.layers[number].output
    if isinstance(model, keras.Sequential):  # its layers are connected only by their order
        first, second = model.layers[: number + 1], model.layers[number + 1 :]
        body = keras.Sequential([keras.Input(model.input_shape[1:]), *first])
        head = keras.Sequential([keras.Input(maps.shape[1:]), *second])
    else:
        body, head = keras.Model(model.inputs[0], maps), keras.Model(maps, model.outputs[0])
    return lambda faces: body(faces, training=False), lambda values: head(values, training=False)


def _has_learnt(layers: Sequence[keras.layers.Layer]) -> bool:
    """Whether any of these layers has weights; before the first, the map is only the picture."""
    return any(layer.weights for layer in layers)


def _gradients(head: Callable[[Any], Any], features: Any, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Gradients of the log probability of each face's `chosen` class with respect to its features, (N, h, w, C)."""
    mask = keras.ops.convert_to_tensor(np.eye(len(EMOTIONS), dtype=np.float32)[chosen])

    def total(values: Any) -> Any:
        return keras.ops.sum(keras.ops.log(head(values) + 1e-9) * mask)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(features)
            value = total(features)
        return np.asarray(keras.ops.convert_to_numpy(tape.gradient(value, features)))
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(total)(features))
    features = features.detach().requires_grad_(True)
    total(features).backward()
    return np.asarray(features.grad.cpu().numpy())
