"""Batches of varied faces. Each is a function of seed, epoch and index alone, so a resumed run sees the same ones."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import Dataset, Targets
from services.trainer.training.augment import mixup, vary
from services.trainer.training.config import TrainConfig
from services.trainer.training.losses import class_weights
from shared.emotions import EMOTIONS
from shared.pipeline.preprocess import to_input

# Two random streams per epoch: the one that varies images must not repeat the one that orders them.
_ORDER: Final = 0
_VARIATION: Final = 1
Teach: TypeAlias = Callable[[npt.NDArray[np.uint8]], Targets]  # (N, 48, 48) -> (N, 7)


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc] # Keras ships no types
    """The training split, reshuffled for each epoch; a last, short batch is left out."""

    def __init__(self, train: Dataset, config: TrainConfig, teach: Teach | None = None) -> None:
        """Raises what `teach` raises; `train` must hold at least one batch. `teach` gives the teachers' predictions."""
        super().__init__(workers=1, use_multiprocessing=False)
        kept = train.part(~train.not_a_face) if config.target.drop_not_a_face else train
        self.epoch = 0
        self._pixels = kept.pixels
        self._targets = kept.targets(config.target.original_weight, config.target.label_smoothing)
        if teach is not None:
            weight = np.float32(config.target.teacher_weight)
            self._targets = (1 - weight) * self._targets + weight * teach(kept.pixels)
        self._config = config
        self._chances = _chances(kept.labels) if config.sampling == "sqrt" else None
        drawn = np.full(len(kept), 1 / len(kept)) if self._chances is None else self._chances
        # How often each class is drawn: losses that weigh classes divide by it.
        self.frequencies = np.bincount(kept.labels, weights=drawn, minlength=len(EMOTIONS)).astype(np.float64)
        self._weights = class_weights(config.loss, self.frequencies)

    def __len__(self) -> int:
        return max(1, len(self._pixels) // self._config.batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], ...]:
        """Faces and targets, plus a weight per image where classes weigh differently."""
        config, size = self._config, self._config.batch_size
        rows = self._order(self.epoch)[index * size : (index + 1) * size]
        rng = np.random.default_rng((config.seed, self.epoch, _VARIATION, index))
        faces = np.stack([vary(face, config.augment, rng) for face in self._pixels[rows]])
        faces, targets = mixup(faces, self._targets[rows], config.augment, rng)
        if self._weights is None:
            return to_input(faces), targets
        return to_input(faces), targets, targets @ self._weights

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        rng, count = np.random.default_rng((self._config.seed, epoch, _ORDER)), len(self._pixels)
        return rng.permutation(count) if self._chances is None else rng.choice(count, count, p=self._chances)


def _chances(labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """The probability of drawing each image, so that a class appears in proportion to the root of its frequency."""
    weights = np.bincount(labels)[labels].astype(np.float64) ** -0.5
    return np.asarray(weights / weights.sum())


class FollowEpoch(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Tells the batches, and the networks' own random layers, which epoch it is."""

    def __init__(self, batches: TrainingBatches, seed: int) -> None:
        super().__init__()
        self._batches, self._seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.epoch = epoch
        for number, layer in enumerate(self.model._flatten_layers()):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                generator.state.assign(np.array([self._seed + number, epoch * 1_000_003], dtype="uint32"))
