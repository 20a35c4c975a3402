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
PredictAll: TypeAlias = Callable[[npt.NDArray[np.uint8]], list[Probabilities]]  # the same for each answer

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


def open_answers(path: Path) -> PredictAll:
    """Every answer of a run's best weights, or the one of a model directory. Raises as `open_predictor` does."""
    if (path / MANIFEST_FILE).exists():
        predict = open_predictor(path)
        return lambda faces: [predict(faces)]
    from services.trainer.training.workdir import Workdir  # only here: a model directory needs no Keras

    return keras_answers(Workdir(path).load_best())


def keras_predictor(model: Any) -> Predict:
    """The predictions of a Keras model in memory; of two answers, the first: labels."""
    both = keras_answers(model)
    return lambda faces: both(faces)[0]


def keras_answers(model: Any) -> PredictAll:
    """Every answer of a Keras model in memory, in the order of its outputs."""

    def predict(batch: npt.NDArray[np.uint8]) -> list[Probabilities]:
        # Always whole batches: several devices cannot share the rest of one, and one shape is traced once.
        filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)])
        said = model.predict_on_batch(to_input(filled))
        return [np.asarray(one, np.float32)[: len(batch)] for one in (said if isinstance(said, list) else [said])]

    def answer(faces: npt.NDArray[np.uint8]) -> list[Probabilities]:
        batches = [predict(faces[start : start + _BATCH]) for start in range(0, len(faces), _BATCH)]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    return answer


def mirrored(predict: Predict) -> Predict:
    """The mean of what `predict` says of each face and of its mirror image."""
    return lambda faces: (predict(faces) + predict(np.ascontiguousarray(faces[:, :, ::-1]))) / np.float32(2)


def _in_batches(predict: Predict, faces: npt.NDArray[np.uint8]) -> Probabilities:
    starts = range(0, len(faces), _BATCH)
    return np.concatenate([predict(faces[start : start + _BATCH]) for start in starts])
