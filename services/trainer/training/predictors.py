"""What predicts: the ONNX model of a model directory, or the best weights of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from shared.answers import AnswerName, default_answer
from shared.choices import Choices, Probabilities
from shared.manifest import MANIFEST_FILE, load_manifest
from shared.pipeline.classify import Classifier, open_classifier
from shared.pipeline.preprocess import mirror_image, to_input

T = TypeVar("T")
Answers: TypeAlias = dict[AnswerName, Probabilities]
Predict: TypeAlias = Callable[[npt.NDArray[np.uint8]], Answers]  # faces (N, 48, 48)
PredictOne: TypeAlias = Callable[[npt.NDArray[np.uint8]], Probabilities]  # one answer, (N, 48, 48) -> (N, 7)

# The outputs of a Keras model, in this order; a single one is "labels".
HEADS: Final[tuple[AnswerName, ...]] = ("labels", "people")
_BATCH: Final = 256


def open_predictor(path: Path) -> Predict:
    """The natural probabilities of every answer: of a model directory, or of a run's best weights.

    Raises ModelError or WorkdirError when there is none, or when it fails verification.
    """
    if (path / MANIFEST_FILE).exists():
        return onnx_predictor(open_classifier(path, load_manifest(path), threads=0))
    from services.trainer.training.workdir import Workdir  # only here: a model directory needs no Keras

    return keras_predictor(Workdir(path).load_best())


def onnx_predictor(classifier: Classifier) -> Predict:
    """The answers of an ONNX model in memory."""
    return lambda faces: _in_batches(lambda batch: classifier.answers(to_input(batch)), faces)


def keras_predictor(model: Any) -> Predict:
    """The answers of a Keras model in memory."""

    def predict(batch: npt.NDArray[np.uint8]) -> Answers:
        # Always full batches: devices can share them equally, and a single shape is traced once.
        filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)])
        answers = by_answer(model, model.predict_on_batch(to_input(filled)))
        return {name: np.asarray(output, np.float32)[: len(batch)] for name, output in answers.items()}

    return lambda faces: _in_batches(predict, faces)


def answer_names(model: Any) -> tuple[AnswerName, ...]:
    """The answers of a Keras model, in the order of its outputs."""
    return HEADS[: len(model.outputs)]


def by_answer(model: Any, outputs: Any) -> dict[AnswerName, Any]:
    """What a Keras model returned, by the name of the answer, in the order of its outputs."""
    return dict(zip(answer_names(model), outputs if isinstance(outputs, list) else [outputs], strict=True))


def for_head(answers: Mapping[AnswerName, T], name: AnswerName) -> T:
    """The answer `name`; of a model with one answer, that one."""
    return answers[name] if name in answers else next(iter(answers.values()))


def one_answer(predict: Predict, name: AnswerName | None = None) -> PredictOne:
    """One answer of `predict`, or its default one."""

    def answer(faces: npt.NDArray[np.uint8]) -> Probabilities:
        answers = predict(faces)
        return answers[name or default_answer(answers)]

    return answer


def mirrored(predict: Predict) -> Predict:
    """The mean of the answers for each face and for its mirror image."""

    def both(faces: npt.NDArray[np.uint8]) -> Answers:
        plain, mirror = predict(faces), predict(mirror_image(faces))
        return {name: (plain[name] + mirror[name]) / np.float32(2) for name in plain}

    return both


def with_default_prior(predict: Predict, choices: Choices) -> Predict:
    """The default answer alone, for the default prior of `choices`."""

    def weighed(faces: npt.NDArray[np.uint8]) -> Answers:
        name = choices.answer(None)
        return {name: choices.weighed(predict(faces)[name], name, None)}

    return weighed


def _in_batches(predict: Predict, faces: npt.NDArray[np.uint8]) -> Answers:
    parts = [predict(faces[start : start + _BATCH]) for start in range(0, len(faces), _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
