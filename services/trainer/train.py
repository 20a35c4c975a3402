"""`train`: a configuration and a data file in, a trained network out; killed at any point, it resumes."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from tqdm import tqdm

from services.trainer.batches import FollowEpoch, TrainingBatches, validation_arrays
from services.trainer.config import OptimizerConfig, TrainConfig
from services.trainer.dataset import Dataset
from services.trainer.errors import TrainingDiverged
from services.trainer.networks import build
from services.trainer.workdir import History, Workdir
from shared.atomic import write_text


def train(config: TrainConfig, data: Dataset, workdir: Path, quiet: bool = False) -> History:
    """Train `config.network` on `data`, from the last whole epoch in `workdir` where there is one.

    Each epoch ends with a validation of the averaged weights, a checkpoint, and the best model kept.
    Returns the history, one record an epoch. Raises WorkdirError when `workdir` is another run's,
    ConfigError for an unknown network, TrainingDiverged when the loss is no longer a number.
    """
    home = Workdir(workdir)
    home.claim(config, data)
    keras.utils.set_random_seed(config.seed)
    batches = TrainingBatches(data.split("train"), config)
    model = build(config.network)
    _compile(model, config, steps_an_epoch=len(batches))
    history = home.restore(model)
    write_text(home.path / "summary.txt", _summary(model))
    epochs = EpochEnd(home, data.split("validation"), history, config)
    if len(history) < config.epochs and not epochs.patience_is_over():
        model.fit(
            batches,
            initial_epoch=len(history),
            epochs=config.epochs,
            shuffle=False,  # the batches shuffle by seed and epoch
            verbose=0,
            callbacks=[FollowEpoch(batches, config.seed), StopOnNaN(), epochs, Progress(quiet)],
        )
    return history


class EpochEnd(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Validates, records, keeps the best model and the checkpoint, and stops when patience is over."""

    def __init__(self, home: Workdir, validation: Dataset, history: History, config: TrainConfig) -> None:
        super().__init__()
        self._home, self._history, self._patience = home, history, config.early_stopping_patience
        self._faces, self._targets = validation_arrays(validation)
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        with averaged_weights(self.model):
            scores = self.model.evaluate(self._faces, self._targets, batch_size=256, verbose=0, return_dict=True)
            logs.update({f"val_{name}": score for name, score in scores.items()})
            seconds = time.perf_counter() - self._started
            best_before = max((record["val_accuracy"] for record in self._history), default=-1.0)
            self._history.append(
                {"epoch": epoch + 1, **{k: float(v) for k, v in logs.items()}, "seconds": round(seconds, 1)}
            )
            if logs["val_accuracy"] > best_before:
                self._home.save_best(self.model)
        # The checkpoint comes last: an epoch counts only when everything that it made is kept.
        self._home.save_epoch(self.model, self._history)
        self.model.stop_training = self.patience_is_over()

    def patience_is_over(self) -> bool:
        """Whether the validation loss has not fallen for as many epochs as the configuration allows."""
        if self._patience is None or not self._history:
            return False
        losses = [record["val_loss"] for record in self._history]
        return len(losses) - 1 - losses.index(min(losses)) >= self._patience


class StopOnNaN(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """Ends the run at the first batch whose loss is no number, before it can become a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]):
            raise TrainingDiverged(
                f"The loss became {logs['loss']} at epoch {self._epoch + 1}, batch {batch + 1}. Epoch {self._epoch} is kept; "
                "try a lower learning_rate in a new --workdir."
            )


class Progress(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """A bar over the whole run with the time left, and a line an epoch that stays."""

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self.params["steps"]
        if not hasattr(self, "_bar"):
            total = steps * self.params["epochs"]
            self._bar = tqdm(
                total=total, initial=epoch * steps, unit="batch", disable=self._quiet, smoothing=0.02, mininterval=1
            )
        self._bar.set_description(f"epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self._bar.set_postfix(loss=f"{logs['loss']:.3f}", accuracy=f"{logs['accuracy']:.3f}", refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        line = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        if not self._quiet:
            self._bar.write(f"epoch {epoch + 1:3d}  {line}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._bar.close()


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """The weights averaged over steps, where the optimizer averages, for as long as the block lasts."""
    if not model.optimizer.use_ema:
        yield
        return
    current = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(current)


def _compile(model: keras.Model, config: TrainConfig, steps_an_epoch: int) -> None:
    optimizer = _optimizer(config.optimizer, config.epochs, steps_an_epoch)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss=keras.losses.CategoricalCrossentropy(), metrics=["accuracy"])


def _optimizer(config: OptimizerConfig, epochs: int, steps_an_epoch: int) -> keras.Optimizer:
    rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
    if config.schedule == "cosine":
        warmup = round(config.warmup_epochs * steps_an_epoch)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=config.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(1, epochs * steps_an_epoch - warmup),
            alpha=1e-3,
        )
    averaging = {"use_ema": True, "ema_momentum": config.ema, "ema_overwrite_frequency": None} if config.ema else {}
    common = {"learning_rate": rate, "weight_decay": config.weight_decay or None, **averaging}
    if config.name == "adam":
        return keras.optimizers.Adam(**common)
    if config.name == "sgd":
        optimizer = keras.optimizers.SGD(momentum=config.momentum, nesterov=True, **common)
    else:
        optimizer = keras.optimizers.AdamW(**common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _summary(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines) + "\n"
