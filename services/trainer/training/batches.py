"""Batches of varied faces. Each is a function of seed, epoch and index alone, so a resumed run sees the same ones."""

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import Dataset, Targets, square_root_chances
from services.trainer.data.faces import Faces
from services.trainer.errors import ConfigError
from services.trainer.training.augment import mixup, vary
from services.trainer.training.config import TargetConfig, TrainConfig
from services.trainer.training.losses import class_weights
from services.trainer.training.teachers import Taught
from shared.emotions import EMOTIONS
from shared.pipeline.preprocess import to_input

# Two random streams per epoch: the one that varies images must not repeat the one that orders them.
_ORDER: Final = 0
_VARIATION: Final = 1
_Chances: TypeAlias = npt.NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a run learns from: labeled faces, what teachers say of them, and unlabeled faces that only teachers know."""

    train: Dataset  # the training split
    taught: Taught | None = None
    faces: Faces | None = None


class Batches(Protocol):
    """What training reads: TrainingBatches, or the same made ahead."""

    epoch: int

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """(7,) how often each class is drawn, which is what losses must make up for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, ...]: ...


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc] # Keras ships no types
    """Training faces, reshuffled for each epoch; a last, short batch is left out.

    Where the configuration asks for consistency, the second half of a batch shows the faces of the first half again,
    varied differently.
    """

    def __init__(self, lessons: Lessons, config: TrainConfig) -> None:
        """Raises ConfigError when configuration and lessons do not fit; there must be faces for one batch."""
        super().__init__(workers=1, use_multiprocessing=False)
        self.epoch = 0
        self._config, self._ordered = config, (-1, np.empty(0, np.int64))
        train, taught = lessons.train, lessons.taught
        kept = ~train.not_a_face if config.target.drop_not_a_face else np.full(len(train), True)
        labeled = train.part(kept)
        self._labeled = labeled.pixels
        heads = [config.target] if config.people is None or not train.has_votes else [config.target, config.people]
        self._targets = _targets(labeled, heads, taught.train[kept] if taught else None)
        self._chances = square_root_chances(labeled.labels) if config.sampling == "sqrt" else None
        self._unlabeled, self._unlabeled_chances = np.empty((0, 1, 1), np.uint8), None
        if config.unlabeled_share:
            if lessons.faces is None or taught is None:
                raise ConfigError(
                    "An unlabeled_share above 0 needs --faces, and --taught with what teachers say of them."
                )
            self._unlabeled = lessons.faces.pixels
            self._targets = np.concatenate([self._targets, taught.faces[:, : len(heads)]])
            if self._chances is not None:
                self._unlabeled_chances = square_root_chances(taught.faces[:, -1].argmax(axis=1))
        drawn = np.full(len(labeled), 1 / len(labeled)) if self._chances is None else self._chances
        self.frequencies = np.bincount(labeled.labels, weights=drawn, minlength=len(EMOTIONS)).astype(np.float64)
        self._weights = class_weights(config.loss, self.frequencies)

    def __len__(self) -> int:
        count, share = len(self._labeled), self._config.unlabeled_share
        return max(1, (count + _unlabeled(count, share)) // self._config.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Faces and targets (a tuple where there are two answers), and a weight for each where classes weigh differently."""
        config, views = self._config, 2 if self._config.consistency else 1
        size = config.batch_size // views
        rows = np.tile(self._order(self.epoch)[index * size : (index + 1) * size], views)
        rng = np.random.default_rng((config.seed, self.epoch, _VARIATION, index))
        faces = np.stack([vary(self._face(row), config.augment, rng) for row in rows])
        faces, targets = mixup(faces, self._targets[rows], config.augment, rng, views)
        asked = tuple(targets[:, head] for head in range(targets.shape[1]))
        answers = asked if len(asked) > 1 else asked[0]
        if self._weights is None:
            return to_input(faces), answers
        weights = asked[0] @ self._weights
        return to_input(faces), answers, weights if len(asked) == 1 else (weights, weights)

    def _face(self, row: int) -> npt.NDArray[np.uint8]:
        labeled = len(self._labeled)
        return np.asarray(self._labeled[row] if row < labeled else self._unlabeled[row - labeled])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._ordered[0] != epoch:
            self._ordered = (epoch, self._drawn(np.random.default_rng((self._config.seed, epoch, _ORDER))))
        return self._ordered[1]

    def _drawn(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        count, share = len(self._labeled), self._config.unlabeled_share
        order = rng.permutation(count) if self._chances is None else rng.choice(count, count, p=self._chances)
        if not share:
            return np.asarray(order)
        more = rng.choice(len(self._unlabeled), _unlabeled(count, share), p=self._unlabeled_chances)
        return np.asarray(rng.permutation(np.concatenate([order, count + more])))


def _targets(labeled: Dataset, heads: list[TargetConfig], taught: Targets | None) -> Targets:
    """(N, heads, 7): label, votes and teachers in the proportions of the configuration."""
    asked = []
    for number, head in enumerate(heads):
        own = labeled.targets(head.original_weight, head.label_smoothing)
        weight = np.float32(head.teacher_weight)
        if bool(weight) != (taught is not None):
            raise ConfigError("A teacher_weight above 0 and --taught need each other; only one is given.")
        asked.append(own if taught is None else (1 - weight) * own + weight * taught[:, number])
    return np.stack(asked, axis=1).astype(np.float32)


def _unlabeled(labeled: int, share: float) -> int:
    """How many unlabeled faces join `labeled` ones to be `share` of all."""
    return round(labeled * share / (1 - share))


class FollowEpoch(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Tells the batches, and the networks' own random layers, which epoch it is."""

    def __init__(self, batches: Batches, seed: int) -> None:
        super().__init__()
        self._batches, self._seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch
        for number, layer in enumerate(self.model._flatten_layers()):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                generator.state.assign(np.array([self._seed + number, epoch * 1_000_003], dtype="uint32"))
