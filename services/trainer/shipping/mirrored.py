"""A network that reads each face and its mirror image, in one graph.

Otherwise the answer of one face in twenty changes when it is mirrored, which users soon notice.
"""

import keras
import numpy as np

from services.trainer.judging.calibration import SMALLEST
from services.trainer.training.predictors import by_answer
from shared.emotions import EMOTIONS


def with_mirror_images(model: keras.Model) -> keras.Model:
    """`model`, answering with the geometric mean of its probabilities for a face and for its mirror image.

    The weights are those of `model`, and the cost is twice its own. A face and its mirror image get the same answer.
    """
    faces = keras.Input(model.input_shape[1:], name="faces")
    # `flip` becomes five operators in ONNX, a slice with a step of -1 fails in Torch.
    mirrored = keras.ops.take(faces, np.arange(faces.shape[2])[::-1].copy(), axis=2)
    answers = by_answer(model, model(keras.layers.Concatenate(axis=0)([faces, mirrored])))
    means = [_mean_of_halves(output, name) for name, output in answers.items()]
    return keras.Model(faces, means, name=model.name)


def _mean_of_halves(probabilities: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """From (2 N, 7), the mirror images last, to (N, 7)."""
    logits = keras.ops.log(keras.ops.maximum(probabilities, SMALLEST))
    mean = keras.ops.mean(keras.ops.reshape(logits, (2, -1, len(EMOTIONS))), axis=0)
    return keras.layers.Softmax(name=name)(mean)
