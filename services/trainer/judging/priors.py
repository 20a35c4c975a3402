"""Which prior a model starts with: what it answers unless a request says whom it expects."""

from collections.abc import Sequence
from typing import Final

from services.trainer.data.dataset import Dataset
from services.trainer.training.metrics import score
from services.trainer.training.predictors import Answers
from shared.answers import default_answer, with_prior
from shared.manifest import DefaultPrior
from shared.scores import Scores

# Powers of the natural shares to divide by: the first leaves probabilities as they are, the others are "balanced". The
# whole shares make answers unsteady: turn a photo by 12 degrees, and one answer in six changes instead of one in thirteen.
STRENGTHS: Final = (0.0, 0.25, 0.5, 0.75)


def prior_scores(answers: Answers, part: Dataset, frequencies: Sequence[float]) -> dict[float, Scores]:
    """The scores of the default answer on FER+'s consensus by strength; empty where the answer is not "people"."""
    name = default_answer(answers)
    agreed = part.consensus >= 0
    if name != "people" or not agreed.any():
        return {}
    said, right = answers[name][agreed], part.consensus[agreed]
    return {strength: score(with_prior(said, "balanced", frequencies, strength), right) for strength in STRENGTHS}


def choose_prior(scores: dict[float, Scores]) -> DefaultPrior:
    """The strength with the highest mean of accuracy and mean recall; natural where there is nothing to choose by."""
    best = max(scores, key=lambda strength: scores[strength].accuracy + scores[strength].mean_recall, default=0.0)
    return DefaultPrior(kind="balanced", strength=best) if best else DefaultPrior(kind="natural")
