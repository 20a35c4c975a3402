"""Faces in, seven probabilities for each out, through ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from shared.answers import AnswerName, Prior
from shared.choices import Choices, Probabilities
from shared.emotions import EMOTIONS
from shared.errors import ModelError
from shared.manifest import MODEL_FILE, ModelManifest
from shared.pipeline.preprocess import FaceBatch, mirror_image, to_input
from shared.pipeline.session import Session, open_session


class FaceClassifier(Protocol):
    """Classifies faces. One instance serves all threads."""

    def classify(self, faces: FaceBatch, answer: AnswerName | None = None, prior: Prior | None = None) -> Probabilities:
        """Probabilities (N, 7) of faces (N, size, size, 1); N may be 0.

        `answer` and `prior`: the model's defaults unless given. Raises UnknownAnswer, UnusablePrior, and ModelError as
        Classifier does.
        """
        ...


class Classifier:
    """A model in memory. One instance serves all threads."""

    def __init__(self, session: Session, input_name: str, choices: Choices = Choices()) -> None:
        """`choices` names the answers in the order of the session's outputs."""
        self._session, self._input_name, self._choices = session, input_name, choices

    def classify(self, faces: FaceBatch, answer: AnswerName | None = None, prior: Prior | None = None) -> Probabilities:
        """Probabilities (N, 7) of faces (N, size, size, 1); N may be 0.

        `answer` and `prior`: the model's defaults unless given. Raises UnknownAnswer, UnusablePrior, and ModelError when
        the model's output is not a set of probabilities.
        """
        chosen = self._choices.answer(answer)
        return self._choices.weighed(self.answers(faces)[chosen], chosen, prior)

    def answers(self, faces: FaceBatch) -> dict[AnswerName, Probabilities]:
        """Every answer's natural probabilities (N, 7) in one reading. Raises ModelError as `classify` does."""
        names = tuple(self._choices.frequencies)
        if len(faces) == 0:
            return {name: np.empty((0, len(EMOTIONS)), np.float32) for name in names}
        outputs = self._session.run(None, {self._input_name: faces})
        read = {name: np.asarray(output, np.float32) for name, output in zip(names, outputs, strict=True)}
        for probabilities in read.values():
            if probabilities.shape != (len(faces), len(EMOTIONS)) or not np.isfinite(probabilities).all():
                raise ModelError(
                    f"The model returned values of shape {probabilities.shape} that are not all probabilities."
                )
        return read


class MirroredClassifier:
    """Averages each face with its mirror image: steadier probabilities, in twice the time."""

    def __init__(self, classifier: FaceClassifier) -> None:
        self._classifier = classifier

    def classify(self, faces: FaceBatch, answer: AnswerName | None = None, prior: Prior | None = None) -> Probabilities:
        """Probabilities (N, 7) of faces (N, size, size, 1). Raises as Classifier does."""
        both = self._classifier.classify(np.concatenate([faces, mirror_image(faces)]), answer, prior)
        return (both[: len(faces)] + both[len(faces) :]) / np.float32(2)


def open_classifier(
    directory: Path, manifest: ModelManifest, threads: int, providers: Sequence[str] = ("CPU",)
) -> Classifier:
    """The model of `directory`, checked against its manifest's input, labels and golden prediction.

    `threads`: for one call. `providers`: names in PROVIDERS, the preferred one first; one that is unavailable is an
    error, never silently replaced. Raises ModelError when any check fails.
    """
    session = open_session(directory / MODEL_FILE, threads, providers)
    _check_interface(session, manifest, directory)
    classifier = _classifier(session, manifest)
    _check_golden(classifier, manifest, directory)
    return classifier


def unchecked_classifier(directory: Path, manifest: ModelManifest) -> Classifier:
    """The model of `directory` before it has golden predictions; for the trainer, which makes them.

    Raises ModelError when ONNX Runtime cannot load it, or when it has other answers than `manifest`.
    """
    session = open_session(directory / MODEL_FILE, threads=0)
    _check_interface(session, manifest, directory)
    return _classifier(session, manifest)


def _classifier(session: onnxruntime.InferenceSession, manifest: ModelManifest) -> Classifier:
    choices = Choices.of(manifest)
    if len(choices.frequencies) > 1:
        outputs = [output.name for output in session.get_outputs()]
        ordered = sorted(choices.frequencies.items(), key=lambda item: outputs.index(item[0]))
        choices = replace(choices, frequencies=dict(ordered))
    return Classifier(session, session.get_inputs()[0].name, choices)


def _check_interface(session: onnxruntime.InferenceSession, manifest: ModelManifest, directory: Path) -> None:
    labels = session.get_modelmeta().custom_metadata_map.get("labels", "")
    if labels != ",".join(EMOTIONS):
        raise ModelError(
            f"The ONNX file in {directory} has the labels '{labels}'; its manifest says {', '.join(manifest.labels)}."
        )
    spec, shape = manifest.input, session.get_inputs()[0].shape
    if shape[1:] != [spec.size_px, spec.size_px, spec.channels]:
        raise ModelError(
            f"The ONNX file in {directory} has the input {shape}; its manifest says {spec.size_px}x{spec.size_px}x{spec.channels}."
        )
    outputs = [output.name for output in session.get_outputs()]
    # The output of a model with one answer may have any name: models of format 1 knew no answers.
    if len(outputs) != len(manifest.answers) or (len(outputs) > 1 and set(outputs) != set(manifest.answers)):
        raise ModelError(
            f"The ONNX file in {directory} has the outputs {', '.join(outputs)}; its manifest says {', '.join(manifest.answers)}."
        )


def _check_golden(classifier: Classifier, manifest: ModelManifest, directory: Path) -> None:
    golden = manifest.golden
    face = golden.pixels(manifest.input.size_px)
    for name, read in classifier.answers(to_input(face[np.newaxis])).items():
        difference = float(np.abs(read[0] - np.array(manifest.answers[name].golden, np.float32)).max())
        if not difference <= golden.tolerance:  # NaN fails too
            raise ModelError(
                f"The model in {directory} fails verification: its answer to the golden face differs by {difference:.4f} "
                f"(allowed: {golden.tolerance})."
            )
