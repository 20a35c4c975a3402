"""What answers for faces: the ONNX model of a model directory, or the best weights of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.manifest import MANIFEST_FILE, load_manifest
from shared.pipeline.classify import Probabilities, open_classifier
from shared.pipeline.preprocess import to_input

Predict: TypeAlias = Callable[[npt.NDArray[np.uint8]], Probabilities]  # (N, 48, 48) -> (N, 7)

_BATCH: Final = 256


def open_predictor(path: Path) -> Predict:
    """What predicts from uint8 faces: the ONNX model of a model directory, or the best weights of a run.

    Raises ModelError or WorkdirError when there is none, or it must not be trusted.
    """
    if (path / MANIFEST_FILE).exists():
        classifier = open_classifier(path, load_manifest(path), threads=0)
        return lambda faces: _in_batches(lambda batch: classifier.classify(to_input(batch)), faces)
    from services.trainer.training.workdir import Workdir  # only here: a model directory needs no Keras

    return keras_predictor(Workdir(path).load_best())


def keras_predictor(model: Any) -> Predict:
    """The predictions of a Keras model in memory."""

    def predict(batch: npt.NDArray[np.uint8]) -> Probabilities:
        # Always whole batches: several devices cannot share the rest of one, and one shape is traced once.
        filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)])
        return np.asarray(model.predict_on_batch(to_input(filled)), np.float32)[: len(batch)]

    return lambda faces: _in_batches(predict, faces)


def mirrored(predict: Predict) -> Predict:
    """The mean of what `predict` says of each face and of its mirror image."""
    return lambda faces: (predict(faces) + predict(np.ascontiguousarray(faces[:, :, ::-1]))) / np.float32(2)


def _in_batches(predict: Predict, faces: npt.NDArray[np.uint8]) -> Probabilities:
    starts = range(0, len(faces), _BATCH)
    return np.concatenate([predict(faces[start : start + _BATCH]) for start in starts])
