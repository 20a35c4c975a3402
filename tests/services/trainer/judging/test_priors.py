"""The default prior is the one with the better mean of accuracy and mean recall on the raters' consensus."""

from dataclasses import replace

import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.judging.priors import choose_prior, prior_scores
from services.trainer.training.predictors import Answers

ANGRY, HAPPY = 0, 3
SHARES = np.array([0.1, 0, 0, 0.9, 0, 0, 0])


def seen(*emotions: int) -> Dataset:
    """Faces on which ten raters agree: anger or happiness."""
    columns = {ANGRY: VOTE_COLUMNS.index("anger"), HAPPY: VOTE_COLUMNS.index("happiness")}
    votes = np.zeros((len(emotions), 10), np.uint8)
    votes[np.arange(len(emotions)), [columns[emotion] for emotion in emotions]] = 10
    count = len(emotions)
    faces, labels = np.zeros((count, 48, 48), np.uint8), np.array(emotions, np.int8)
    return Dataset(faces, labels, np.ones(count, np.int8), np.zeros(count, np.bool_), votes)


def said(*happy: float) -> Answers:
    """Probabilities of happiness, the rest of anger."""
    rows = np.zeros((len(happy), 7), np.float32)
    rows[:, HAPPY] = happy
    rows[:, ANGRY] = 1 - rows[:, HAPPY]
    return {"labels": rows, "people": rows}


def test_a_rare_emotion_that_is_only_just_missed_asks_for_balance() -> None:
    part = seen(ANGRY, HAPPY, HAPPY)
    scores = prior_scores(said(0.6, 0.9, 0.9), part, SHARES.tolist())
    assert scores[0].accuracy == pytest.approx(2 / 3, abs=1e-4)
    assert scores[0].mean_recall == 0.5
    assert scores[0.5].accuracy == 1
    chosen = choose_prior(scores)
    assert (chosen.kind, chosen.strength) == ("balanced", 0.25)


def test_where_balance_only_costs_the_prior_stays_natural() -> None:
    scores = prior_scores(said(0.1, 0.6, 0.6), seen(ANGRY, HAPPY, HAPPY), SHARES.tolist())
    assert choose_prior(scores).kind == "natural"


def test_without_people_or_votes_there_is_nothing_to_choose_by() -> None:
    answers, part = said(0.6), seen(ANGRY)
    assert prior_scores({"labels": answers["labels"]}, part, SHARES.tolist()) == {}
    assert prior_scores(answers, replace(part, votes=np.zeros((1, 10), np.uint8)), SHARES.tolist()) == {}
    assert choose_prior({}).kind == "natural"
