"""The two answers of a model, and priors: how often each emotion is expected."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.emotions import EMOTIONS
from shared.errors import UnusablePrior

# people: as FER+'s raters see a face. labels: as FER2013 labels it.
AnswerName: TypeAlias = Literal["people", "labels"]
ANSWERS: Final[tuple[AnswerName, ...]] = ("people", "labels")  # the default is the first that a model has

# natural: as often as where the model was calibrated. balanced: rare emotions get a better chance. Or seven expected
# shares, in model order.
PriorName: TypeAlias = Literal["natural", "balanced"]
Prior: TypeAlias = PriorName | Sequence[float]

# balanced divides by this power of the natural shares; 1 expects disgust as often as happy.
BALANCE_STRENGTH: Final = 0.5
# An emotion without a share cannot be divided by it.
_SMALLEST_SHARE: Final = 1e-4


def default_answer(names: Iterable[AnswerName]) -> AnswerName:
    """The answer that a model gives unless another is asked for: people, where it has that."""
    present = set(names)
    return next(name for name in ANSWERS if name in present)


def with_prior(
    probabilities: npt.NDArray[np.float32], prior: Prior, frequencies: Sequence[float], strength: float
) -> npt.NDArray[np.float32]:
    """Probabilities (N, 7) that expect the emotions to have the shares `frequencies`, for other expected shares.

    `strength` is the power of the frequencies that "balanced" divides by. Raises UnusablePrior when `prior` is
    neither a name nor seven finite shares of at least 0 with a positive sum.
    """
    if prior == "natural":
        return probabilities
    usual = np.maximum(np.asarray(frequencies, np.float64), _SMALLEST_SHARE)
    factors = usual**-strength if prior == "balanced" else expected_shares(prior) / usual
    weighted = probabilities * factors
    total = weighted.sum(axis=1, keepdims=True)
    # All that is expected may have the probability 0: then the expectation is the answer.
    answered = np.where(total > 0, weighted / np.where(total > 0, total, 1), factors * usual)
    return np.asarray(answered / answered.sum(axis=1, keepdims=True), np.float32)


def expected_shares(prior: Prior) -> npt.NDArray[np.float64]:
    """Seven shares that sum to 1. Raises UnusablePrior when `prior` is not seven shares."""
    try:
        shares = np.asarray(prior, np.float64)
    except ValueError as error:
        raise UnusablePrior(f"'{prior}' is not a prior; use natural, balanced or seven shares.") from error
    if shares.shape != (len(EMOTIONS),):
        raise UnusablePrior(f"A prior has {len(EMOTIONS)} shares, in the order {', '.join(EMOTIONS)}.")
    if not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
        raise UnusablePrior("The shares of a prior must be finite, at least 0, and not all 0.")
    return np.asarray(shares / shares.sum())
