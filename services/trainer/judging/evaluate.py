"""`evaluate`: scores of a run or a model directory, by split, answer and yardstick."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from services.trainer.data.dataset import Dataset, Split
from services.trainer.errors import DataError
from services.trainer.judging.tables import class_table, confusion_table, score_table
from services.trainer.training.metrics import score
from services.trainer.training.predictors import Predict
from shared.answers import AnswerName
from shared.atomic import write_text
from shared.choices import Probabilities
from shared.scores import OWN_YARDSTICK, AnswerScores, Metrics, Scores, Yardstick

METRICS: Final = TypeAdapter(Metrics)


def evaluate(predict: Predict, data: Dataset, splits: Iterable[Split]) -> Metrics:
    """Scores of every answer on each split, by every yardstick that applies to any of its images.

    Raises DataError for a split without images.
    """
    results: Metrics = {}
    for split in splits:
        part = data.split(split)
        if len(part) == 0:
            raise DataError(f"The {split} split of this data has no image.")
        answers = predict(part.pixels)
        results[split] = {name: judge(probabilities, part) for name, probabilities in answers.items()}
    return results


def judge(probabilities: Probabilities, part: Dataset) -> AnswerScores:
    """Scores of probabilities (N, 7) for the images of `part`.

    By FER2013's labels on all images and on those that training did not repeat, and by FER+'s agreed emotion where there
    is one; a yardstick without any image is left out.
    """
    fresh, agreed = ~part.repeated, part.consensus >= 0
    rows: dict[Yardstick, npt.NDArray[np.bool_]] = {
        "all": np.full(len(part), True),
        "without_repeated": fresh,
        "consensus": agreed,
        "consensus_without_repeated": agreed & fresh,
    }
    return {
        yardstick: score(probabilities[chosen], truth(yardstick, part)[chosen])
        for yardstick, chosen in rows.items()
        if chosen.any()
    }


def truth(yardstick: Yardstick, part: Dataset) -> npt.NDArray[np.int8]:
    """(N,) what a yardstick counts as right; -1 where it says nothing."""
    return part.consensus if yardstick.startswith("consensus") else part.labels


def own_rows(answer: AnswerName, part: Dataset) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]]:
    """The rows of `part` on which `answer` is judged, and what is right there: labels, or FER+'s consensus.

    Without any consensus the labels stand in.
    """
    right = truth(OWN_YARDSTICK[answer], part)
    rows = np.flatnonzero(right >= 0)
    return (rows, right[rows]) if len(rows) else (np.arange(len(part)), part.labels)


def own_scores(answer: AnswerName, scores: AnswerScores) -> Scores:
    """The scores of an answer on its own yardstick; on the labels where there are no votes."""
    return scores.get(OWN_YARDSTICK[answer]) or scores["all"]


def write_evaluation(results: Metrics, path: Path, data: Dataset | None = None) -> None:
    """Keep the scores as JSON, and what names the data that they are of."""
    named = {"data": called(data.name, data.sha256)} if data else {}
    write_text(path, json.dumps(named | METRICS.dump_python(results, mode="json"), indent=1) + "\n")


def called(data: str, sha256: str) -> str:
    """A data set by its name and the beginning of its hash, which tell it from every other."""
    return f"{data} {sha256[:8]}"


def as_text(results: Metrics) -> str:
    """The scores for a terminal, then for each split and answer the scores per class and the confusion matrix."""
    parts = [score_table(results).as_text()]
    for split, answers in results.items():
        for answer, yardsticks in answers.items():
            s = own_scores(answer, yardsticks)
            parts.append(f"{split}, {answer}: per class, and the confusion matrix (rows: truth)")
            parts += [class_table(s).as_text(), confusion_table(s).as_text()]
    return "\n\n".join(parts)
