"""What the runtime answers is checked before anyone sees it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from shared.choices import Choices
from shared.errors import ModelError, UnknownAnswer, UnusablePrior
from shared.manifest import load_manifest
from shared.pipeline.classify import Classifier, MirroredClassifier, open_classifier
from tests.conftest import SHIPPED_MODEL


class FakeSession:
    """Answers what it was told to, an output for each answer."""

    def __init__(self, *answers: object) -> None:
        self.answers = [np.asarray(answer) for answer in answers]

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> Sequence[Any]:
        return self.answers


FACE = np.zeros((1, 48, 48, 1), np.float32)
HAPPY, NEUTRAL = np.eye(7, dtype=np.float32)[[[3], [4]]]
UNSURE = np.array([[0.25, 0, 0, 0.75, 0, 0, 0]], np.float32)
# Happy is nine times as common as angry: balanced makes UNSURE even.
SHARES = (0.1, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0)


def test_people_are_asked_unless_labels_are_asked_for() -> None:
    classifier = Classifier(FakeSession(HAPPY, NEUTRAL), "faces", Choices({"labels": None, "people": None}))
    assert (classifier.classify(FACE) == NEUTRAL).all()
    assert (classifier.classify(FACE, "labels") == HAPPY).all()
    assert set(classifier.answers(FACE)) == {"labels", "people"}


def test_an_answer_that_the_model_lacks_is_named() -> None:
    with pytest.raises(UnknownAnswer, match="no answer 'people'; it has labels"):
        Classifier(FakeSession(HAPPY), "faces").classify(FACE, "people")


def test_a_prior_needs_training_shares() -> None:
    with pytest.raises(UnusablePrior, match="no natural shares for its answer 'labels'"):
        Classifier(FakeSession(HAPPY), "faces").classify(FACE, prior="balanced")
    assert (Classifier(FakeSession(HAPPY), "faces").classify(FACE, prior="natural") == HAPPY).all()


def test_the_default_prior_is_the_default_answer_s_alone() -> None:
    choices = Choices({"labels": SHARES, "people": SHARES}, "balanced", strength=0.5)
    classifier = Classifier(FakeSession(UNSURE, UNSURE), "faces", choices)
    even = pytest.approx([0.5, 0, 0, 0.5, 0, 0, 0], abs=1e-6)
    assert classifier.classify(FACE)[0] == even
    assert (classifier.classify(FACE, "labels") == UNSURE).all()
    assert classifier.classify(FACE, "labels", "balanced")[0] == even
    assert (classifier.classify(FACE, prior="natural") == UNSURE).all()


def test_no_face_asks_the_model_nothing() -> None:
    classifier = Classifier(FakeSession("never asked"), "faces")
    assert classifier.classify(np.empty((0, 48, 48, 1), np.float32)).shape == (0, 7)


@pytest.mark.parametrize("answer", [[[np.nan] * 7], [[1.0] * 6], [[np.inf] + [0.0] * 6]])
def test_what_is_no_probability_is_refused(answer: object) -> None:
    with pytest.raises(ModelError, match="not all probabilities"):
        Classifier(FakeSession(answer), "faces").classify(np.zeros((1, 48, 48, 1), np.float32))


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_any_number_of_faces_is_one_batch(count: int, noise_rng: np.random.Generator) -> None:
    classifier = open_classifier(SHIPPED_MODEL, load_manifest(SHIPPED_MODEL), threads=1)
    faces = noise_rng.random((count, 48, 48, 1), np.float32)
    together = classifier.classify(faces)
    assert together.shape == (count, 7)
    assert np.allclose(together.sum(axis=1), 1, atol=1e-5)
    one_by_one = np.concatenate([classifier.classify(face[np.newaxis]) for face in faces])
    assert np.allclose(together, one_by_one, atol=1e-5)


def test_an_execution_provider_that_is_not_there_is_named() -> None:
    manifest = load_manifest(SHIPPED_MODEL)
    with pytest.raises(ModelError, match="CUDA is not part of the installed ONNX Runtime, which has CPU"):
        open_classifier(SHIPPED_MODEL, manifest, threads=1, providers=["CUDA", "CPU"])
    with pytest.raises(ModelError, match=r"'GPU' is not an execution provider\. Choose from CPU, CUDA"):
        open_classifier(SHIPPED_MODEL, manifest, threads=1, providers=["GPU"])
    open_classifier(SHIPPED_MODEL, manifest, threads=1, providers=["cpu"])


def test_the_mirrored_reading_is_the_mean_of_both_and_blind_to_sides(noise_rng: np.random.Generator) -> None:
    plain = open_classifier(SHIPPED_MODEL, load_manifest(SHIPPED_MODEL), threads=1)
    mirrored = MirroredClassifier(plain)
    faces = noise_rng.random((3, 48, 48, 1), np.float32)
    expected = (plain.classify(faces) + plain.classify(faces[:, :, ::-1])) / 2
    assert np.allclose(mirrored.classify(faces), expected, atol=1e-6)
    assert np.allclose(mirrored.classify(faces), mirrored.classify(faces[:, :, ::-1]), atol=1e-6)
    assert mirrored.classify(faces[:0]).shape == (0, 7)
