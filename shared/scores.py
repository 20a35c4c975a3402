"""What is measured of a model, as evaluations and manifests keep it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from shared.answers import AnswerName

Yardstick: TypeAlias = Literal["all", "without_repeated", "consensus", "consensus_without_repeated"]
# What an answer is meant to agree with.
OWN_YARDSTICK: Final[dict[AnswerName, Yardstick]] = {"labels": "all", "people": "consensus"}


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well one emotion is recognized, and how many images show it."""

    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True, slots=True)
class Scores:
    """How right an answer is on some images, and how well its probabilities say so."""

    images: int
    accuracy: float
    macro_f1: float
    mean_recall: float  # over the emotions that the images show
    nll: float
    brier: float
    ece: float
    per_class: dict[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]  # rows are the truth, in model order


# By split ("validation", "test"), answer and yardstick.
AnswerScores: TypeAlias = dict[Yardstick, Scores]
Metrics: TypeAlias = dict[str, dict[AnswerName, AnswerScores]]


@dataclass(frozen=True, slots=True)
class Harms:
    """Accuracy on unchanged images, and under each harm by its strength, the weakest first."""

    images: int
    clean: float
    harms: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Robustness:
    """Accuracy on degraded images of one split, for each answer on its own yardstick."""

    split: str
    answers: dict[AnswerName, Harms]


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with its 95 % interval (bootstrap)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Change:
    """What one change of a photo does to the answer, over photos with a face before and after it."""

    photos: int
    lost: int  # photos whose face is no longer found
    same: float  # share whose top emotion stays
    moved: float  # mean total-variation distance of the probabilities, 0 to 1


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How steady one answer is when photos change slightly, from the photo to the probabilities."""

    answer: AnswerName
    detector: str
    photos: int  # with a face
    changes: dict[str, Change]


@dataclass(frozen=True, slots=True)
class GroupScores:
    """What a model does on the photos of one group of people."""

    photos: int
    without_face: Interval  # share
    confidence: Interval  # mean top probability
    shares: dict[str, Interval]  # of each emotion among the answers
    changed: dict[str, Interval]  # share whose top emotion changes, by change
    accuracy: Interval | None = None  # where the photos have labels of emotion


@dataclass(frozen=True, slots=True)
class Groups:
    """One answer compared between groups of people; `everyone` is all photos together."""

    answer: AnswerName
    detector: str
    data: str
    everyone: GroupScores
    groups: dict[str, dict[str, GroupScores]] = field(default_factory=dict)  # by attribute (gender), then group


def upgraded_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of manifests of format 1, which knew one answer and no mean recall, in today's form; others unchanged."""
    return {
        split: {"labels": {yardstick: _with_mean_recall(scores) for yardstick, scores in found.items()}}
        if "all" in found
        else found
        for split, found in metrics.items()
    }


def _with_mean_recall(scores: Mapping[str, Any]) -> dict[str, Any]:
    recalls = [one["recall"] for one in scores["per_class"].values() if one["images"]]
    return {"mean_recall": round(float(np.mean(recalls)), 5), **scores}
