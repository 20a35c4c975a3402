"""Faces in, seven probabilities for each out, through ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime

from shared.emotions import EMOTIONS
from shared.errors import ModelError
from shared.manifest import MODEL_FILE, ModelManifest
from shared.pipeline.preprocess import FaceBatch, to_input
from shared.pipeline.session import Session, open_session

Probabilities: TypeAlias = npt.NDArray[np.float32]  # (N, 7), rows sum to 1, in the order of EMOTIONS


class FaceClassifier(Protocol):
    """Classifies faces. One instance serves all threads."""

    def classify(self, faces: FaceBatch) -> Probabilities:
        """Probabilities (N, 7) of faces (N, size, size, 1); N may be 0. Raises ModelError as Classifier does."""
        ...


class Classifier:
    """A model in memory. One instance serves all threads."""

    def __init__(self, session: Session, input_name: str) -> None:
        self._session, self._input_name = session, input_name

    def classify(self, faces: FaceBatch) -> Probabilities:
        """Probabilities (N, 7) of faces (N, size, size, 1); N may be 0.

        Raises ModelError when the model's output is not a set of probabilities.
        """
        if len(faces) == 0:
            return np.empty((0, len(EMOTIONS)), np.float32)
        probabilities = np.asarray(self._session.run(None, {self._input_name: faces})[0], np.float32)
        if probabilities.shape != (len(faces), len(EMOTIONS)) or not np.isfinite(probabilities).all():
            raise ModelError(f"The model returned {probabilities.shape} values that are not all probabilities.")
        return probabilities


class MirroredClassifier:
    """Averages each face with its mirror image: steadier probabilities, in twice the time."""

    def __init__(self, classifier: FaceClassifier) -> None:
        self._classifier = classifier

    def classify(self, faces: FaceBatch) -> Probabilities:
        """Probabilities (N, 7) of faces (N, size, size, 1). Raises ModelError as Classifier does."""
        both = self._classifier.classify(np.concatenate([faces, faces[:, :, ::-1]]))
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
    classifier = Classifier(session, session.get_inputs()[0].name)
    _check_golden(classifier, manifest, directory)
    return classifier


def unchecked_classifier(directory: Path, threads: int = 0) -> Classifier:
    """The model of `directory` before it has a golden prediction; for the trainer, which makes it."""
    session = open_session(directory / MODEL_FILE, threads)
    return Classifier(session, session.get_inputs()[0].name)


def _check_interface(session: onnxruntime.InferenceSession, manifest: ModelManifest, directory: Path) -> None:
    labels = session.get_modelmeta().custom_metadata_map.get("labels", "")
    if labels != ",".join(EMOTIONS):
        raise ModelError(
            f"The ONNX file in {directory} has the labels '{labels}'; its manifest says {', '.join(manifest.labels)}."
        )
    spec, shape = manifest.input, session.get_inputs()[0].shape
    if shape[1:] != [spec.size_px, spec.size_px, spec.channels]:
        raise ModelError(
            f"The ONNX file in {directory} reads {shape}; its manifest says {spec.size_px}x{spec.size_px}x{spec.channels}."
        )


def _check_golden(classifier: Classifier, manifest: ModelManifest, directory: Path) -> None:
    golden = manifest.golden
    face = golden.pixels(manifest.input.size_px)
    answer = classifier.classify(to_input(face[np.newaxis]))[0]
    difference = float(np.abs(answer - np.array(golden.probabilities, np.float32)).max())
    if not difference <= golden.tolerance:  # NaN fails too
        raise ModelError(
            f"The model in {directory} fails verification: its answer to the golden face differs by {difference:.4f} "
            f"(allowed: {golden.tolerance})."
        )
