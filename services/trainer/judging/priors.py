"""Which prior a model starts with: what it answers unless a request says whom it expects."""

from collections.abc import Sequence

from services.trainer.data.dataset import Dataset
from services.trainer.training.metrics import score
from services.trainer.training.predictors import Answers
from shared.answers import BALANCE_STRENGTH, PriorName, default_answer, with_prior
from shared.manifest import DefaultPrior
from shared.scores import Scores


def prior_scores(answers: Answers, part: Dataset, frequencies: Sequence[float]) -> dict[PriorName, Scores]:
    """The scores of the default answer on FER+'s consensus, with each named prior; empty where it is not "people"."""
    name = default_answer(answers)
    agreed = part.consensus >= 0
    if name != "people" or not agreed.any():
        return {}
    right = part.consensus[agreed]
    kinds: tuple[PriorName, ...] = ("natural", "balanced")
    return {
        kind: score(with_prior(answers[name][agreed], kind, frequencies, BALANCE_STRENGTH), right) for kind in kinds
    }


def choose_prior(scores: dict[PriorName, Scores]) -> DefaultPrior:
    """The prior with the highest mean of accuracy and mean recall; natural where there is nothing to choose by."""
    kind: PriorName = max(scores, key=lambda name: scores[name].accuracy + scores[name].mean_recall, default="natural")
    return DefaultPrior(kind=kind)
