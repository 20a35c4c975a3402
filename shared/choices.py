"""What can be asked of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shared.answers import BALANCE_STRENGTH, AnswerName, Prior, PriorName, default_answer, with_prior
from shared.errors import UnknownAnswer, UnusablePrior
from shared.manifest import ModelManifest

Probabilities: TypeAlias = npt.NDArray[np.float32]  # (N, 7), rows sum to 1, in the order of EMOTIONS


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be asked of a model, and what it does unless asked.

    `frequencies` has an entry for each answer: seven natural shares, or None where the manifest has none. The default
    prior is the default answer's; other answers are natural unless asked otherwise.
    """

    frequencies: Mapping[AnswerName, Sequence[float] | None] = field(default_factory=lambda: {"labels": None})
    default_prior: PriorName = "natural"
    strength: float = BALANCE_STRENGTH

    @classmethod
    def of(cls, manifest: ModelManifest) -> "Choices":
        """The choices that a manifest describes."""
        prior = manifest.default_prior
        return cls({name: answer.frequencies for name, answer in manifest.answers.items()}, prior.kind, prior.strength)

    def answer(self, name: AnswerName | None) -> AnswerName:
        """`name`, or the default. Raises UnknownAnswer."""
        if name is not None and name not in self.frequencies:
            raise UnknownAnswer(f"This model has no answer '{name}'; it has {', '.join(self.frequencies)}.")
        return name or default_answer(self.frequencies)

    def weighed(self, probabilities: Probabilities, answer: AnswerName, prior: Prior | None) -> Probabilities:
        """Natural probabilities (N, 7) of `answer` for `prior`, or for the default one. Raises UnusablePrior."""
        if prior is None:
            prior = self.default_prior if answer == default_answer(self.frequencies) else "natural"
        frequencies = self.frequencies[answer]
        if prior == "natural":
            return probabilities
        if frequencies is None:
            raise UnusablePrior(
                f"This model has no natural shares for its answer '{answer}'; only the prior natural works."
            )
        return with_prior(probabilities, prior, frequencies, self.strength)
