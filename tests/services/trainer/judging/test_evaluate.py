"""The figures are the figures: checked against numbers worked out by hand."""

import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.errors import DataError
from services.trainer.judging.evaluate import as_text, evaluate
from services.trainer.training.metrics import score
from shared.emotions import EMOTIONS
from shared.scores import ClassScores


def sure(*answers: str, of: float = 0.94) -> np.ndarray:
    """Predictions that give `of` to an answer and the rest to the other six."""
    rows = np.full((len(answers), 7), (1 - of) / 6, np.float32)
    rows[np.arange(len(answers)), [EMOTIONS.index(answer) for answer in answers]] = of
    return rows


def labels(*names: str) -> np.ndarray:
    return np.array([EMOTIONS.index(name) for name in names], np.int8)


def test_accuracy_f1_and_confusion() -> None:
    result = score(sure("happy", "happy", "sad", "fear"), labels("happy", "sad", "sad", "fear"))
    assert (result.images, result.accuracy) == (4, 0.75)
    # F1: happy 2/3, sad 2/3, fear 1, and four classes that are not there count 0
    assert result.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 7, abs=1e-4)
    assert result.mean_recall == pytest.approx((1 + 0.5 + 1) / 3, abs=1e-4)  # over the emotions that are there
    assert result.per_class["sad"] == ClassScores(precision=1.0, recall=0.5, f1=0.66667, images=2)
    confusion = np.array(result.confusion)
    assert confusion[EMOTIONS.index("sad"), EMOTIONS.index("happy")] == 1
    assert confusion.sum() == 4


def test_likelihood_brier_and_calibration() -> None:
    result = score(sure("happy", "happy", of=0.7), labels("happy", "sad"))
    assert result.nll == pytest.approx(-(np.log(0.7) + np.log(0.05)) / 2, abs=1e-4)
    right, wrong = 0.3**2 + 6 * 0.05**2, 0.7**2 + 0.95**2 + 5 * 0.05**2
    assert result.brier == pytest.approx((right + wrong) / 2, abs=1e-4)
    assert result.ece == pytest.approx(0.2, abs=1e-4)  # half are right at confidence .7


def test_a_certain_mistake_costs_something_finite() -> None:
    assert score(sure("happy", of=1.0), labels("sad")).nll < 20


def test_no_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no image"):
        score(sure(), labels())


def test_repeated_images_and_the_consensus_are_told_apart() -> None:
    votes = np.zeros((4, 10), np.uint8)
    votes[0, VOTE_COLUMNS.index("happiness")] = 8  # people see happy, FER2013 says sad
    votes[3, VOTE_COLUMNS.index("fear")] = 6
    data = Dataset(
        pixels=np.zeros((4, 48, 48), np.uint8),
        labels=labels("sad", "sad", "sad", "fear"),
        splits=np.full(4, 1, np.int8),
        repeated=np.array([True, False, False, False]),
        votes=votes,
    )
    answers = sure("happy", "sad", "angry", "fear")
    results = evaluate(lambda faces: {"labels": answers}, data, ["validation"])["validation"]["labels"]
    assert results["all"].accuracy == 0.5
    assert results["without_repeated"].accuracy == pytest.approx(2 / 3, abs=1e-4)
    assert results["consensus"] == score(answers[[0, 3]], labels("happy", "fear"))
    assert results["consensus_without_repeated"].images == 1
    text = as_text({"validation": {"labels": results}})
    assert "0.6667" in text
    assert text.count("\n") > 10


def test_a_split_that_training_repeats_whole_is_scored_by_what_remains() -> None:
    data = Dataset(
        pixels=np.zeros((2, 48, 48), np.uint8),
        labels=labels("sad", "happy"),
        splits=np.full(2, 2, np.int8),
        repeated=np.full(2, True),
        votes=np.zeros((2, 10), np.uint8),
    )
    results = evaluate(lambda faces: {"labels": sure("sad", "sad")}, data, ["test"])
    assert set(results["test"]["labels"]) == {"all"}
    assert results["test"]["labels"]["all"].accuracy == 0.5
    with pytest.raises(DataError, match="validation split of this data has no image"):
        evaluate(lambda faces: {"labels": sure("sad", "sad")}, data, ["validation"])
